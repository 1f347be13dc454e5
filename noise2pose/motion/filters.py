"""Low-pass filters over time, with cut-off frequencies in hertz whatever the frame rate.

Shape letters: F frames, C coordinates.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.signal import butter, sosfiltfilt

from noise2pose.errors import InputError

BUTTERWORTH, ONE_EURO = "butterworth", "one_euro"
EXPECTED = "none, butterworth:HZ or one_euro:HZ, such as butterworth:6"
BETA = 3.0  # hertz that a speed of 1 m/s adds to the cut-off of the One-Euro filter
_TWO_PASSES = (np.sqrt(2.0) - 1.0) ** 0.25  # of a filter of second order, over which both together damp by 3 dB
_ON_GRID = 0.02  # frames that a frame may be beside its regular time


class Filter(NamedTuple):
    """A low-pass filter.

    Attributes:
        kind: `butterworth` or `one_euro`.
        hertz: cut-off frequency; of the One-Euro filter that of somebody who does not move.
    """

    kind: str
    hertz: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.hertz:g}"

    def passes_all(self, times: Float[np.ndarray, " F"]) -> bool:
        """Whether frames at these times hold no frequency that a Butterworth filter would remove."""
        return self.kind == BUTTERWORTH and (len(times) < 3 or 2.0 * self.hertz >= frame_rate(times))

    def __call__(
        self, values: Float[np.ndarray, "F *rest C"], times: Float[np.ndarray, " F"], beta: float = BETA
    ) -> Float[np.ndarray, "F *rest C"]:
        """The values in double precision, filtered.

        Args:
            values: any number of points of C coordinates in each frame.
            times: seconds, ascending.
            beta: of `one_euro`.
        """
        if self.kind == ONE_EURO:
            return one_euro(values, times, self.hertz, beta)
        return butterworth(values, times, self.hertz)


def filter_of(text: str) -> Filter | None:
    """The filter that `butterworth:6` or `one_euro:1.5` names; None for `none`.

    Raises:
        InputError: if it names no filter, or the frequency is not positive.
    """
    kind, _, hertz = text.partition(":")
    if text == "none":
        return None
    try:
        value = float(hertz)
    except ValueError:
        value = -1.0
    if kind not in (BUTTERWORTH, ONE_EURO) or not 0.0 < value < float("inf"):
        raise InputError(f"--smooth {text} is not known, expected {EXPECTED}")
    return Filter(kind, value)


def frame_rate(times: Float[np.ndarray, " F"]) -> float:
    """Frames in a second of at least two ascending times; frames that are missing count."""
    return float(_steps(times).sum() / (times[-1] - times[0]))


def butterworth(
    values: Float[np.ndarray, "F *rest C"], times: Float[np.ndarray, " F"], hertz: float
) -> Float[np.ndarray, "F *rest C"]:
    """A Butterworth filter of second order, forwards and backwards: fourth order in all, without lag.

    Both passes together damp the cut-off frequency by 3 dB (Winter, "Biomechanics and motor control of human movement",
    section 3.4.4.2). Values at irregular times are interpolated at regular ones, filtered, and interpolated back.

    Args:
        values: any number of points in each frame. Where the frame rate is at most twice the frequency, there is
            nothing to remove, and they are returned as they are.
        times: seconds, ascending.
        hertz: cut-off frequency.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(times) < 3 or 2.0 * hertz >= frame_rate(times):
        return values
    rate = frame_rate(times)
    grid = np.linspace(times[0], times[-1], int(_steps(times).sum()) + 1)
    regular = len(grid) == len(times) and np.abs(grid - times).max() < _ON_GRID / rate
    sampled = values if regular else _at(values, times, grid)
    cutoff = rate / np.pi * np.arctan(np.tan(np.pi * hertz / rate) / _TWO_PASSES)
    padding = min(len(grid) - 1, round(rate / hertz))  # a period of the cut-off, whatever the frame rate
    smooth = sosfiltfilt(butter(2, cutoff, fs=rate, output="sos"), sampled, axis=0, padlen=padding)
    return smooth if regular else _at(smooth, grid, times)


def one_euro(
    values: Float[np.ndarray, "F *rest C"],
    times: Float[np.ndarray, " F"],
    hertz: float,
    beta: float = BETA,
    speed_hertz: float = 1.0,
) -> Float[np.ndarray, "F *rest C"]:
    """The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012): slow motion is smoothed more than fast motion.

    It looks at the past only, so it lags. The speed of a point is the length of its velocity vector, so that the axes
    do not matter, between two values that were not filtered, as in the authors' C++ code, so that the frame rate does
    not matter.

    Args:
        values: any number of points of C coordinates in each frame.
        times: seconds, ascending.
        hertz: cut-off of points at rest, `mincutoff` of the paper.
        beta: hertz that the cut-off grows by for each unit of length a second.
        speed_hertz: cut-off of the velocities, `dcutoff` of the paper.
    """
    values = np.asarray(values, dtype=np.float64)
    smooth = values.copy()
    velocity = np.zeros_like(values[0])
    for frame in range(1, len(values)):
        step = float(times[frame] - times[frame - 1])
        velocity += _alpha(speed_hertz, step) * ((values[frame] - values[frame - 1]) / step - velocity)
        cutoff = hertz + beta * np.linalg.norm(velocity, axis=-1, keepdims=True)
        smooth[frame] = smooth[frame - 1] + _alpha(cutoff, step) * (values[frame] - smooth[frame - 1])
    return smooth


def _alpha(hertz: float | np.ndarray, step: float) -> float | np.ndarray:
    return 1.0 / (1.0 + 1.0 / (2.0 * np.pi * hertz * step))


def _steps(times: np.ndarray) -> np.ndarray:
    """How many frames apart neighbouring times are."""
    apart = np.diff(times)
    return (apart / np.median(apart)).round().clip(1.0)


def _at(values: np.ndarray, times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values at other times, on straight lines."""
    columns = values.reshape(len(values), -1).T
    interpolated = np.stack([np.interp(wanted, times, column) for column in columns], axis=1)
    return interpolated.reshape(-1, *values.shape[1:])
