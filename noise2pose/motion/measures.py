"""How smooth a motion is, and how late a smoothed one.

Shape letters: F frames, J joints.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from noise2pose.keypoints.arrays import counted
from noise2pose.motion.filters import Filter, frame_rate

_LONGEST_LAG = 0.5  # seconds


class Smoothness(NamedTuple):
    """What smoothing did to one clip.

    Attributes:
        frames: their number.
        rate: frames in a second.
        outliers: joints of single frames that were replaced.
        before, after: mean acceleration of the joints, m/s^2.
        lag: seconds that the smoothed motion is late.
        unchanged: whether the frame rate holds no frequency that the filter removes.
    """

    frames: int
    rate: float
    outliers: int
    before: float
    after: float
    lag: float
    unchanged: bool


def smoothness(
    before: Float[np.ndarray, "F J 3"],
    after: Float[np.ndarray, "F J 3"],
    times: Float[np.ndarray, " F"],
    outliers: int,
    unchanged: bool,
) -> Smoothness:
    """Compares the joints of a clip of at least two frames before and after.

    Args:
        before, after: metres.
        times: seconds, ascending.
        outliers, unchanged: as of `Smoothness`.
    """
    late, rate = lag(before, after, times), frame_rate(times)
    return Smoothness(
        len(times), rate, outliers, acceleration(before, times), acceleration(after, times), late, unchanged
    )


def acceleration(joints: Float[np.ndarray, "F J 3"], times: Float[np.ndarray, " F"]) -> float:
    """Mean length of the acceleration vectors, m/s^2, from differences of three frames; 0 for fewer."""
    if len(times) < 3:
        return 0.0
    step = np.diff(times)[:, None, None]
    velocity = np.diff(joints.astype(np.float64), axis=0) / step
    return float(np.linalg.norm(2.0 * np.diff(velocity, axis=0) / (step[1:] + step[:-1]), axis=-1).mean())


def lag(before: Float[np.ndarray, "F J 3"], after: Float[np.ndarray, "F J 3"], times: Float[np.ndarray, " F"]) -> float:
    """Seconds by which `after` has to be moved to fit `before` best; 0 if nobody moves.

    The mean squared distance is computed for whole frames, where they overlap, and its minimum is that of a parabola
    through three frames. It is the maximum of the cross-correlation, without its bias at the ends of a clip.
    """
    rate = frame_rate(times)
    most = min(int(_LONGEST_LAG * rate), len(times) // 2)
    if most < 1 or np.ptp(before, axis=0).max() < 1e-6:
        return 0.0
    errors = np.array([_apart(before, after, shift) for shift in range(-most, most + 1)])
    best = int(errors.argmin())
    if not 0 < best < 2 * most:
        return (best - most) / rate
    left, middle, right = errors[best - 1 : best + 2]
    bend = left - 2.0 * middle + right
    return float((best - most + (0.5 * (left - right) / bend if bend > 0.0 else 0.0)) / rate)


def in_words(filter_: Filter, clips: Sequence[Smoothness]) -> str:
    """The summary of what a filter did to some clips."""
    if not clips:
        return f"not smoothed ({filter_}): nobody is in motion"
    weights = np.array([clip.frames for clip in clips], dtype=float)

    def mean(values: Sequence[float]) -> float:
        return float(np.average(values, weights=weights))

    before, after, late = (mean([getattr(clip, key) for clip in clips]) for key in ("before", "after", "lag"))
    frames = mean([clip.lag * clip.rate for clip in clips])
    outliers = sum(clip.outliers for clip in clips)
    said = [
        f"smoothed ({filter_}): {counted(len(clips), 'clip')}",
        f"{counted(outliers, 'outlier')} replaced",
        f"mean acceleration {before:.1f} -> {after:.1f} m/s^2",
        f"lag {abs(frames):.1f} frames ({1000.0 * abs(late):.0f} ms)",
    ]
    slow = sum(clip.unchanged for clip in clips)
    if slow:
        said.append(f"{counted(slow, 'clip')} of too few frames a second for this filter")
    return ", ".join(said)


def _apart(before: np.ndarray, after: np.ndarray, shift: int) -> float:
    """Mean squared distance where `after` is some frames late."""
    number = len(before) - abs(shift)
    start, late = max(0, -shift), max(0, shift)
    return float(np.square(after[late : late + number] - before[start : start + number]).sum(axis=-1).mean())
