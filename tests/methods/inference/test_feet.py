import json
import sys

import numpy as np
import pytest
import roma
import torch

import tests.body_method
from methods.inference import Annotator
from methods.inference.feet import lock_feet
from methods.inference.levels import feet_of
from scripts.predict import main
from tests.body_method import save
from tests.methods.inference.test_exports import clip

ANKLES = [6, 3]  # left and right of h36m_17


@pytest.fixture
def annotator(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "methods.fake", tests.body_method)
    return Annotator(save(tmp_path / "fake.ckpt"))


@pytest.fixture
def squats(tmp_path, annotator):
    """One person who squats on the spot for two seconds; the body drifts in depth, as one camera sees it."""
    (tmp_path / "one.json").write_text(json.dumps(clip(people=1, frames=50)))
    found = annotator.predict(tmp_path / "one.json", fps=25.0)
    arrays = {key: np.array(value) for key, value in found.arrays.items()}
    depth = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(50) / 25.0)
    vectors = np.zeros((50, 24, 3), dtype=np.float32)
    vectors[:, 0, 0] = np.pi
    for side in ((1, 4, 7), (2, 5, 8)):
        for joint, turn in zip(side, (-0.9, 1.6, -0.7), strict=True):
            vectors[:, joint, 0] = turn * depth
    arrays["poses"] = vectors.reshape(50, 72)
    turns = roma.rotvec_to_rotmat(torch.from_numpy(vectors))
    parameters = turns[:, 0], turns[:, 1:], torch.from_numpy(arrays["betas"])
    joints = found.body.joints(*parameters, regressor="h36m_17").numpy()
    place = np.array([0.0, 1.2, 4.0]) - joints[:, ANKLES].mean(axis=1)
    arrays["trans"] = (place + np.array([0.0, 0.02, 0.08]) * depth[:, None]).astype(np.float32)
    arrays["joints_3d"] = (joints + arrays["trans"][:, None]).astype(np.float32)
    return arrays, found.body


def slides(arrays):
    return np.linalg.norm(np.diff(arrays["joints_3d"][:, ANKLES], axis=0), axis=-1).sum()


def test_the_feet_of_somebody_who_squats_stay_and_the_body_keeps_its_bones(squats):
    arrays, body = squats
    assert feet_of(arrays, 25.0, 0.0).resting.mean() > 0.9
    locked, said = lock_feet(arrays, body, 25.0, 0.0)
    assert said.startswith("feet locked in 2 rests: their ankles slid ")
    assert slides(locked) < 0.1 * slides(arrays)
    assert np.array_equal(locked["betas"], arrays["betas"])
    for first, second in ((4, 5), (5, 6), (1, 2), (2, 3), (11, 12)):
        lengths = [
            np.linalg.norm(each["joints_3d"][:, first] - each["joints_3d"][:, second], axis=-1)
            for each in (arrays, locked)
        ]
        assert np.abs(lengths[1] - lengths[0]).max() < 0.012  # the regressed joints of a bent knee move a little
    arms = [each["poses"].reshape(50, 24, 3)[:, 9:] for each in (arrays, locked)]
    assert np.abs(arms[1] - arms[0]).max() < 1e-5, "nothing above the hips is bent"
    steps = np.abs(np.diff(locked["joints_3d"] - arrays["joints_3d"], axis=0)).max()
    assert steps < 0.03, "nothing jumps"
    order = np.random.default_rng(0).permutation(50)
    again, _ = lock_feet({key: value[order] for key, value in arrays.items()}, body, 25.0, 0.0)
    assert np.allclose(again["joints_3d"], locked["joints_3d"][order], atol=1e-5)


def test_a_foot_that_swings_is_not_locked(squats):
    arrays, body = squats
    vectors = arrays["poses"].reshape(50, 24, 3)
    vectors[:, 1, 0] = 0.8 * np.sin(2.0 * np.pi * np.arange(50) / 20.0)  # the left leg swings from the hip
    vectors[:, 2, 0] = vectors[:, 5, 0] = vectors[:, 8, 0] = 0.0
    turns = roma.rotvec_to_rotmat(torch.from_numpy(vectors))
    joints = body.joints(turns[:, 0], turns[:, 1:], torch.from_numpy(arrays["betas"]), regressor="h36m_17").numpy()
    arrays["trans"] = (np.array([0.0, 1.2, 4.0]) - joints[:, ANKLES[1]]).astype(np.float32)
    arrays["trans"][:, 2] += 0.03 * np.sin(np.arange(50) / 4.0)
    arrays["joints_3d"] = (joints + arrays["trans"][:, None]).astype(np.float32)
    locked, _ = lock_feet(arrays, body, 25.0, 0.0)
    swing = [np.ptp(each["joints_3d"][:, ANKLES[0], 2] - each["joints_3d"][:, 0, 2]) for each in (arrays, locked)]
    assert swing[1] > 0.9 * swing[0]
    right = [np.ptp(each["joints_3d"][:, ANKLES[1]], axis=0).max() for each in (arrays, locked)]
    assert right[1] < 0.2 * right[0]


def test_the_command_says_it_and_refuses_photos_and_lifters(tmp_path, annotator, capsys):
    (tmp_path / "two.json").write_text(json.dumps(clip(people=2, frames=6)))
    command = ["--checkpoint", str(tmp_path / "fake.ckpt"), str(tmp_path / "two.json"), "--max_pictures", "0"]
    command += ["--output", str(tmp_path / "out"), "--fps", "25", "--lock_feet"]
    assert main(command) == 0
    assert "no foot rests, so none is locked" in capsys.readouterr().out  # of arms that are waved at random
    (tmp_path / "photos.json").write_text(json.dumps(clip(people=1, frames=1)))
    assert main(["--checkpoint", str(tmp_path / "fake.ckpt"), str(tmp_path / "photos.json"), *command[3:]]) == 2
    said = capsys.readouterr().err
    assert "--lock_feet" in said and "single photos" in said and said.count("\n") == 1
    assert main(["--checkpoint", "diffpose-people", str(tmp_path / "two.json"), *command[3:]]) == 2
    said = capsys.readouterr().err
    assert "--lock_feet" in said and "diffannot-people" in said and said.count("\n") == 1
