"""Feet that rest, and the floor that they rest on: estimates from the ankles of predicted poses.

Levelled frames have y straight down, so that a larger y is lower.

Shape letters: F frames, T poses.
"""

import numpy as np
from jaxtyping import Bool, Float

from noise2pose.motion.feet import rests_of

ANKLE = 0.08  # metres from the sole to the centre of the ankle
SLOW = 0.3  # m/s; ankles of people who walk swing at 2 to 4 m/s
NEAR = 0.12  # metres over the height of ankles that stand on the floor
_ALONG = 1.0 / 3.0  # what speed along the line of sight counts
_LOWEST = 90.0  # percentile: a few joints below the floor are mistakes


def slow_feet(ankles: Float[np.ndarray, "F 2 3"], times: Float[np.ndarray, " F"]) -> Bool[np.ndarray, "F 2"]:
    """Which ankles of a clip hardly move, by the difference of the frames before and after.

    Motion along the line of sight counts a third: a single camera sees little of it, and the depth that a body is given
    changes with its pose by decimetres. Who walks towards a camera above the floor moves across its sight, too.

    Args:
        ankles: metres, with the camera, which is at rest, at the origin.
        times: seconds, ascending.
    """
    if len(times) < 2:
        return np.zeros(ankles.shape[:2], dtype=bool)
    velocity = np.gradient(ankles.astype(np.float64), times, axis=0)
    sight = ankles / np.maximum(np.linalg.norm(ankles, axis=-1, keepdims=True), 1e-9)
    along = (velocity * sight).sum(axis=-1)
    return (velocity**2).sum(axis=-1) - (1.0 - _ALONG**2) * along**2 < SLOW**2


def held(ankles: Float[np.ndarray, "F 2 3"], slow: Bool[np.ndarray, "F 2"]) -> Float[np.ndarray, "F 2 3"]:
    """The ankles of a clip with those of each unbroken slow stretch at their median.

    An error of the depth of a foot is one of its height, too, since its line of sight is known. The median of a stretch
    in which the foot stays where it is has less of it than any frame.

    Args:
        ankles, slow: as of `slow_feet`.
    """
    steady = np.array(ankles)
    for foot in range(2):
        for rest in rests_of(slow[:, foot]):
            steady[rest, foot] = np.median(ankles[rest, foot], axis=0)
    return steady


def floor_height(ankles: Float[np.ndarray, "T 2 3"], slow: Bool[np.ndarray, "T 2"]) -> float:
    """The y of the floor in a levelled frame, metres: below the ankles that are slow, or below all if none is.

    Args:
        ankles: of all people on one floor, of `held`.
        slow: of `slow_feet`.
    """
    heights = ankles[..., 1]
    return float(np.percentile(heights[slow] if slow.any() else heights, _LOWEST)) + ANKLE


def resting_feet(
    ankles: Float[np.ndarray, "T 2 3"], slow: Bool[np.ndarray, "T 2"], floor: float
) -> Bool[np.ndarray, "T 2"]:
    """Which feet stand still on the floor.

    Args:
        ankles, slow: as of `floor_height`.
        floor: its y.
    """
    return slow & (floor - ankles[..., 1] < ANKLE + NEAR)
