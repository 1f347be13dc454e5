"""MPI-INF-3DHP as its publisher and the community ship it, prepared through the command line."""

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.prepared.folder import PreparedFolder
from datamodules.sources.common import video_frames
from scripts.prepare import main
from tests import forks
from tests.datamodules import mpi_inf_3dhp_tree as tree


def prepare(source: Path, output: Path, *options: str) -> int:
    fixed = [] if "--cameras" in options else ["--cameras", "0,8"]
    fixed += [] if "--num_workers" in options else ["--num_workers", "0"]
    return main(["mpi_inf_3dhp", "--source", str(source), "--output", str(output), *fixed, *options])


def folder_of(root: Path) -> PreparedFolder:
    return PreparedFolder(root, "mpi_inf_3dhp")


def rows_of(folder: PreparedFolder, name: str) -> slice:
    return next(slice(s["start"], s["stop"]) for s in folder.sequences if s["name"] == name)


def facts_of(folder: PreparedFolder, name: str) -> dict:
    return next(sequence for sequence in folder.sequences if sequence["name"] == name)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The whole tree and its prepared folder."""
    place = tmp_path_factory.mktemp("whole")
    tree.write(place / "source")
    assert prepare(place / "source", place / "out") == 0
    return place


def test_every_frame_of_the_training_set(whole):
    folder = folder_of(whole / "out")
    rows = rows_of(folder, "S1_Seq1_8")
    positions = tree.people(108, 12, 28)
    pixels = tree.project(positions, tree.intrinsics(8))[:, tree.OF_28]
    scaled = tree.universal(positions, 4)[:, tree.OF_28]
    for name, values in (("keypoints_3d", positions[:, tree.OF_28]), ("keypoints_3d_univ", scaled)):
        found = folder.column(name)[rows]
        np.testing.assert_allclose(found[..., :3], values / 1000, atol=1e-6)
        assert (found[..., 3] == 1).all()
    keypoints = folder.column("keypoints_2d_gt")[rows]
    np.testing.assert_allclose(keypoints[..., :2], pixels, rtol=1e-6)
    bounds = np.concatenate((pixels.min(axis=1), pixels.max(axis=1)), axis=1)
    np.testing.assert_allclose(folder.column("bounds")[rows], bounds, rtol=1e-6)
    assert folder.column("frame")[rows].tolist() == list(range(1, 13)) and folder.column("valid")[rows].all()
    lens = tree.intrinsics(8)
    np.testing.assert_allclose(folder.column("focal")[rows], np.tile(lens[:2], (12, 1)), rtol=1e-6)
    np.testing.assert_allclose(folder.column("principal_point")[rows], np.tile(lens[2:], (12, 1)), rtol=1e-6)
    facts = facts_of(folder, "S1_Seq1_8")
    assert facts["camera_known_from"] == "calibration" and facts["projection_rms"] == 0.0 and facts["fps"] == 25


def test_the_test_set_and_its_cameras(whole):
    folder = folder_of(whole / "out")
    for name, seed, frames, size in (("TS1", 1, 20, (128, 128)), ("TS5", 5, 16, (192, 108))):  # TS5 in MATLAB's order
        rows, positions = rows_of(folder, name), tree.people(7000 + seed, frames, 17)
        np.testing.assert_allclose(folder.column("keypoints_3d")[rows, :, :3], positions / 1000, atol=1e-6)
        scaled = tree.universal(positions, tree.PELVIS)
        np.testing.assert_allclose(folder.column("keypoints_3d_univ")[rows, :, :3], scaled / 1000, atol=1e-6)
        lens = tree.intrinsics(0, size)
        np.testing.assert_allclose(folder.column("focal")[rows], np.tile(lens[:2], (frames, 1)), rtol=1e-5)
        np.testing.assert_allclose(folder.column("principal_point")[rows], np.tile(lens[2:], (frames, 1)), rtol=1e-5)
        assert (folder.column("image_size")[rows] == size).all()
        assert folder.column("valid")[rows].tolist() == [frame % 3 > 0 for frame in range(frames)]
        facts = facts_of(folder, name)
        assert facts["camera_known_from"] == "joints" and facts["projection_rms"] < 1e-3


def test_images_show_their_frames(whole):
    folder = folder_of(whole / "out")
    names, root = folder.images(), folder.image_root()
    numbers, frames = folder.column("picture"), folder.column("frame")
    for name, expected in (("S1_Seq1_0", [1, 11]), ("S2_Seq2_8", [1, 11]), ("TS1", list(range(1, 21)))):
        rows = np.arange(folder.num_rows)[rows_of(folder, name)]
        shown = rows[numbers[rows] >= 0]
        assert frames[shown].tolist() == expected
        for row in shown.tolist():
            with Image.open(root / names[numbers[row]]) as image:
                brightness = np.asarray(image).mean()
            assert abs(brightness - tree.brightness(int(frames[row]) - 1)) < 2.5, names[numbers[row]]
    # Only those of videos were written; the others are reached by links.
    written = [
        path
        for path in (whole / "out" / "images").rglob("*.jpg")
        if not path.resolve().is_relative_to(whole / "source")
    ]
    assert len(written) == 4


def test_a_source_that_moved_and_endings_in_capitals(whole, tmp_path):
    shutil.copytree(whole / "source", tmp_path / "source")
    for video in tmp_path.rglob("*.avi"):
        video.rename(video.with_suffix(".AVI"))
    assert prepare(tmp_path / "source", tmp_path / "out") == 0
    assert folder_of(tmp_path / "out").manifest["counts"]["train: images"] == 8
    (tmp_path / "source").rename(tmp_path / "moved")
    assert prepare(tmp_path / "moved", tmp_path / "out") == 0
    folder = folder_of(tmp_path / "out")
    assert all((folder.image_root() / name).is_file() for name in folder.images())


def test_counts(whole, capsys):
    assert prepare(whole / "source", whole / "out") == 0  # already prepared
    manifest = folder_of(whole / "out").manifest
    counts = manifest["counts"]
    assert counts["train: frames"] == 48 and counts["train: images"] == 8 and counts["test: images"] == 36
    assert counts["test: frames"] == 36 and counts["test: valid frames"] == 13 + 10
    expected = {count["what"]: count["expected"] for count in manifest["expected"]}
    assert expected["test: valid frames"] == 2929 and expected["train: frames"] == 131_592 * 2
    assert "warning: test: valid frames: found 23, published 2,929" in capsys.readouterr().err
    assert sorted(manifest["sources"])[0] == "S1/Seq1/annot.mat" and len(manifest["sources"]) == 6


def test_joints_outside_the_image_are_counted_not_dropped(tmp_path):
    tree.write_test(tmp_path / "TS1", frames=3, valid=[1, 1, 0])
    with __import__("h5py").File(tmp_path / "TS1" / "annot_data.mat", "r+") as file:
        file["annot2"][0, 0, 3] = (-0.5, 10.0)
        file["annot2"][1, 0, 3] = (127.5, 0.0)
    prepare(tmp_path, tmp_path / "out")
    folder = folder_of(tmp_path / "out")
    assert folder.num_rows == 3
    assert folder.manifest["counts"]["test: valid frames with all joints in the image"] == 1


@pytest.mark.parametrize(
    "options", [{"people_axis": False}, {"reverse": True}, {"people_axis": False, "reverse": True}]
)
def test_orders_of_axes(tmp_path, options):
    for name, frames in (("TS1", 5), ("TS2", 17), ("TS3", 3), ("TS4", 2)):  # numbers that other axes have as well
        tree.write_test(tmp_path / name, frames=frames, images=False, **options)
    assert prepare(tmp_path, tmp_path / "out") == 0
    folder = folder_of(tmp_path / "out")
    for name, frames in (("TS1", 5), ("TS3", 3), ("TS4", 2)):
        found = folder.column("keypoints_3d")[rows_of(folder, name), :, :3]
        np.testing.assert_allclose(found, tree.people(7000, frames, 17) / 1000, atol=1e-6)
    assert "ambiguous" in facts_of(folder, "TS2")["array_order"]
    assert "ambiguous" not in facts_of(folder, "TS1")["array_order"]


def test_optional_fields_may_be_missing(tmp_path):
    tree.write_recording(tmp_path / "S1" / "Seq1", optional=False)
    tree.write_test(tmp_path / "TS1", optional=False, images=False)
    assert prepare(tmp_path, tmp_path / "out") == 0
    folder = folder_of(tmp_path / "out")
    assert "keypoints_3d_univ" not in folder and facts_of(folder, "TS1")["annotations"] == ["annot3"]
    assert folder.manifest["facts"]["layout"] == {"train": "official", "test": "official"}


def test_without_images_nothing_is_decoded(tmp_path):
    tree.write(tmp_path / "source")
    assert prepare(tmp_path / "source", tmp_path / "out", "--no_images") == 0
    folder = folder_of(tmp_path / "out")
    assert (folder.column("picture") == -1).all() and folder.manifest["picture_root"] is None
    assert not (tmp_path / "out" / "images").exists()


def test_files_of_p_stmo_and_d3dp(tmp_path, capsys):
    tree.write_npz(tmp_path / "d3dp" / "data", "_ori")
    tree.write_npz(tmp_path / "p-stmo", universal_skeleton=True)
    assert prepare(tmp_path / "d3dp", tmp_path / "annot3") == 0
    folder = folder_of(tmp_path / "annot3")
    rows = rows_of(folder, "S2_Seq1_8")
    positions = tree.people(28, 12, 17)
    np.testing.assert_allclose(folder.column("keypoints_3d")[rows, :, :3], positions / 1000, atol=1e-6)
    pixels = tree.project(positions, tree.intrinsics(8, (2048, 2048)))
    np.testing.assert_allclose(folder.column("keypoints_2d_gt")[rows, :, :2], pixels, rtol=1e-6)
    assert facts_of(folder, "S2_Seq1_8") | {
        "annotations": ["annot3"],
        "subject": "S2",
        "action": "Seq1",
        "fps": 25,
    } == (facts_of(folder, "S2_Seq1_8"))
    test = rows_of(folder, "TS5")
    assert folder.column("valid")[test].sum() == 10 and (folder.column("image_size")[test] == (1920, 1080)).all()
    assert folder.manifest["counts"]["train: frames"] == 48

    assert prepare(tmp_path / "p-stmo", tmp_path / "univ", "--annotation", "univ_annot3") == 0
    folder = folder_of(tmp_path / "univ")
    scaled = tree.universal(positions, tree.PELVIS)
    np.testing.assert_allclose(folder.column("keypoints_3d_univ")[rows, :, :3], scaled / 1000, atol=1e-6)
    assert "keypoints_3d" not in folder
    # Only the pelvis still lies on its pixel, and tells the camera.
    assert facts_of(folder, "S2_Seq1_8")["camera_known_from"] == "pelvis"
    np.testing.assert_allclose(folder.column("focal")[rows][0], tree.intrinsics(8, (2048, 2048))[:2], rtol=1e-5)

    capsys.readouterr()
    assert prepare(tmp_path / "p-stmo", tmp_path / "unknown") == 0
    assert "annot3 or univ_annot3 cannot be told" in capsys.readouterr().err
    assert facts_of(folder_of(tmp_path / "unknown"), "TS1")["annotations"] == ["unknown"]
    assert prepare(tmp_path / "d3dp", tmp_path / "wrong", "--annotation", "univ_annot3") == 2
    assert "is annot3 by its name" in capsys.readouterr().err


def test_both_layouts_fill_different_splits(tmp_path, capsys):
    tree.write_npz(tmp_path, "_ori")
    tree.write_recording(tmp_path / "S1" / "Seq1")
    assert prepare(tmp_path, tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "train: taken from official" in said and "test: taken from data_test_3dhp_ori.npz, annot3" in said
    assert "train: data_train_3dhp_ori.npz is there too; --layout npz takes it" in said
    names = [sequence["name"] for sequence in folder_of(tmp_path / "out").sequences]
    assert names == ["S1_Seq1_0", "S1_Seq1_8", "TS1", "TS5"]
    assert prepare(tmp_path, tmp_path / "npz", "--layout", "npz") == 0
    assert "S2_Seq1_8" in [sequence["name"] for sequence in folder_of(tmp_path / "npz").sequences]


def test_what_is_broken_is_named_and_the_rest_prepared(tmp_path, capsys):
    source = tmp_path / "source"
    tree.write(source)
    tests = source / "mpi_inf_3dhp_test_set" / "mpi_inf_3dhp_test_set"
    tree.write_recording(source / "S3" / "Seq1", videos=(0, 8), video_frames=7, broken=np.array([[8, 4, 14]]))
    tree.write_recording(source / "S4" / "Seq1", videos=(8,))
    tree.write_recording(source / "S5" / "Seq1", images=(0, 8))
    tree.write_recording(source / "S6" / "Seq1", images=(0, 8))
    tree.write_test(tests / "TS2", broken=[(3, 5), (4, 5)])
    tree.write_test(tests / "TS3")
    tree.write_test(tests / "TS4")
    cut = source / "S1" / "Seq1" / "annot.mat"
    cut.write_bytes(cut.read_bytes()[:20_000])
    (source / "S5" / "Seq1" / "camera.calibration").unlink()
    (source / "S6" / "Seq1" / "annot.mat").unlink()
    (source / "S4" / "Seq1" / "imageSequence" / "video_8.avi").write_bytes(b"no video")
    cut = tests / "TS3" / "annot_data.mat"
    cut.write_bytes(cut.read_bytes()[:5000])
    (tests / "TS4" / "imageSequence" / "img_000001.jpg").write_text("no image")
    (tests / "TS4" / "imageSequence" / "img_000005.jpg").unlink()
    assert prepare(source, tmp_path / "out", "--stride", "3") == 1
    said = capsys.readouterr().err
    for line in (
        "skipped: S1_Seq1_0 and 1 more parts: ", "annot.mat cannot be read as a MATLAB file, version 5",
        "skipped: S3/Seq1/video_0.avi: 1 of 4 frames have no image: ends before frame 9",
        "skipped: S3/Seq1/annot.mat: camera 8: 2 joints are not finite; they count as absent",
        "skipped: S4/Seq1/imageSequence/video_0.avi: is missing; those frames have no image",
        "video_8.avi: cannot be read as a video",
        "S5/Seq1/camera.calibration cannot be read",
        "skipped: S6/Seq1/annot.mat: is missing; the recording is left out",
        "skipped: TS2/annot_data.mat: 2 joints are not finite; they count as absent",
        "TS3/annot_data.mat cannot be read as a MATLAB file, version 7.3",
        "skipped: TS4/imageSequence/img_000001.jpg: cannot be opened; the size of the publication is taken",
        "skipped: TS4/imageSequence: 1 of 20 frames have no image, the first is img_000005.jpg",
    ):  # fmt: skip
        assert line in said, line
    folder = folder_of(tmp_path / "out")
    names = [sequence["name"] for sequence in folder.sequences]
    assert names == [
        *("S2_Seq2_0", "S2_Seq2_8", "S3_Seq1_0", "S3_Seq1_8", "S4_Seq1_0", "S4_Seq1_8", "S5_Seq1_0", "S5_Seq1_8"),
        *("TS1", "TS2", "TS4", "TS5"),
    ]
    broken = folder.column("keypoints_3d")[rows_of(folder, "S3_Seq1_8")][4]  # joint 14 of 28 is 2 of 17
    assert (broken[2] == 0).all() and (np.delete(broken, 2, axis=0)[:, 3] == 1).all()
    assert folder.column("keypoints_2d_gt")[rows_of(folder, "S3_Seq1_8")][4, 2, 2] == 0
    lost = facts_of(folder, "S5_Seq1_8")
    assert lost["camera_known_from"] == "joints"
    np.testing.assert_allclose(lost["focal"], tree.intrinsics(8)[:2], rtol=1e-4)


def test_npz_that_is_broken(tmp_path, capsys):
    tree.write_npz(tmp_path, "_ori")
    path = tmp_path / "data_test_3dhp_ori.npz"
    path.write_bytes(path.read_bytes()[:4000])
    assert prepare(tmp_path, tmp_path / "out") == 1
    assert "data_test_3dhp_ori.npz cannot be read as an npz file" in capsys.readouterr().err


def test_wrong_folders_and_options(tmp_path, capsys):
    (tmp_path / "S1").mkdir()
    cases = {
        (): "is not MPI-INF-3DHP: looked for S1/Seq1/annot.mat",
        ("--cameras", "0,14"): "--cameras: found 0,14, expected numbers from 0 to 13",
        ("--stride", "0"): "--stride is 0, expected at least 1",
    }
    for options, message in cases.items():
        assert prepare(tmp_path, tmp_path / "out", *options) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "S1" / "Seq1").mkdir()
    assert prepare(tmp_path, tmp_path / "out") == 2
    assert "S1/Seq1/annot.mat is missing" in capsys.readouterr().err


def test_room_on_the_disk_is_checked_first(tmp_path, capsys, monkeypatch):
    tree.write_recording(tmp_path / "S1" / "Seq1", videos=(0, 8))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10_000))  # type: ignore
    assert prepare(tmp_path, tmp_path / "out") == 2
    assert "4 images need about 0.0 GB and 0.0 GB are free; raise --stride" in capsys.readouterr().err


def prepare_until_killed(source, output, *options):
    """Kills this process as the system would, before it writes an image of subject 4."""
    write = video_frames._write_jpeg

    def killed(path, pixels):
        if "S4" in path.parts and path.name == video_frames.frame_name(30):
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, pixels)

    video_frames._write_jpeg = killed
    prepare(source, output, *options)


@pytest.mark.slow
def test_killed_while_decoding_it_ends_with_the_same_bytes(tmp_path):
    tree.write(tmp_path / "source")
    tree.write_recording(tmp_path / "source" / "S4" / "Seq1", frames=60, videos=(0, 8))
    options = ("--stride", "1", "--num_workers", "2")
    assert prepare(tmp_path / "source", tmp_path / "one", "--stride", "1") == 0
    process = forks.start(prepare_until_killed, tmp_path / "source", tmp_path / "two", *options[:2])
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "two" / "dataset.json").exists()
    kept = next((tmp_path / "two").rglob("S4/Seq1/imageFrames/video_0/*.jpg"))
    written = kept.stat().st_mtime_ns
    assert prepare(tmp_path / "source", tmp_path / "two", *options) == 0
    assert kept.stat().st_mtime_ns == written  # not encoded again
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert json.loads((tmp_path / "one" / "dataset.json").read_text())["counts"]["train: images"] == 168
