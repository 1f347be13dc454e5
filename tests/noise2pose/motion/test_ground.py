import numpy as np
import pytest

from noise2pose.motion.ground import ANKLE, floor_height, resting_feet, slow_feet

TIMES = np.arange(90) / 30.0
FLOOR = 1.3


def steps(times):
    """Ankles that stand for half a second and swing 0.6 m forwards and 0.15 m up in another half, by turns."""
    ankles = np.zeros((len(times), 2, 3))
    for foot, late in enumerate((0.0, 0.5)):
        phase = (times + late) % 1.0
        swing = np.clip(phase - 0.5, 0.0, 0.5) * 2.0
        ankles[:, foot, 2] = 4.0 + 0.6 * (np.floor(times + late) + 0.5 - 0.5 * np.cos(np.pi * swing))
        ankles[:, foot, 1] = FLOOR - ANKLE - 0.15 * np.sin(np.pi * swing)
    return ankles, np.stack([(times + late) % 1.0 < 0.5 for late in (0.0, 0.5)], axis=1)


@pytest.mark.parametrize("rate", [25.0, 50.0])
def test_feet_that_stand_rest_and_the_floor_is_below_them(rate):
    times = np.arange(round(3 * rate)) / rate
    ankles, standing = steps(times)
    slow = slow_feet(ankles, times)
    floor = floor_height(ankles, slow)
    assert floor == pytest.approx(FLOOR, abs=0.01)
    resting = resting_feet(ankles, slow, floor)
    assert (resting == standing).mean() > 0.85 and not (resting & ~standing).mean() > 0.1
    assert np.array_equal(resting, resting_feet(ankles[:, ::-1], slow[:, ::-1], floor)[:, ::-1])


def test_a_foot_that_is_held_in_the_air_does_not_rest():
    ankles, _ = steps(TIMES)
    ankles[:, 1] = ankles[0, 1] - (0.0, 0.4, 0.0)
    slow = slow_feet(ankles, TIMES)
    floor = floor_height(np.where(slow[:, :1, None], ankles, ankles[:1]), slow & [True, False])
    assert slow[:, 1].all() and not resting_feet(ankles, slow, floor)[:, 1].any()


def test_single_poses_have_a_floor_and_no_feet_that_rest():
    ankles, _ = steps(TIMES[:1])
    slow = slow_feet(ankles, TIMES[:1])
    assert not slow.any() and floor_height(ankles, slow) == pytest.approx(FLOOR)
