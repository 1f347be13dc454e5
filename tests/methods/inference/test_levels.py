"""Levelled answers: turned by what drawings turn, floors at 0, and said to be estimates."""

import json
import sys

import numpy as np
import pytest
import roma
import torch

import tests.body_method
from methods.inference import Annotator, Lifter
from noise2pose.annotation.layout import LEVELLED
from noise2pose.annotation.writer import read_annotations
from scripts.predict import main
from tests.body_method import save
from tests.methods.inference.test_exports import clip
from tests.noise2pose.keypoints.walker import coco_walker


def test_lifted_poses_are_turned_with_their_hypotheses(tmp_path):
    lifter, points = Lifter("diffpose-people"), coco_walker(5)
    camera, level = (lifter.predict(points, fps=25.0, camera_pitch=20.0, level=level) for level in (False, True))
    turn = camera.levels.rotation[0]
    assert np.allclose(level.joints_3d, camera.joints_3d @ turn.T, atol=1e-6)
    assert level.hypotheses is not None and camera.hypotheses is not None
    assert np.allclose(level.hypotheses, camera.hypotheses @ turn.T, atol=1e-6)
    assert np.array_equal(level.levels.rotation, np.repeat(np.eye(3)[None], 5, axis=0))
    assert level.levels.about == camera.levels.about and "levelled" in level.frame and "camera" in camera.frame
    assert "whose vertical is an estimate" in level.summary() and "estimate" not in camera.summary()
    assert level.from_camera is not None and np.allclose(level.from_camera, turn) and camera.from_camera is None
    for one, other in zip(camera.motions(), level.motions(), strict=True):  # exports are upright anyway
        assert np.allclose(one.joints @ one.to_y_up.T, other.joints @ other.to_y_up.T, atol=1e-6)
    level.save(tmp_path, pictures=1, gif=False)
    with np.load(tmp_path / "poses.npz") as file:
        assert np.array_equal(file["joints_3d"], level.joints_3d) and str(file["frame"]) == level.frame
        assert np.allclose(file["joints_3d"], camera.joints_3d @ file["from_camera"][0].T, atol=1e-6)


@pytest.fixture
def annotator(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "methods.fake", tests.body_method)
    return Annotator(save(tmp_path / "fake.ckpt"))


def test_bodies_stand_on_the_floor_of_the_levelled_frame(tmp_path, annotator, capsys):
    (tmp_path / "two.json").write_text(json.dumps(clip(people=2, frames=6)))
    command = ["--checkpoint", str(tmp_path / "fake.ckpt"), str(tmp_path / "two.json"), "--max_pictures", "1"]
    command += ["--output", str(tmp_path / "out"), "--fps", "25", "--level", "--camera_pitch", "12"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "levelled by estimate with the floor " in said and " of 24 feet rest (slower than 0.3 m/s" in said
    arrays = read_annotations(tmp_path / "out")
    assert set(LEVELLED) < set(arrays)
    expected = np.einsum("txy,tjy->tjx", arrays["level_rotation"], arrays["joints_3d"])
    expected += arrays["level_translation"][:, None]
    assert np.allclose(arrays["levelled_joints_3d"], expected, atol=1e-5)
    found = annotator.predict(tmp_path / "two.json", fps=25.0, camera_pitch=12.0, level=True)
    vectors = torch.from_numpy(arrays["levelled_poses"]).unflatten(-1, (24, 3))
    turns = roma.rotvec_to_rotmat(vectors)
    parameters = (torch.from_numpy(arrays[key]) for key in ("betas", "levelled_trans"))
    joints = found.body.joints(turns[:, 0], turns[:, 1:], *parameters, regressor="h36m_17")
    assert np.abs(joints.numpy() - expected).max() < 1e-4, "the parameters are those of the levelled joints"
    ankles = arrays["levelled_joints_3d"][:, [3, 6], 1]
    assert -0.2 < np.percentile(ankles, 90) < 0.05, "y is down and the floor at 0"
    assert np.array_equal(found.arrays["levelled_trans"], arrays["levelled_trans"])
    assert main([*command[:-3], "--smooth", "one_euro:2", *command[-2:]]) == 2
    assert "made with other options" in capsys.readouterr().err
    assert not set(LEVELLED) & set(annotator.predict(coco_walker(2)).arrays)
