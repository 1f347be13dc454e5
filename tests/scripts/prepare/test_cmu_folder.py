"""What is written of the CMU archive, and what of it is left out."""

import hashlib
import json
import re
import zipfile

import numpy as np
import pytest

from datamodules.cmu_mocap import CMUMocap
from datamodules.sources.common.motion import usable_segments
from noise2pose.errors import InputError
from tests.datamodules import acclaim
from tests.datamodules.acclaim import amc, asf
from tests.places import SHARED
from tests.scripts.prepare.cmu import arrays, folder_of, prepare

CMU = SHARED / "data" / "cmu_mocap"


def test_the_folder_says_what_it_holds(prepared):
    out, printed = prepared
    columns = {"joints_world": (17, 3), "poses": (24, 3), "translation_world": (3,)}
    manifest = json.loads((out / "dataset.json").read_text())
    assert manifest["counts"]["clips"] == 4 and manifest["facts"]["fps"] == 50
    clips = manifest["sequences"]
    assert [clip["name"] for clip in clips] == ["01_01", "01_02", "01_03", "02_01"]
    assert [clip["action"] for clip in clips[:2]] == ["forward jumps, turn", "playground climb"]
    assert clips[3]["source_frames"] == 600 and clips[3]["source_sha256"] == (
        hashlib.sha256(amc(frames=600, seed=9).encode()).hexdigest()
    )
    stops = [0, *(clip["stop"] for clip in clips)]
    assert [clip["start"] for clip in clips] == stops[:-1] == [0, 100, 200, 300]
    for name, shape in columns.items():
        array = np.load(out / f"{name}.npy", mmap_mode="r")
        assert array.dtype == np.float32 and array.shape == (stops[-1], *shape)
    for text in ("free for use in research projects", "NSF EIA-0196217"):
        assert text in (out / "LICENSE.txt").read_text() and text in printed and text in manifest["licence"]
    joints = np.load(out / "joints_world.npy")
    assert joints[:, 10, 2].mean() > joints[:, 3, 2].mean() + 1.0  # z up: the head above the feet


def test_the_data_module_reads_the_folder(prepared):
    names = {split: [clip.name for clip in CMUMocap(str(prepared[0])).clips(split)] for split in ("train", "test")}
    assert names == {"train": ["01_01", "01_02", "01_03"], "test": ["02_01"]}


def test_a_malformed_clip_is_named_in_the_manifest_and_on_the_screen(prepared):
    out, printed = prepared
    ((name, reason),) = json.loads((out / "dataset.json").read_text())["skipped"]
    assert name == "02_02"
    assert re.match(r"all_asfamc/subjects/02/02_02.amc, line \d+: head: found 'x .*', expected 3 numbers", reason)
    assert f"skipped: {reason}" in printed


@pytest.mark.parametrize(
    "skeleton, motion, reason",
    [
        (asf().replace("lfemur", "lthigh"), amc().replace("lfemur", "lthigh"), "01.asf: has no bone lfemur"),
        (asf()[:900], amc(), "01.asf: no bones in section :hierarchy"),
        (asf(), amc(frames=40), "01_01.amc: no 25 frames in a row are usable, of 17 at 50 fps"),
        (asf(), amc(frames=1), "01_01.amc: no 25 frames in a row are usable, of 1 at 50 fps"),
        (asf(), re.sub(r"(?m)^root \S+", "root 1e300", amc()), "01_01.amc: its numbers are too large"),
    ],
)
def test_what_shows_only_after_parsing_is_skipped_too(tmp_path, skeleton, motion, reason):
    with pytest.raises(InputError, match=f"nothing could be prepared; .*{reason}"):
        acclaim.prepare(folder_of(tmp_path / "in", [motion], skeleton), tmp_path / "out")


def test_tracking_errors_are_cut_out():
    joints = np.zeros((200, 17, 3))
    joints[:, :, 0] = np.arange(200)[:, None] * 0.27  # 13.5 m/s
    assert usable_segments(joints) == [(0, 200)]
    joints[60:, 3] += 0.5  # between frames 59 and 60
    joints[190:, 3] += 0.5
    assert usable_segments(joints) == [(0, 56), (64, 186)]
    joints[20:, 3] += 0.5
    assert usable_segments(joints) == [(24, 56), (64, 186)]
    assert usable_segments(joints[:24]) == []


def test_a_cut_clip_becomes_segments(tmp_path):
    lines = amc(frames=600).split("\n")
    for number, line in enumerate(lines):
        if line.startswith("root") and int(lines[number - 1]) > 300:
            lines[number] = re.sub(r"^root (\S+)", lambda match: f"root {float(match[1]) + 30}", line)
    manifest = acclaim.prepare(folder_of(tmp_path / "in", ["\n".join(lines)]), tmp_path / "out")
    frames = np.load(tmp_path / "out" / "frame.npy")
    segments = [(c["name"], c["start"], c["stop"], frames[c["start"]]) for c in manifest["sequences"]]
    assert segments == [("01_01#0", 0, 121, 0), ("01_01#1", 121, 242, 129)]
    assert manifest["counts"] == {"clips": 1, "segments": 2, "frames cut as tracking errors": 8}
    joints = np.load(tmp_path / "out" / "joints_world.npy")
    whole = acclaim.prepare(folder_of(tmp_path / "b", [amc(frames=600)]), tmp_path / "whole")
    assert whole["counts"]["frames cut as tracking errors"] == 0
    assert np.array_equal(joints[:121], np.load(tmp_path / "whole" / "joints_world.npy")[:121])


def test_a_folder_is_read_like_the_archive_and_a_second_run_changes_nothing(archive, prepared, tmp_path):
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "unpacked")
    (tmp_path / "unpacked" / "all_asfamc" / "subjects" / "02" / "02_02.amc").unlink()
    prepare("--source", tmp_path / "unpacked", "--output", tmp_path / "out")
    assert arrays(prepared[0]) == arrays(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    prepare("--source", tmp_path / "unpacked", "--output", tmp_path / "out")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def test_several_archives_and_folders_are_read_as_one(archive, prepared, tmp_path):
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        whole.extractall(tmp_path / "all")
        for name in whole.namelist():
            if "/02/" in name and not name.endswith("02_02.amc"):
                other.writestr(name, whole.read(name))
    first, second = tmp_path / "all" / "all_asfamc" / "subjects" / "01", tmp_path / "other.zip"
    prepare("--source", second, first, "--output", tmp_path / "out")
    assert arrays(prepared[0]) == arrays(tmp_path / "out")
    assert "clip 02_01 is in" in prepare("--source", second, "--source", archive, "--output", tmp_path / "x", status=2)


@pytest.mark.slow
@pytest.mark.skipif(not CMU.exists(), reason="the CMU files are not here")
def test_the_real_files_are_prepared_whole_and_cut_where_the_tracking_fails(tmp_path):
    manifest = acclaim.prepare(CMU / "all_asfamc_subjects_01-03.zip", tmp_path / "out")
    assert manifest["counts"]["clips"] == 28 and not manifest["skipped"]
    clips = {clip["name"]: clip for clip in manifest["sequences"]}
    with np.load(CMU / "cmu_motion_50fps.npz") as other:
        for name, action, start, stop in zip(
            *(other[key][:30].tolist() for key in ("clip_name", "clip_action", "clip_start", "clip_end")), strict=True
        ):
            assert clips[name]["action"] == action
            assert abs(clips[name]["stop"] - clips[name]["start"] - (stop - start)) <= 1, name
