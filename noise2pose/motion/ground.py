"""Feet that rest, and the floor that they rest on: estimates from the ankles of predicted poses.

Levelled frames have y straight down, so that a larger y is lower.

Shape letters: F frames, T poses.
"""

import numpy as np
from jaxtyping import Bool, Float

ANKLE = 0.08  # metres from the sole to the centre of the ankle
SLOW = 0.3  # m/s; ankles of people who walk swing at 2 to 4 m/s
NEAR = 0.12  # metres over the height of ankles that stand on the floor
_LOWEST = 90.0  # percentile: a few joints below the floor are mistakes


def slow_feet(ankles: Float[np.ndarray, "F 2 3"], times: Float[np.ndarray, " F"]) -> Bool[np.ndarray, "F 2"]:
    """Which ankles of a clip hardly move, by the difference of the frames before and after.

    Args:
        ankles: metres, in a frame in which the floor is at rest.
        times: seconds, ascending.
    """
    if len(times) < 2:
        return np.zeros(ankles.shape[:2], dtype=bool)
    velocity = np.gradient(ankles.astype(np.float64), times, axis=0)
    return np.linalg.norm(velocity, axis=-1) < SLOW


def floor_height(ankles: Float[np.ndarray, "T 2 3"], slow: Bool[np.ndarray, "T 2"]) -> float:
    """The y of the floor in a levelled frame, metres: below the ankles that are slow, or below all if none is.

    Args:
        ankles: of all people on one floor.
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
