import numpy as np
import pytest

from noise2pose.errors import InputError
from noise2pose.motion.filters import Filter, butterworth, filter_of, frame_rate, one_euro


def naive_one_euro(samples, times, mincutoff, beta, dcutoff):
    """One coordinate, one sample after the other, as in the paper's algorithm 1 and the authors' C++ code."""

    def alpha(cutoff, period):
        tau = 1.0 / (2.0 * np.pi * cutoff)
        return 1.0 / (1.0 + tau / period)

    out, raw, speed, last = [samples[0]], samples[0], 0.0, times[0]
    for sample, time in zip(samples[1:], times[1:], strict=True):
        period = time - last
        rate = alpha(dcutoff, period)
        speed = rate * (sample - raw) / period + (1.0 - rate) * speed
        weight = alpha(mincutoff + beta * abs(speed), period)
        out.append(weight * sample + (1.0 - weight) * out[-1])
        raw, last = sample, time
    return np.array(out)


def motion(times):
    """Slow and fast coordinates."""
    return np.stack([np.sin(2.0 * times), 0.3 * np.cos(5.0 * times) + times, 0.05 * np.sin(30.0 * times)], axis=-1)


@pytest.mark.parametrize("beta", [0.0, 3.0])
def test_one_euro_is_the_filter_of_the_paper(beta):
    generator = np.random.default_rng(0)
    times = np.cumsum(generator.uniform(0.01, 0.06, 80))
    values = motion(times) + generator.normal(0.0, 0.02, (80, 3))
    many = one_euro(values[:, :, None], times, 1.5, beta, 1.0)  # three points of one coordinate
    for point in range(3):
        assert np.allclose(many[:, point, 0], naive_one_euro(values[:, point], times, 1.5, beta, 1.0), atol=1e-12)


@pytest.mark.parametrize("text", ["butterworth:4", "one_euro:1.5"])
def test_filters_of_points(text):
    low_pass = filter_of(text)
    assert low_pass is not None and str(low_pass) == text
    times = np.arange(60) / 30.0
    still = np.full((60, 2, 3), 1.7)
    assert np.allclose(low_pass(still, times), still, atol=1e-9)
    values = np.random.default_rng(1).normal(0.0, 0.1, (60, 4, 3)) + motion(times)[:, None]
    smooth = low_pass(values, times)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    assert np.allclose(low_pass(values @ turn.T + 5.0, times), smooth @ turn.T + 5.0, atol=1e-9), "axes do not matter"
    assert np.allclose(low_pass(values[:, ::-1], times), smooth[:, ::-1]), "nor does the order of the points"
    noise = np.diff(values - motion(times)[:, None], n=2, axis=0).std()
    assert np.diff(smooth - motion(times)[:, None], n=2, axis=0).std() < 0.5 * noise


@pytest.mark.parametrize(("text", "tolerance"), [("butterworth:4", 0.004), ("one_euro:1.5", 0.03)])
def test_the_frame_rate_does_not_matter(text, tolerance):
    low_pass = filter_of(text)
    assert low_pass is not None
    slow, fast = np.arange(75) / 25.0, np.arange(149) / 50.0
    difference = low_pass(motion(fast), fast)[::2] - low_pass(motion(slow), slow)
    assert np.abs(difference).max() < tolerance


def test_butterworth_halves_the_power_at_its_frequency_and_does_not_lag():
    times = np.arange(600) / 30.0
    for hertz, kept in ((1.0, 1.0), (6.0, np.sqrt(0.5)), (12.0, 0.0)):
        wave = np.sin(2.0 * np.pi * hertz * times)[:, None]
        smooth = butterworth(wave, times, 6.0)[100:-100]
        assert np.sqrt(2.0) * smooth.std() == pytest.approx(kept, abs=0.01)
        assert np.abs(smooth - kept * wave[100:-100]).max() < 0.01, "in phase"


def test_irregular_times_and_few_frames():
    regular = np.arange(61) / 30.0
    times = regular + np.random.default_rng(0).uniform(-0.008, 0.008, 61)
    assert frame_rate(regular) == pytest.approx(30.0) and frame_rate(times) == pytest.approx(30.0, abs=0.3)
    assert frame_rate(np.delete(regular, [7, 8, 30])) == pytest.approx(30.0), "missing frames count"
    assert np.abs(butterworth(motion(times)[:, :2], times, 6.0) - motion(times)[:, :2]).max() < 0.03
    values = motion(regular)
    for number in (1, 2, 3, 4):
        assert np.isfinite(butterworth(values[:number], regular[:number], 6.0)).all()
    assert np.array_equal(butterworth(values, regular, 15.0), values), "30 frames a second hold 15 Hz"
    assert Filter("butterworth", 15.0).passes_all(regular) and not Filter("butterworth", 14.0).passes_all(regular)


@pytest.mark.parametrize("text", ["butterworth", "butterworth:0", "one_euro:x", "gauss:3", "", "butterworth:-1"])
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(InputError, match=f"--smooth {text} is not known, expected none, butterworth:HZ"):
        filter_of(text)
    assert filter_of("none") is None
