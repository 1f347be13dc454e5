"""Smooth answers: each unbroken clip of a person on its own, one shape for an identity, said in the summary."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import tests.body_method
from methods.inference import Annotator, Lifter
from methods.inference.motions import record_of
from methods.inference.smoothing import clips_of, settle_bodies
from noise2pose.annotation.writer import read_annotations
from noise2pose.errors import InputError
from noise2pose.keypoints.files import read_keypoints
from noise2pose.motion.filters import filter_of
from scripts.predict import main
from tests.body_method import save
from tests.methods.inference.test_exports import clip
from tests.noise2pose.keypoints.walker import coco_walker


@pytest.fixture(scope="module")
def lifter():
    return Lifter("diffpose-people")


def walker(frames=12):
    points = coco_walker(frames)
    points[..., :2] += np.random.default_rng(0).normal(0.0, 3.0, points[..., :2].shape)
    return points


def acceleration(values):
    return np.linalg.norm(np.diff(values, n=2, axis=0), axis=-1).mean()


def test_lifted_clips_are_smoothed_each_on_its_own(lifter):
    points = walker()
    raw, smooth = (lifter.predict(points, fps=25.0, smooth=text) for text in ("none", "butterworth:4"))
    assert acceleration(smooth.joints_3d) < 0.6 * acceleration(raw.joints_3d)
    assert "smoothed (butterworth:4): 1 clip, " in smooth.summary() and "smoothed" not in raw.summary()
    assert smooth.uncertainty is not None and raw.uncertainty is not None and smooth.hypotheses is not None
    assert not smooth.joints_3d[:, 0].any() and np.array_equal(smooth.uncertainty, raw.uncertainty)
    assert np.allclose(smooth.hypotheses.mean(axis=1), smooth.joints_3d, atol=1e-4)
    longer = replace(read_keypoints_of(np.concatenate((points, points))), frames=[*range(12), *range(100, 112)])
    both = lifter.predict(longer, fps=25.0, smooth="butterworth:4")
    assert "2 clips, " in both.about and np.allclose(both.joints_3d[12:], smooth.joints_3d, atol=1e-5), "not over gaps"
    names = ["IMG_0231.jpg", "IMG_0240.jpg"]
    photographs = [lifter.predict(points[:2], names=names, smooth=text) for text in ("none", "one_euro:1")]
    assert np.array_equal(photographs[0].joints_3d, photographs[1].joints_3d)
    assert "not smoothed (one_euro:1): nobody is in motion" in photographs[1].summary()
    with pytest.raises(InputError, match="--smooth gauss:3 is not known"):
        lifter.predict(points, smooth="gauss:3")


def read_keypoints_of(points):
    from noise2pose.keypoints.files import as_keypoints

    return as_keypoints(points, names=[f"clip/{number:03d}.jpg" for number in range(len(points))])


def test_frames_in_which_nobody_was_seen_do_not_pull(lifter):
    points = walker()
    read = replace(read_keypoints_of(points), filled=[number in (5, 6) for number in range(12)])
    other = replace(read, points=read.points.clone())
    other.points[5:7, :, :2] = other.points[5:7, :, :2].flip(0) * 1.05
    one, two = (lifter.predict(each, fps=25.0, smooth="butterworth:4") for each in (read, other))
    assert not one.valid[5:7].any() and np.allclose(one.joints_3d, two.joints_3d, atol=1e-6)


@pytest.fixture
def annotator(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "methods.fake", tests.body_method)
    return Annotator(save(tmp_path / "fake.ckpt"))


def test_bodies_of_an_identity_have_one_shape_and_smooth_motion(tmp_path, annotator):
    (tmp_path / "two.json").write_text(json.dumps(clip(people=2, frames=20)))
    found = annotator.predict(tmp_path / "two.json", fps=25.0)
    arrays = dict(found.arrays)
    generator = np.random.default_rng(0)
    arrays["betas"] = generator.normal(0.0, 1.0, arrays["betas"].shape).astype(np.float32)
    arrays["trans"] = arrays["trans"] + generator.normal(0.0, 0.02, arrays["trans"].shape).astype(np.float32)
    shaped, said = settle_bodies(arrays, found.body, 25.0, None)
    smooth, words = settle_bodies(arrays, found.body, 25.0, filter_of("butterworth:4"))
    assert words.startswith("smoothed (butterworth:4): 2 clips, ") and words.endswith(f"; {said}")
    means = (each["reprojection_after"].mean() for each in (arrays, shaped))
    assert said == "one shape for each identity: mean reprojection error {:.1f} -> {:.1f} pixels".format(*means)
    for person in ("7", "8"):
        rows = arrays["people"] == person
        for settled in (shaped, smooth):
            assert np.ptp(settled["betas"][rows], axis=0).max() == 0.0
            assert np.allclose(settled["betas"][rows][0], np.median(arrays["betas"][rows], axis=0))
        pelvis = [each["joints_3d"][rows][:, 0] for each in (shaped, smooth)]
        assert acceleration(pelvis[1]) < 0.5 * acceleration(pelvis[0])
        parameters = replace(found, arrays=smooth)
        again = found.body.joints(
            *(torch.from_numpy(each) for each in (parameters.rotations[rows, 0], parameters.rotations[rows, 1:])),
            *(torch.from_numpy(smooth[key][rows]) for key in ("betas", "trans")),
            regressor="h36m_17",
        )
        assert np.abs(again.numpy() - smooth["joints_3d"][rows]).max() < 1e-5
    assert not np.allclose(smooth["reprojection_after"], shaped["reprojection_after"])
    order = generator.permutation(len(arrays["names"]))
    permuted, _ = settle_bodies(
        {key: arrays[key][order] for key in arrays}, found.body, 25.0, filter_of("butterworth:4")
    )
    for key in ("poses", "trans", "betas", "joints_3d"):
        assert np.allclose(permuted[key], smooth[key][order], atol=1e-5), (
            "the order of people and frames changes nothing"
        )
    broken = {key: np.array(values) for key, values in arrays.items()}
    broken["trans"][4] = np.nan
    kept, _ = settle_bodies(broken, found.body, 25.0, filter_of("butterworth:4"))
    assert np.flatnonzero(~np.isfinite(kept["trans"]).all(axis=1)).tolist() == [4]
    assert len(clips_of(record_of(arrays, 25.0))) == 2
    assert settle_bodies({key: values[:0] for key, values in arrays.items()}, found.body, None, None)[1] == ""


def test_bodies_of_another_shape_move_to_where_they_fit_their_keypoints(tmp_path, annotator):
    (tmp_path / "two.json").write_text(json.dumps(clip(people=2, frames=8)))
    found = annotator.predict(tmp_path / "two.json", fps=25.0)
    arrays = dict(found.arrays)
    arrays["trans"] = arrays["trans"] * 1.1  # farther away, as larger bodies would be
    arrays["keypoints_2d"] = np.array(arrays["keypoints_2d"])
    arrays["keypoints_2d"][3] = 0.0  # of whom nothing is seen, and who stays
    settled, _ = settle_bodies(arrays, found.body, 25.0, None)
    seen = np.arange(len(arrays["names"])) != 3
    assert (settled["reprojection_after"][seen] < found.arrays["reprojection_after"][seen] + 1.0).all()
    assert np.allclose(settled["trans"][3], arrays["trans"][3], atol=1e-5)
    again, _ = settle_bodies(settled, found.body, 25.0, None)
    assert np.allclose(again["joints_3d"], settled["joints_3d"], atol=1e-3, equal_nan=True)


def test_without_identities_shapes_stay(tmp_path, annotator):
    found = annotator.predict(coco_walker(6))
    arrays = {**found.arrays, "betas": np.random.default_rng(0).normal(size=(6, 10)).astype(np.float32)}
    shaped, _ = settle_bodies(arrays, found.body, None, None)
    assert np.array_equal(shaped["betas"], arrays["betas"])
    _, said = settle_bodies(arrays, found.body, None, filter_of("one_euro:2"))
    assert said.endswith(", at 50 frames a second (assumed)")


def test_the_command_smooths_and_a_finished_set_says_it_again(tmp_path, annotator, capsys):
    (tmp_path / "two.json").write_text(json.dumps(clip(people=2, frames=6)))
    command = ["--checkpoint", str(tmp_path / "fake.ckpt"), str(tmp_path / "two.json"), "--max_pictures", "0"]
    command += ["--output", str(tmp_path / "out"), "--fps", "25"]
    assert main([*command, "--smooth", "butterworth:6"]) == 0
    first = capsys.readouterr().out
    assert "smoothed (butterworth:6): 2 clips, " in first and "lag 0.0 frames" in first
    before = (tmp_path / "out" / "annotations.npz").read_bytes()
    assert main([*command, "--smooth", "butterworth:6"]) == 0
    assert capsys.readouterr().out == first and (tmp_path / "out" / "annotations.npz").read_bytes() == before
    assert len(read_annotations(tmp_path / "out")["names"]) == 12
    assert json.loads((tmp_path / "out" / "annotations.json").read_text())["info"]["motion"] in first
    assert main([*command, "--smooth", "butterworth:3"]) == 2
    assert "made with other options" in capsys.readouterr().err
    assert main([*command, "--smooth", "mean:3"]) == 2
    said = capsys.readouterr().err
    assert (
        said
        == "error: --smooth mean:3 is not known, expected none, butterworth:HZ or one_euro:HZ, such as butterworth:6\n"
    )
    assert read_keypoints(tmp_path / "out" / "annotations.json").people[:2] == ["7", "8"]
