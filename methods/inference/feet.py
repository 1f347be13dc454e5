"""Bodies of a video whose feet stay where they rest (`noise2pose.motion.feet`).

Shape letters: F frames of a clip.
"""

from collections.abc import Mapping

import numpy as np
import roma
import torch

from methods.inference.levels import feet_of
from methods.inference.motions import record_of
from methods.inference.smoothing import clips_of, recompute
from noise2pose import skeletons
from noise2pose.annotation.layout import SKELETON
from noise2pose.bodies import BodyModel
from noise2pose.keypoints.arrays import counted
from noise2pose.motion.feet import bend_leg, correction, rests_of, shift_of, slide

_LEGS = ((1, 4, 7), (2, 5, 8))  # hip, knee and ankle of SMPL's left and right leg
_FRAMES_AT_ONCE = 512


@torch.no_grad()
def lock_feet(
    arrays: Mapping[str, np.ndarray], body: BodyModel, fps: float | None, camera_pitch: float | None
) -> tuple[dict[str, np.ndarray], str]:
    """Holds the feet of everybody in motion where they rest; also what that did, in words.

    Args:
        arrays: of `noise2pose.annotation.layout.ARRAYS`.
        body: whose parameters they are.
        fps: frames of the video in a second; None where it is unknown.
        camera_pitch: as of `levels_of`, which tells the floor.
    """
    locked = {key: np.array(value) for key, value in arrays.items()}
    resting = feet_of(arrays, fps, camera_pitch).resting
    skeleton = skeletons.get(SKELETON)
    ankles = [skeleton.index("left_ankle"), skeleton.index("right_ankle")]
    rests, paths, seconds = 0, np.zeros(2), 0.0
    for clip in clips_of(record_of(arrays, fps)) if len(arrays["names"]) else ():
        rows, times = np.array(clip.rows), np.array(clip.times)
        rest = resting[rows]
        number = sum(len(rests_of(rest[:, foot])) for foot in range(2))
        if not number:
            continue
        before, lasted = slide(locked["joints_3d"][rows][:, ankles], rest, times)
        _hold(locked, body, rows, rest, times)
        recompute(locked, body, [rows])
        after, _ = slide(locked["joints_3d"][rows][:, ankles], rest, times)
        rests, paths, seconds = rests + number, paths + (before, after), seconds + lasted
    if not rests:
        return locked, "no foot rests, so none is locked"
    old, new = 100.0 * paths / max(seconds, 1e-9)
    errors = [np.nanmean(each["reprojection_after"]) for each in (arrays, locked)]
    return locked, (
        f"feet locked in {counted(rests, 'rest')}: their ankles slid {old:.1f} -> {new:.1f} cm/s, mean reprojection "
        f"error {errors[0]:.1f} -> {errors[1]:.1f} pixels"
    )


def _hold(
    arrays: dict[str, np.ndarray], body: BodyModel, rows: np.ndarray, resting: np.ndarray, times: np.ndarray
) -> None:
    """Moves and bends one person's body."""
    turns = roma.rotvec_to_rotmat(torch.from_numpy(arrays["poses"][rows]).double().unflatten(-1, (-1, 3)))
    joints = np.concatenate(
        [_joints(arrays, body, rows[start : start + _FRAMES_AT_ONCE]) for start in range(0, len(rows), _FRAMES_AT_ONCE)]
    )
    wanted = correction(joints[:, [leg[2] for leg in _LEGS]], resting, times)
    shift = shift_of(wanted)
    moved = torch.from_numpy(joints + shift[:, None])
    for foot, (hip, knee, ankle) in enumerate(_LEGS):
        rest = torch.from_numpy(wanted.offset[:, foot] - wanted.weight[:, foot, None] * shift)
        thigh = turns[:, 0] @ turns[:, hip]
        shank = thigh @ turns[:, knee]
        sole = shank @ turns[:, ankle]
        turn_thigh, turn_shank = bend_leg(
            moved[:, hip], moved[:, knee], moved[:, ankle], moved[:, ankle] + rest, thigh[..., 2]
        )
        # A leg that is free in a frame stays as it is, to the last bit.
        free = torch.from_numpy(wanted.weight[:, foot] == 0.0)[:, None, None]
        new_thigh = torch.where(free, thigh, turn_thigh @ thigh)
        new_shank = torch.where(free, shank, turn_shank @ shank)
        turns[:, hip] = torch.where(free, turns[:, hip], turns[:, 0].mT @ new_thigh)
        turns[:, knee] = torch.where(free, turns[:, knee], new_thigh.mT @ new_shank)
        turns[:, ankle] = torch.where(free, turns[:, ankle], new_shank.mT @ sole)
    arrays["poses"][rows] = roma.rotmat_to_rotvec(turns).flatten(1).numpy()
    arrays["trans"][rows] += shift.astype(np.float32)


def _joints(arrays: Mapping[str, np.ndarray], body: BodyModel, rows: np.ndarray) -> np.ndarray:
    """Joints of the kinematic tree, metres in the camera frame."""
    turns = roma.rotvec_to_rotmat(torch.from_numpy(arrays["poses"][rows]).unflatten(-1, (-1, 3))).to(body.template)
    betas, trans = (torch.from_numpy(arrays[key][rows]).to(body.template) for key in ("betas", "trans"))
    found = body.joints(turns[:, 0], turns[:, 1:], betas, trans, regressor=body.regressors[0])
    return found.cpu().double().numpy()
