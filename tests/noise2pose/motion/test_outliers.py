import numpy as np
import pytest

from noise2pose.motion.outliers import bridge, leaps


def apart(a, b):
    return np.linalg.norm(a - b, axis=-1)


def walk(rate, seconds=2.0):
    """Joints that stand, swing fast, go on, and jerk back and forth within 0.3 s."""
    times = np.arange(round(seconds * rate)) / rate
    jerk = 0.5 * np.clip(1.0 - np.abs(times - 1.0) / 0.2, 0.0, None)
    columns = (0.0 * times, 0.6 * np.sin(2.0 * np.pi * 1.5 * times), 8.0 * np.clip(times - 1.0, 0.0, None), jerk)
    return times, np.stack([np.stack((column, 0.0 * times, 3.0 + 0.0 * times), axis=-1) for column in columns], axis=1)


@pytest.mark.parametrize("rate", [15.0, 30.0, 60.0, 120.0])
def test_motion_is_no_leap_at_any_rate(rate):
    times, joints = walk(rate)
    assert not leaps(joints, times, apart, 0.1).any()
    noisy = joints + np.random.default_rng(0).normal(0.0, 0.01, joints.shape)
    assert not leaps(noisy, times, apart, 0.1).any()


@pytest.mark.parametrize("rate", [30.0, 60.0])
def test_a_joint_that_leaps_and_returns_is_found_and_replaced(rate):
    times, joints = walk(rate)
    joints = joints + np.random.default_rng(0).normal(0.0, 0.005, joints.shape)
    broken = joints.copy()
    first, long = round(0.5 * rate), round(0.07 * rate)
    broken[first : first + long, 0] += (0.3, 0.3, 0.0)
    broken[0, 2] += 0.5
    broken[-1, 0] += 0.5
    found = leaps(broken, times, apart, 0.1)
    expected = np.zeros_like(found)
    expected[first : first + long, 0] = expected[0, 2] = expected[-1, 0] = True
    assert np.array_equal(found, expected)
    repaired = bridge(broken, ~found, times)
    assert np.array_equal(repaired[~found], broken[~found])
    assert np.abs(repaired - joints)[:, 0].max() < 0.03
    assert not leaps(broken[:4], times[:4], apart, 0.1).any(), "four frames tell nothing"


def test_bridges_are_straight_in_time():
    times = np.array([0.0, 0.1, 0.3, 0.4, 0.5])
    values = np.stack([times, 2.0 * times], axis=-1)[:, None] * np.ones((1, 2, 1))
    good = np.array([[False, True], [True, True], [False, True], [True, True], [False, False]])
    broken = np.where(good[..., None], values, 99.0)
    repaired = bridge(broken, good, times)
    assert np.allclose(repaired[2], values[2]) and np.allclose(repaired[0, 0], values[1, 0])
    assert np.allclose(repaired[4], values[3]) and np.allclose(repaired[:4, 1], values[:4, 1])
    assert np.array_equal(bridge(values, np.zeros_like(good), times), values), "nothing is known"
