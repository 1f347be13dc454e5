"""Joints that leap away for a few frames and return, and values between the frames around them.

Shape letters: F frames, J joints, C coordinates.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from noise2pose.motion.filters import frame_rate

_WINDOW = 0.15  # seconds before and after a frame that it is compared with: longer than leaps last, at most half of it
_COMPARED = 5  # frames at most of each side
_TIMES_FARTHER = 4.0  # than the frames around are from theirs
Apart = Callable[[np.ndarray, np.ndarray], np.ndarray]


def leaps(
    values: Float[np.ndarray, "F J C"], times: Float[np.ndarray, " F"], apart: Apart, at_least: float
) -> Bool[np.ndarray, "F J"]:
    """The joints of single frames that are far from where they are before and after.

    It is Hampel's test with distances, so that no axes matter: how far a joint is from itself in the frames around, on
    median, against how far it is in these frames from where it is around them, on median. A motion of any speed that
    goes on, begins or turns moves both.

    Args:
        values: of each joint, such as its place or its rotation.
        times: seconds, ascending.
        apart: distances of two such arrays, (F, J).
        at_least: distance below which nothing is a leap.
    """
    number = len(values)
    if number < 5:
        return np.zeros(values.shape[:2], dtype=bool)
    half = min(max(2.0, _WINDOW * frame_rate(times)), (number - 1) / 2.0)
    offsets = np.unique(np.linspace(1.0, half, _COMPARED).round().astype(int))
    here = np.arange(number)
    around = [_inside(here, offset, number) for offset in (*offsets, *-offsets)]
    distance = np.median([apart(values, values[rows]) for rows in around], axis=0)
    usual = np.median([distance[rows] for rows in around], axis=0)
    return distance > np.maximum(at_least, _TIMES_FARTHER * usual)


def bridge(
    values: Float[np.ndarray, "F J *rest"], good: Bool[np.ndarray, "F J"], times: Float[np.ndarray, " F"]
) -> Float[np.ndarray, "F J *rest"]:
    """The values with those that are not good replaced by what lies between their good neighbours in time.

    Before the first and after the last good frame, and nowhere where no frame is good, it is the nearest one.

    Args:
        values: of each joint.
        good: of each joint in each frame; a joint that is never good is left as it is.
        times: seconds, ascending.
    """
    replaced = np.array(values)
    for joint in np.flatnonzero(~good.all(axis=0) & good.any(axis=0)):
        kept = good[:, joint]
        columns = replaced[kept, joint].reshape(kept.sum(), -1).T
        between = np.stack([np.interp(times[~kept], times[kept], column) for column in columns], axis=1)
        replaced[~kept, joint] = between.reshape(-1, *values.shape[2:])
    return replaced


def _inside(here: np.ndarray, offset: int, number: int) -> np.ndarray:
    """The frames at an offset; those on the other side where the clip has none."""
    there = here + offset
    return np.where((there < 0) | (there >= number), here - offset, there).clip(0, number - 1)
