"""npz files with the keys of AMASS, one a person, as SMPL's add-on for Blender and motion libraries read them.

Keys (https://amass.is.tue.mpg.de, F frames): `poses` (F, 72) axis-angle in radians, root first; `trans` (F, 3) metres;
`betas` (10,) or more; `gender`; `mocap_framerate`. As in AMASS's files z is up, right-handed: x right, y away from the
camera. Beside them: `joints` (F, J, 3) metres in the same axes with `joint_names`, `frames` (F,), `measured` (F,) False
for interpolated frames, `person`, `body`, `axes` and `level` in words, and where they are known `uncertainty` (F, J),
`hypotheses` (F, N, J, 3) and `keypoints_2d` (F, J, 3) in pixels and confidence. A method that answers with joints alone
has no `poses`, `trans` and `betas`.
"""

from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from noise2pose.export.motion import Motion
from noise2pose.files import write_npz


def write_motion_npz(path: Path, motion: Motion) -> None:
    """Writes one person, whole or not at all; missing frames are interpolated (`Motion.consecutive`).

    Args:
        path: file.
        motion: one person.

    Raises:
        InputError: if the file cannot be written.
    """
    motion = motion.consecutive()
    world = motion.to_z_up
    known = {"uncertainty": motion.uncertainty, "keypoints_2d": motion.keypoints_2d}
    if motion.hypotheses is not None:
        known["hypotheses"] = (motion.hypotheses @ world.T).astype(np.float32)
    arrays = {key: value for key, value in known.items() if value is not None}
    if motion.body is not None:
        arrays |= _body_arrays(motion)
    assert motion.measured is not None
    write_npz(
        path,
        **arrays,
        joints=(motion.joints @ world.T).astype(np.float32),
        joint_names=np.array(motion.skeleton.joints),
        mocap_framerate=np.array(motion.rate),
        frames=motion.frames,
        measured=motion.measured,
        person=np.array(motion.name),
        axes=np.array(f"metres; x right, y away from the camera, z up; origin: {motion.origin}"),
        level=np.array(motion.level_about),
    )


def _body_arrays(motion: Motion) -> dict[str, np.ndarray]:
    """The keys of AMASS. The root turns about its joint, which lies beside the origin of the unposed body."""
    body = motion.body
    assert body is not None
    model, world = body.model, motion.to_z_up
    rotations = body.rotations.astype(np.float64)
    rotations[:, 0] = world @ rotations[:, 0]
    root = model.rest_joints(torch.from_numpy(body.betas).to(model.template))[0].cpu().double().numpy()
    vectors = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_rotvec().reshape(len(motion), -1)
    return {
        "poses": vectors.astype(np.float32),
        "trans": ((root + body.translation) @ world.T - root).astype(np.float32),
        "betas": body.betas,
        "gender": np.array(model.gender),
        "body": np.array(model.model_type),
    }
