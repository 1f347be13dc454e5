"""UI-PRMD as it is published becomes prepared folders of motion and of pairs."""

import json
import shutil
import zipfile

import numpy as np
import pytest

from datamodules.prepared.folder import PreparedFolder
from datamodules.sources.uiprmd.markers import MARKERS, joints_of_markers
from scripts.prepare import main as prepare
from tests.datamodules import uiprmd_tree as tree
from tests.places import SHARED

SAMPLE = SHARED / "data" / "motion" / "uiprmd_raw_sample_pddl.zip"
MOTION = SHARED / "data" / "motion" / "motion_h36m17_50fps.npz"


def run(source, output, *options):
    return prepare(["uiprmd", "--source", str(source), "--output", str(output), "--num_workers", "0", *options])


@pytest.fixture
def source(tmp_path):
    """Three people, one of them with an incorrect repetition."""
    markers = tree.swaying(tree.standing(), frames=120, fps=100.0)
    for name in ("m01_s01_e01", "m10_s01_e02", "m03_s04_e01", "m02_s08_e01"):
        tree.write_vicon(tmp_path / "in", name, markers)
    tree.write_vicon(tmp_path / "in", "m01_s01_e01", markers, incorrect=True)
    return tmp_path / "in"


def test_markers_become_joints_split_by_person(source, tmp_path):
    assert run(source, tmp_path / "out") == 0
    folder = PreparedFolder(tmp_path / "out", "uiprmd")
    found = {about["name"]: about for about in folder.sequences}
    assert {name: (about["subject"], about["action"], about["split"]) for name, about in found.items()} == {
        "m01_s01_e01_correct": ("UIPRMD01", "deep squat", "train"),
        "m01_s01_e01_incorrect": ("UIPRMD01", "deep squat (non-optimal)", "train"),
        "m10_s01_e02_correct": ("UIPRMD01", "standing shoulder scaption", "train"),
        "m03_s04_e01_correct": ("UIPRMD04", "inline lunge", "val"),
        "m02_s08_e01_correct": ("UIPRMD08", "hurdle step", "test"),
    }
    about = found["m03_s04_e01_correct"]
    expected = joints_of_markers(tree.swaying(tree.standing(), frames=120, fps=100.0))[::2]
    assert np.allclose(folder.column("joints_world")[about["start"] : about["stop"]], expected, atol=1e-5)
    assert folder.facts["fps"] == 50 and "Public Domain" in (tmp_path / "out" / "LICENSE.txt").read_text()


def test_archives_are_read_like_the_folder(source, tmp_path):
    archives = []
    for kind in ("Segmented Movements", "Incorrect Segmented Movements"):
        archives.append(tmp_path / f"{kind}.zip")
        with zipfile.ZipFile(archives[-1], "w") as file:
            for path in (source / kind).rglob("*.txt"):
                file.write(path, path.relative_to(source).as_posix())
    assert run(source, tmp_path / "a") == 0
    assert run(archives[0], tmp_path / "b", "--source", str(archives[1])) == 0
    one, other = (PreparedFolder(tmp_path / name, "uiprmd") for name in "ab")
    assert {about["name"] for about in one.sequences} == {about["name"] for about in other.sequences}
    assert one.num_rows == other.num_rows


def test_missing_markers_cut_a_repetition_and_faults_are_named(source, tmp_path):
    shutil.rmtree(source)
    markers = tree.swaying(tree.standing(), frames=400, fps=100.0)
    markers[20:24, MARKERS.index("LKNE")] = np.nan  # bridged
    markers[150:260, MARKERS.index("RASI")] = np.nan  # too long
    tree.write_vicon(source, "m01_s01_e01", markers)
    path = tree.write_vicon(source, "m01_s01_e02", markers)
    path.write_text(path.read_text().replace(",", " "))
    tree.write_vicon(source, "m01_s01_e03", markers[:40])
    tree.write_vicon(source, "m01_s01_e04", markers[:, :20])
    assert run(source, tmp_path / "out") == 1
    manifest = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert [about["name"] for about in manifest["sequences"]] == ["m01_s01_e01_correct#0", "m01_s01_e01_correct#1"]
    reasons = {name: reason.replace(str(path), "") for name, reason in manifest["skipped"]}
    assert "something else than numbers" in reasons["m01_s01_e02_correct"]
    assert "no 25 frames in a row are usable, of 20 at 50 fps" in reasons["m01_s01_e03_correct"]
    assert "has 60 numbers a line, expected 117" in reasons["m01_s01_e04_correct"]
    assert np.isfinite(np.load(tmp_path / "out" / "joints_world.npy")).all()


