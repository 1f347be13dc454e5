"""Answers in a levelled frame: turned upright as drawings are, and for bodies with the floor at y = 0.

Shape letters: T poses.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import roma
import torch

from methods.inference.motions import record_of
from methods.inference.smoothing import clips_of
from noise2pose import skeletons
from noise2pose.annotation.layout import SKELETON, cameras_of, levels_of
from noise2pose.bodies import BodyModel
from noise2pose.keypoints.arrays import counted
from noise2pose.motion.ground import NEAR, SLOW, floor_height, held, resting_feet, slow_feet
from noise2pose.rendering.levelling import Levels

if TYPE_CHECKING:
    from methods.inference.results import LiftedPoses

LEVELLED = "levelled by estimate: x right, y down along gravity, z forward"


def levelled_poses(poses: "LiftedPoses") -> "LiftedPoses":
    """The poses of a lifter, turned so that y is straight down; the rotations are kept as `from_camera`."""
    rotation = poses.levels.rotation
    hypotheses = poses.hypotheses
    if hypotheses is not None:
        hypotheses = np.einsum("txy,tnjy->tnjx", rotation, hypotheses).astype(hypotheses.dtype)
    return replace(
        poses,
        joints_3d=np.einsum("txy,tjy->tjx", rotation, poses.joints_3d).astype(poses.joints_3d.dtype),
        hypotheses=hypotheses,
        levels=Levels(np.repeat(np.eye(3, dtype=np.float32)[None], len(poses), axis=0), poses.levels.about),
        frame=f"{LEVELLED}; relative to the pelvis",
        from_camera=rotation,
        about=f"{poses.about}; written in the levelled frame, whose vertical is an estimate",
    )


def level_bodies(
    arrays: Mapping[str, np.ndarray], body: BodyModel, fps: float | None, camera_pitch: float | None
) -> tuple[dict[str, np.ndarray], str]:
    """The bodies in a levelled frame below their camera, with the floor at y = 0; also what was found, in words.

    Args:
        arrays: of `noise2pose.annotation.layout.ARRAYS`.
        body: whose parameters they are.
        fps: frames of the video in a second; None where it is unknown.
        camera_pitch: as of `levels_of`.

    Returns:
        The arrays of `noise2pose.annotation.layout.LEVELLED`.
    """
    found = feet_of(arrays, fps, camera_pitch)
    rotation, shift, resting, floors = found.rotation, found.shift, found.resting, found.floors
    joints = np.einsum("txy,tjy->tjx", rotation, arrays["joints_3d"])
    vectors = torch.from_numpy(arrays["poses"]).unflatten(-1, (-1, 3))
    turned = torch.from_numpy(rotation) @ roma.rotvec_to_rotmat(vectors[:, 0])
    poses = torch.cat((roma.rotmat_to_rotvec(turned)[:, None], vectors[:, 1:]), dim=1).flatten(1)
    # The root turns about its joint, which lies beside the origin of the unposed body.
    root = body.rest_joints(torch.from_numpy(arrays["betas"]).to(body.template))[:, 0].cpu().numpy()
    trans = np.einsum("txy,ty->tx", rotation, root + arrays["trans"]) - root + shift
    levelled = {
        "levelled_poses": poses.numpy(),
        "levelled_trans": trans,
        "levelled_joints_3d": joints + shift[:, None],
        "level_translation": shift,
        "resting_feet": resting,
    }
    return levelled, _in_words(floors, int(resting.sum()), resting.size)


class Feet(NamedTuple):
    """Where people stand.

    Attributes:
        rotation: (T, 3, 3) to the levelled frame.
        shift: (T, 3) metres that bring the floor to y = 0 then.
        resting: (T, 2) left and right feet that rest.
        floors: y of the floor of each camera, below it.
    """

    rotation: np.ndarray
    shift: np.ndarray
    resting: np.ndarray
    floors: list[float]


def feet_of(arrays: Mapping[str, np.ndarray], fps: float | None, camera_pitch: float | None) -> Feet:
    """Floors and the feet that rest on them; arguments as of `level_bodies`."""
    rotation = levels_of(arrays, camera_pitch).rotation
    skeleton = skeletons.get(SKELETON)
    chosen = [skeleton.index("left_ankle"), skeleton.index("right_ankle")]
    ankles = np.einsum("txy,tjy->tjx", rotation, arrays["joints_3d"][:, chosen])
    finite = np.isfinite(ankles).all(axis=(1, 2))
    slow, steady = np.zeros(ankles.shape[:2], dtype=bool), np.array(ankles)
    for clip in clips_of(record_of(arrays, fps)) if len(ankles) else ():
        slow[clip.rows] = slow_feet(ankles[clip.rows], np.array(clip.times)) & finite[clip.rows][:, None]
        steady[clip.rows] = held(ankles[clip.rows], slow[clip.rows])
    shift, resting, floors = np.zeros((len(ankles), 3), dtype=np.float32), np.zeros_like(slow), []
    rows_of: dict[str, list[int]] = {}
    for row, camera in enumerate(cameras_of(arrays)):
        if finite[row]:
            rows_of.setdefault(camera, []).append(row)
    for rows in rows_of.values():
        floors.append(floor_height(steady[rows], slow[rows]))
        shift[rows, 1] = -floors[-1]
        resting[rows] = resting_feet(steady[rows], slow[rows], floors[-1])
    return Feet(rotation, shift, resting, floors)


def _in_words(floors: list[float], resting: int, feet: int) -> str:
    if not floors:
        return "not levelled: there is nobody"
    where = f"the floor {floors[0]:.2f} m below the camera" if len(floors) == 1 else counted(len(floors), "floor")
    rest = f"{resting} of {counted(feet, 'foot', 'feet')} rest (slower than {SLOW:g} m/s, at most {NEAR:g} m above it)"
    return f"levelled by estimate with {where}; {rest}"
