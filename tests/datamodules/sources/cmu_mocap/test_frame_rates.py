import argparse

import numpy as np
import pytest

from datamodules.preparation import report
from datamodules.sources.cmu_mocap.files import plan
from datamodules.sources.cmu_mocap.frame_rates import fastest_fall, frame_rate
from datamodules.sources.common.motion import FPS
from noise2pose.errors import InputError
from tests.datamodules import acclaim


def rates(source, given):
    return {part.name: part.arguments[2] for part in plan([source], source, argparse.Namespace(source_fps=given)).parts}


def test_rates_are_those_of_the_index_unless_they_are_given(tmp_path):
    assert frame_rate("60", "60_01") == frame_rate("90", "90_08") == 60.0 and frame_rate("90", "90_01") == 120.0
    acclaim.write(tmp_path, {"02": 1, "60": 2, "90": 8}, frames=2)
    known = rates(tmp_path, None)
    assert {name for name, rate in known.items() if rate == 60.0} == {"60_01", "60_02", "90_08"}
    assert set(rates(tmp_path, "60").values()) == {60.0}
    given = rates(tmp_path, "60=30,2_1=25,90_08=120")
    assert given == {**known, "60_01": 30.0, "60_02": 30.0, "02_01": 25.0, "90_08": 120.0}
    assert rates(tmp_path, "100,60=50")["90_08"] == 100.0
    for wrong, message in (("60=x", "expected numbers"), ("60=-1", "more than 0"), ("61=60", "61 is neither")):
        with pytest.raises(InputError, match=message):
            rates(tmp_path, wrong)


def test_a_subject_at_60_hz_moves_as_fast_as_one_at_120(tmp_path):
    acclaim.write(tmp_path / "in", {"02": 1, "60": 1}, frames=240)
    lines = acclaim.amc(frames=480, seed=1).split("\n")
    number = len(acclaim.amc(frames=1, seed=1).strip().split("\n")) - 3
    head, frames = lines[:3], [lines[3 + number * at : 3 + number * (at + 1)] for at in range(480)]
    slower = [line for at, frame in enumerate(frames[::2], start=1) for line in (str(at), *frame[1:])]
    (tmp_path / "in" / "60" / "60_01.amc").write_text("\n".join([*head, *slower, ""]))
    (tmp_path / "in" / "02" / "02_01.amc").write_text(acclaim.amc(frames=480, seed=1))
    manifest = acclaim.prepare(tmp_path / "in", tmp_path / "out", source_fps=None)
    joints = np.load(tmp_path / "out" / "joints_world.npy")
    fast, slow = (joints[about["start"] : about["stop"]] for about in manifest["sequences"])
    assert len(fast) == len(slow) == 200 and np.abs(fast - slow).max() < 0.01
    assert manifest["counts"]["clips at 60 frames a second"] == 1


def test_a_body_that_falls_too_fast_is_named():
    time = np.arange(100) / FPS
    flight = np.clip(3.0 * (time - 0.5) - 9.81 / 2 * (time - 0.5) ** 2, 0.0, None)
    jump = np.zeros((100, 17, 3))
    jump[..., 2] = 1.0 + flight[:, None]
    assert fastest_fall(jump, FPS) == pytest.approx(9.81, abs=0.1)
    assert fastest_fall(jump[::2], FPS) == pytest.approx(4 * 9.81, abs=0.4)
    assert fastest_fall(jump[:8], FPS) == 0.0
    manifest = {"expected": [], "skipped": [], "sequences": [{"name": "1"}, {"name": "2", "warning": "it falls"}]}
    assert report.warnings(manifest) == ["warning: 2: it falls"]
