"""Unbroken clips of one person, smoothed: joints in space, rotations on SO(3).

In this order: frames in which the person was not seen are put between those around them, so that they do not pull;
joints that leap and return are replaced in the same way; the rest is filtered.

Rotations are unit quaternions whose signs are continuous, filtered as four numbers and normalised. A turn of the world
or of a bone is a linear map of quaternions, which changes places with a linear filter, so the result does not depend on
any axes, there is no angle at which it jumps, and a turn at constant speed stays what it is. For small angles this is
the filter of the rotation vectors.

Shape letters: F frames, J joints, K joints of the kinematic tree, N hypotheses.
"""

from typing import NamedTuple

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float

from noise2pose.motion.filters import BETA, Filter
from noise2pose.motion.outliers import bridge, leaps

_LEAP = 0.1  # metres at least
_LEAP_ANGLE = np.radians(25.0)
_LEVER = 0.4  # metres of a limb, by which a turn of 1 rad/s moves its end


class SmoothJoints(NamedTuple):
    """Smoothed joints.

    Attributes:
        joints: (F, J, 3) metres.
        uncertainty: (F, J) metres, or None. It says how wrong a frame may be. Neighbouring frames are mostly wrong in
            the same direction, so smoothing does not make it smaller; a replaced joint has that of its neighbours.
        hypotheses: (F, N, J, 3) metres, or None; moved with the joints, so that their spread stays.
        outliers: joints of single frames that leapt.
    """

    joints: Float[np.ndarray, "F J 3"]
    uncertainty: Float[np.ndarray, "F J"] | None
    hypotheses: Float[np.ndarray, "F N J 3"] | None
    outliers: int


def smooth_joints(
    filter_: Filter,
    joints: Float[np.ndarray, "F J 3"],
    times: Float[np.ndarray, " F"],
    seen: Bool[np.ndarray, " F"],
    uncertainty: Float[np.ndarray, "F J"] | None = None,
    hypotheses: Float[np.ndarray, "F N J 3"] | None = None,
) -> SmoothJoints:
    """Smooths a clip of joints.

    Args:
        filter_: of `filters`.
        joints: metres.
        times: seconds, ascending.
        seen: frames in which the person was detected.
        uncertainty: one standard deviation, metres.
        hypotheses: whose mean the joints are.
    """
    good = np.repeat(seen[:, None], joints.shape[1], axis=1)
    leapt = leaps(bridge(joints, good, times), times, _distance, _LEAP) & good
    kept = good & ~leapt
    clean = bridge(joints, kept, times)
    smooth = filter_(clean, times)
    moved = (smooth - clean).astype(joints.dtype)
    if hypotheses is not None:
        of_joint = bridge(hypotheses.swapaxes(1, 2), kept, times)  # (F, J, N, 3)
        hypotheses = of_joint.swapaxes(1, 2) + moved[:, None]
    uncertainty = None if uncertainty is None else bridge(uncertainty, kept, times)
    return SmoothJoints(smooth.astype(joints.dtype), uncertainty, hypotheses, int(leapt.sum()))


def smooth_rotations(
    filter_: Filter,
    rotations: Float[np.ndarray, "F K 3 3"],
    times: Float[np.ndarray, " F"],
    seen: Bool[np.ndarray, " F"],
) -> tuple[Float[np.ndarray, "F K 3 3"], int]:
    """Smooths rotations, each joint on its own; also tells how many leapt.

    Args:
        filter_, times, seen: as of `smooth_joints`.
        rotations: of each joint.
    """
    quaternions = roma.rotmat_to_unitquat(torch.from_numpy(rotations.copy()).double()).numpy()
    good = np.repeat(seen[:, None], rotations.shape[1], axis=1)
    leapt = leaps(_bridged(quaternions, good, times), times, _angle, _LEAP_ANGLE) & good
    clean = _bridged(quaternions, good & ~leapt, times)
    beta = BETA * _LEVER * 2.0  # a turn of 1 rad/s moves a unit quaternion by 1/2 a second
    smooth = torch.from_numpy(_unit(filter_(clean, times, beta)))
    return roma.unitquat_to_rotmat(smooth).numpy().astype(rotations.dtype), int(leapt.sum())


def _bridged(quaternions: np.ndarray, good: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(F, K, 4) unit quaternions of continuous signs; those that are not good lie between their neighbours."""
    frames = np.where(good, np.arange(len(good))[:, None], good.argmax(axis=0))
    held = np.take_along_axis(quaternions, np.maximum.accumulate(frames, axis=0)[..., None], axis=0)
    turns = np.where((held[1:] * held[:-1]).sum(axis=-1, keepdims=True) < 0.0, -1.0, 1.0)
    held[1:] *= np.cumprod(turns, axis=0)
    return _unit(bridge(held, good, times))


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True).clip(1e-12)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=-1)


def _angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Radians between two rotations."""
    return 2.0 * np.arccos(np.abs((a * b).sum(axis=-1)).clip(max=1.0))
