import numpy as np
import pytest

from noise2pose.motion.filters import Filter
from noise2pose.motion.measures import acceleration, in_words, lag, smoothness


def swing(times):
    return np.stack([np.sin(3.0 * times), np.cos(2.0 * times), 0.0 * times], axis=-1)[:, None]


@pytest.mark.parametrize("rate", [25.0, 60.0])
@pytest.mark.parametrize("late", [0.0, 0.013, 0.1, -0.05])
def test_lag_is_found_between_frames(rate, late):
    times = np.arange(round(4 * rate)) / rate
    assert lag(swing(times), swing(times - late), times) == pytest.approx(late, abs=2e-3)
    assert lag(swing(times), 0.8 * swing(times - late), times) == pytest.approx(late, abs=1e-2)


def test_lag_of_somebody_who_does_not_move():
    assert lag(np.ones((9, 2, 3)), np.ones((9, 2, 3)), np.arange(9) / 30.0) == 0.0
    assert lag(swing(np.arange(2)), swing(np.arange(2)), np.arange(2.0)) == 0.0


def test_acceleration_in_metres_and_seconds():
    times = np.array([0.0, 0.1, 0.25, 0.3, 0.5])
    fall = np.stack([0.0 * times, 0.5 * 9.81 * times**2, 3.0 * times], axis=-1)[:, None].repeat(2, axis=1)
    assert acceleration(fall, times) == pytest.approx(9.81)
    assert acceleration(fall[:2], times[:2]) == 0.0


def test_words():
    times = np.arange(60) / 30.0
    noisy = swing(times) + np.random.default_rng(0).normal(0.0, 0.01, (60, 1, 3))
    clip = smoothness(noisy, swing(times), times, 2, False)
    said = in_words(Filter("butterworth", 6.0), [clip, clip._replace(outliers=1, unchanged=True)])
    assert said.startswith("smoothed (butterworth:6): 2 clips, 3 outliers replaced, mean acceleration ")
    assert f"{clip.before:.1f} -> {clip.after:.1f} m/s^2, lag 0.0 frames" in said
    assert said.endswith("1 clip of too few frames a second for this filter") and clip.after < 0.5 * clip.before
    assert in_words(Filter("one_euro", 1.0), []) == "not smoothed (one_euro:1): nobody is in motion"
