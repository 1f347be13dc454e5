import hashlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from noise2pose.keypoints.heatmaps import heatmaps
from scripts import fit_gmm
from tests import forks
from tests.places import ROOT


def write_keypoints(path, frames=40, joints=17, subjects=("S1", "S5"), **more):
    """A file in the layout of VideoPose3D: 2 actions of each subject, 4 cameras."""
    rng = np.random.default_rng(0)

    def cameras(shape):
        return [(500 + 100 * rng.standard_normal((frames, *shape))).astype(np.float32) for _ in range(4)]

    positions = {s: {a: cameras((joints, 2)) for a in ("Walking", "Walking 1")} for s in subjects}
    np.savez_compressed(path, positions_2d=np.array(positions, dtype=object), metadata={"layout_name": "h36m"}, **more)
    return positions


def run(*arguments):
    return fit_gmm.main([str(argument) for argument in arguments])


def read(path):
    return np.load(path, allow_pickle=True)["positions_2d"].item()


def test_the_file_has_the_layout_of_the_release(tmp_path, capsys):
    positions = write_keypoints(tmp_path / "in.npz")
    output = tmp_path / "out_gmm.npz"
    assert run("--keypoints", tmp_path / "in.npz", "--output", output) == 0
    found = read(output)
    assert list(found) == ["S1", "S5"] and list(found["S1"]) == ["Walking", "Walking 1"]
    for subject, actions in positions.items():
        for action, cameras in actions.items():
            for camera, keypoints in enumerate(cameras):
                mixture = found[subject][action][camera]
                assert mixture.shape == (40, 17, 5, 5) and mixture.dtype == np.float32
                assert np.allclose(mixture[..., 0].sum(-1), 1.0, atol=1e-5)
                mean = (mixture[..., :1] * mixture[..., 1:3]).sum(axis=-2)
                assert np.abs(mean - keypoints).mean() < 10.0  # samples around the detection
                assert (mixture[..., 3:] > 0).all() and mixture[..., 3:].max() < 1.0  # on the screen
    checksum = hashlib.sha256(output.read_bytes()).hexdigest()
    assert (tmp_path / "out_gmm.npz.sha256").read_text() == f"{checksum}  out_gmm.npz\n"
    assert "640 frames of 16 views" in capsys.readouterr().out
    ours = np.load(tmp_path / "out_gmm" / "mixtures.npy", mmap_mode="r")
    assert ours.shape == (640, 17, 5, 5)
    assert np.allclose(ours[40:80, ..., 3:] / 500.0, found["S1"]["Walking"][1][..., 3:])


def test_the_order_of_the_joints_is_kept(tmp_path):
    coco = {"layout_name": "coco", "num_joints": 17, "keypoints_symmetry": [[1, 3, 5], [2, 4, 6]]}
    positions = {"S1": {"Walking": [np.random.default_rng(0).uniform(0, 1000, (2, 17, 2))]}}
    np.savez(tmp_path / "in.npz", positions_2d=np.array(positions, dtype=object), metadata=coco)
    assert run("--keypoints", tmp_path / "in.npz", "--output", tmp_path / "out.npz") == 0
    found = np.load(tmp_path / "out.npz", allow_pickle=True)
    assert found["metadata"].item() == coco and list(read(tmp_path / "out.npz")) == ["S1"]


def test_less_confidence_is_a_wider_mixture(tmp_path):
    sure = [np.full((40, 17), 0.95, np.float32)] * 4
    unsure = [np.full((40, 17), 0.2, np.float32)] * 4
    confidences = {s: {"Walking": sure, "Walking 1": unsure} for s in ("S1", "S5")}
    write_keypoints(tmp_path / "in.npz", confidences=np.array(confidences, dtype=object))
    assert run("--keypoints", tmp_path / "in.npz", "--output", tmp_path / "o.npz", "--num_components", 1) == 0
    found = read(tmp_path / "o.npz")["S5"]
    ratio = found["Walking 1"][0][..., 3:].mean() / found["Walking"][0][..., 3:].mean()
    assert 4.0 < ratio < 6.0  # 14 cm against 2.75 cm on the body


def test_heatmaps_with_two_peaks_give_two_places(tmp_path):
    import torch

    peaks = torch.tensor([[16.0, 16.0], [48.0, 40.0]])
    maps = heatmaps(peaks, (64, 64), 1.5)
    both = (0.7 * maps[0] + 0.3 * maps[1]).numpy()
    nested = {"S1": {"Walking": [np.broadcast_to(both, (3, 2, 64, 64))]}}
    boxes = {"S1": {"Walking": [np.tile(np.array([320.0, 320.0, 640.0], np.float32), (3, 1))]}}
    keypoints = {"S1": {"Walking": [np.full((3, 2, 2), 165.0, np.float32)]}}
    np.savez(
        tmp_path / "in.npz",
        **{
            key: np.array(value, dtype=object)
            for key, value in (("positions_2d", keypoints), ("heatmaps", nested), ("boxes", boxes))
        },
    )
    options = ("--num_components", 2, "--num_samples", 400)
    assert run("--keypoints", tmp_path / "in.npz", "--output", tmp_path / "o.npz", *options) == 0
    mixture = read(tmp_path / "o.npz")["S1"]["Walking"][0]
    order = np.argsort(-mixture[..., 0], axis=-1)[..., None]
    mixture = np.take_along_axis(mixture, order, axis=2)
    assert np.allclose(mixture[..., 0, 0], 0.7, atol=0.1)
    assert np.allclose(mixture[..., 0, 1:3], 165.0, atol=5.0)
    assert np.allclose(mixture[..., 1, 1:3], [485.0, 405.0], atol=6.0)