def test_a_kinect_that_saw_something_else_is_refused(source, tmp_path, capsys):
    tree.write_kinect(source, "m01_s01_e01", *tree.kinect_positions(36))
    assert run(source, tmp_path / "out", "--kinect") == 2
    error = capsys.readouterr().err
    assert "m01_s01_e01_correct: Kinect and Vicon are" in error and "m02_s08_e01_positions.txt is missing" in error


def test_pairs_of_an_npz_file(tmp_path, capsys):
    generator = np.random.default_rng(0)
    truth = generator.normal(0, 400, (60, 17, 3)).astype(np.int16)
    sensor = truth + 20
    sensor[40:] += 300
    arrays = {
        "kinect_mm": sensor,
        "vicon_mm": truth,
        "clip_start": np.array([0, 40]),
        "clip_end": np.array([40, 60]),
        "clip_name": np.array(["m01_s08_e01_correct", "m02_s01_e01_incorrect"]),
        "clip_movement": np.array([1, 2]),
        "clip_shift_s": np.array([0.1, 0.2]),
    }
    np.savez(tmp_path / "pairs.npz", **arrays)
    assert run(tmp_path / "pairs.npz", tmp_path / "out", "--kinect") == 1
    folder = PreparedFolder(tmp_path / "out", "uiprmd_kinect")
    (about,) = folder.sequences
    assert (about["subject"], about["split"], about["action"], about["shift"]) == (
        "UIPRMD08",
        "test",
        "deep squat",
        0.1,
    )
    assert np.allclose(folder.column("joints_sensor"), sensor[:40] / 1000) and folder.facts["fps"] == 30
    assert np.allclose(folder.column("joints_world"), truth[:40] / 1000)
    assert "m02_s01_e01_incorrect: Kinect and Vicon are 554 mm apart" in capsys.readouterr().err
    del arrays["vicon_mm"]
    np.savez(tmp_path / "pairs.npz", **arrays)
    assert run(tmp_path / "pairs.npz", tmp_path / "other", "--kinect") == 2
    assert "is no npz file with kinect_mm, vicon_mm" in capsys.readouterr().err


@pytest.mark.skipif(not SAMPLE.exists(), reason="needs the shared sample of UI-PRMD")
def test_real_repetitions_agree_with_an_independent_conversion(tmp_path):
    """Both estimate joints from skin to 1 or 2 cm; the other keeps bones rigid, which moves raised arms by more."""
    with zipfile.ZipFile(SAMPLE) as archive:
        for name in archive.namelist():
            if "m01_s07_e01" in name or "m07_s07_e01" in name:
                archive.extract(name, tmp_path / "in")
    assert run(tmp_path / "in", tmp_path / "out") == 0
    folder, clips = PreparedFolder(tmp_path / "out", "uiprmd"), np.load(MOTION)
    names = clips["clip_name"].tolist()
    for about in folder.sequences:
        clip = names.index(f"uiprmd_{about['name']}")
        rows = slice(clips["clip_start"][clip], clips["clip_end"][clip])
        other = (clips["pos3d_rootrel_mm"][rows].astype(float) + clips["root_mm"][rows, None]) / 1000
        here = folder.column("joints_world")[about["start"] : about["stop"]]
        frames = min(len(here), len(other))
        errors = np.linalg.norm(here[:frames] - other[:frames], axis=-1).mean(axis=0)
        assert errors[:11].mean() < 0.02 and errors[11:].mean() < 0.06
    assert run(tmp_path / "in", tmp_path / "pairs", "--kinect") == 0
    pairs = PreparedFolder(tmp_path / "pairs", "uiprmd_kinect")
    assert all(about["distance_mm"] < 60 for about in pairs.sequences)
