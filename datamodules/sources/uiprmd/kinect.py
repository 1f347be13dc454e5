"""The skeletons of UI-PRMD's Kinect v2: forward kinematics of its files, and the Vicon pose of the same moment.

Shape letters: F frames, S joints of the sensor.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

JOINTS = (
    *("waist", "spine", "chest", "neck", "head", "head_tip"),
    *("left_collar", "left_upper_arm", "left_forearm", "left_hand"),
    *("right_collar", "right_upper_arm", "right_forearm", "right_hand"),
    *("left_upper_leg", "left_lower_leg", "left_foot", "left_toes"),
    *("right_upper_leg", "right_lower_leg", "right_foot", "right_toes"),
)
FPS = 30.0
VICON_FPS = 100.0
_PARENTS = (-1, 0, 1, 2, 3, 4, 2, 6, 7, 8, 2, 10, 11, 12, 0, 14, 15, 16, 0, 18, 19, 20)
# The joint of the sensor for each Human3.6M-17 joint.
_H36M = (0, 18, 19, 20, 14, 15, 16, 1, 3, 4, 5, 7, 8, 9, 11, 12, 13)
_LIMBS = (1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16)  # joints whose definitions differ least
_LONGEST_SHIFT = 0.6  # seconds
_FEWEST_FRAMES = 15


def joints_of_kinect(positions: Float[np.ndarray, "F S 3"], angles: Float[np.ndarray, "F S 3"]) -> np.ndarray:
    """(F, 17, 3) Human3.6M-17 joints in metres, z up, in the room of the sensor.

    A joint lies at `positions` in the frame of its parent, and its own frame is turned by Rz Rx Ry from its parent's.

    Args:
        positions: centimetres, y up; the first joint's is in the room.
        angles: degrees about x, y and z.
    """
    places = np.empty(positions.shape)
    turned: list[Rotation] = []
    for joint, parent in enumerate(_PARENTS):
        own = Rotation.from_euler("ZXY", angles[:, joint][:, [2, 0, 1]], degrees=True)
        turned.append(own if parent < 0 else turned[parent] * own)
        here = positions[:, joint]
        places[:, joint] = here if parent < 0 else places[:, parent] + turned[parent].apply(here)
    x, y, z = np.moveaxis(places[:, _H36M] / 100.0, -1, 0)
    return np.stack([x, -z, y], axis=-1)


class Pairs(NamedTuple):
    """Both skeletons at the same moments, in the world of the Vicon.

    Attributes:
        sensor: (F, 17, 3) of the Kinect, put on the Vicon's by one rotation and translation for the clip, metres.
        truth: (F, 17, 3) of the Vicon, metres.
        shift: by which the Vicon's clock is ahead, seconds.
        error: mean distance of the limb joints, metres.
    """

    sensor: np.ndarray
    truth: np.ndarray
    shift: float
    error: float


def pair(sensor: Float[np.ndarray, "F 17 3"], truth: Float[np.ndarray, "T 17 3"]) -> Pairs | None:
    """The Vicon's pose at each frame of the Kinect.

    The two were cut into repetitions by hand and have no common clock. Of all shifts up to 0.6 seconds, with the same
    speed and with equal lengths, the one after which a rotation and a translation fit best is taken.

    Args:
        sensor: at 30 Hz.
        truth: T frames at 100 Hz, NaN where it is not known.

    Returns:
        None if they have too little in common.
    """
    time = np.arange(len(sensor)) / FPS
    lasts = (len(truth) - 1) / VICON_FPS
    equal_lengths = lasts / time[-1] if len(sensor) > 1 else 1.0
    best: Pairs | None = None
    for speed in (1.0, equal_lengths) if 0.8 < equal_lengths < 1.25 else (1.0,):
        for shift in np.arange(-_LONGEST_SHIFT, _LONGEST_SHIFT + 1e-6, 1.0 / FPS):
            moments = speed * time + shift
            within = (moments >= 0.0) & (moments <= lasts)
            at = _interpolate(truth, moments[within] * VICON_FPS)
            known = np.isfinite(at).all(axis=(1, 2))
            if known.sum() < max(_FEWEST_FRAMES, 0.6 * len(sensor)):
                continue
            moved = _fit(sensor[within][known], at[known])
            error = distance(moved, at[known])
            if best is None or error < best.error:
                best = Pairs(moved, at[known], float(shift), error)
    return best


def distance(sensor: Float[np.ndarray, "F 17 3"], truth: Float[np.ndarray, "F 17 3"]) -> float:
    """Mean distance of the limb joints."""
    return float(np.linalg.norm(sensor - truth, axis=-1)[:, _LIMBS].mean())


def _interpolate(values: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Between the two nearest frames."""
    before = np.clip(np.floor(frames).astype(int), 0, len(values) - 2)
    share = (frames - before)[:, None, None]
    return (1.0 - share) * values[before] + share * values[before + 1]


def _fit(points: Float[np.ndarray, "F 17 3"], targets: Float[np.ndarray, "F 17 3"]) -> np.ndarray:
    """The points after the rotation and translation that bring their limb joints closest to the targets'."""
    a, b = points[:, _LIMBS].reshape(-1, 3), targets[:, _LIMBS].reshape(-1, 3)
    rotation = Rotation.align_vectors(b - b.mean(axis=0), a - a.mean(axis=0))[0]
    return rotation.apply((points - a.mean(axis=0)).reshape(-1, 3)).reshape(points.shape) + b.mean(axis=0)