@pytest.mark.slow
def test_a_killed_fit_ends_with_the_same_file(tmp_path):
    write_keypoints(tmp_path / "in.npz", subjects=["S1"])
    arguments = ("--threads", 1, "--keypoints", tmp_path / "in.npz", "--output")
    manifest = tmp_path / "killed" / "manifest.json"
    for _ in range(2):
        before = manifest.read_text() if manifest.is_file() else '"done": 0'
        process = forks.start(run, *arguments, tmp_path / "killed.npz")
        while process.is_alive():
            now = manifest.read_text() if manifest.is_file() else ""
            if now and now != before and '"done": 0' not in now:
                break
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (tmp_path / "killed.npz").exists()
    for name in ("killed.npz", "whole.npz"):
        assert run(*arguments, tmp_path / name) == 0
    assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_other_settings_do_not_continue_an_older_fit(tmp_path, capsys):
    write_keypoints(tmp_path / "in.npz")
    run("--keypoints", tmp_path / "in.npz", "--output", tmp_path / "o.npz", "--num_samples", 20)
    before, manifest = (tmp_path / "o.npz").read_bytes(), (tmp_path / "o" / "manifest.json").read_text()
    assert run("--keypoints", tmp_path / "in.npz", "--output", tmp_path / "o.npz", "--num_samples", 30) == 2
    assert "other settings (num_samples)" in capsys.readouterr().err
    (tmp_path / "o" / "manifest.json").write_text("[]")
    assert run("--keypoints", tmp_path / "in.npz", "--output", tmp_path / "o.npz") == 2
    assert "o is broken" in capsys.readouterr().err
    (tmp_path / "o" / "manifest.json").write_text(manifest)
    write_keypoints(tmp_path / "in.npz", frames=41)
    assert run("--keypoints", tmp_path / "in.npz", "--output", tmp_path / "o.npz", "--num_samples", 20) == 2
    assert "input_sha256" in capsys.readouterr().err
    assert (tmp_path / "o.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"keypoints": np.ones((3, 17, 2))}, "no positions_2d, only keypoints"),
        ({"positions_2d": np.ones((3, 17, 2))}, "positions_2d is ndarray, expected a dictionary"),
        ({"positions_2d": {"S1": [1]}}, "positions_2d S1 is list"),
        ({"positions_2d": {"S1": {"Walk": 5}}}, "S1/Walk is int"),
        ({"positions_2d": {"S1": {"Walk": [np.ones((3, 17))]}}}, "S1/Walk/0: positions_2d has shape (3, 17)"),
        ({"positions_2d": {"S1": {"Walk": [np.ones((3, 17, 2)), np.ones((3, 16, 2))]}}}, "S1/Walk/1: 16 joints"),
        (
            {"positions_2d": {"S1": {"Walk": [np.full((3, 17, 2), np.nan)]}}},
            "S1/Walk/0: positions_2d holds NaN",
        ),
        ({"positions_2d": {}}, "holds no view"),
        ({"positions_2d": {"S1": {"W": [np.ones((3, 1, 2))]}}, "heatmaps": {}}, "only one of heatmaps and boxes"),
        (
            {"positions_2d": {"S1": {"W": [np.ones((3, 1, 2))]}}, "confidences": {"S1": {}}},
            "confidences has no entry for",
        ),
        (
            {"positions_2d": {"S1": {"W": [np.ones((3, 1, 2))]}}, "confidences": {"S1": {"W": [np.ones((2, 1))]}}},
            "confidences has shape (2, 1) of float64, expected numbers of shape (3, 1)",
        ),
        (
            {
                "positions_2d": {"S1": {"W": [np.ones((3, 1, 2))]}},
                "confidences": {"S1": {"W": [np.full((3, 1), 93.0)]}},
            },
            "confidences range from 93.0 to 93.0, expected 0 to 1",
        ),
        ({"positions_2d": {"S1": {"W": [np.full((3, 1, 2), "a")]}}}, "expected numbers"),
    ],
)
def test_wrong_files_are_named(tmp_path, capsys, content, message):
    arrays = {k: v if isinstance(v, np.ndarray) else np.array(v, dtype=object) for k, v in content.items()}
    np.savez(tmp_path / "wrong.npz", **arrays)
    assert run("--keypoints", tmp_path / "wrong.npz", "--output", tmp_path / "o.npz") == 2
    error = capsys.readouterr().err
    assert "wrong.npz" in error and message in error
    assert not (tmp_path / "o.npz").exists()


def test_impossible_options_are_refused(tmp_path, capsys):
    write_keypoints(tmp_path / "in.npz")
    for options, message in (
        (("--num_components", 0), "--num_components must be at least 1"),
        (("--num_samples", 3), "--num_samples at least as large"),
        (("--confidence", 2), "--confidence is 2.0"),
        (("--threads", 0), "must be positive"),
        (("--image_width", 0), "must be positive"),
        (("--output", tmp_path / "in.npz"), "is the input"),
    ):
        assert run("--keypoints", tmp_path / "in.npz", "--output", tmp_path / "o.npz", *options) == 2
        assert message in capsys.readouterr().err
    assert run("--keypoints", tmp_path / "in.npz", "--output", tmp_path / "o.npy") == 2
    assert "ends in .npz" in capsys.readouterr().err


def test_fitting_needs_no_lightning():
    code = "import sys, scripts.fit_gmm, methods.diffpose.keypoint_mixtures; assert 'lightning' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
