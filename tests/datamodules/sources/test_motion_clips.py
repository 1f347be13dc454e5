"""An npz file of clips becomes a prepared folder that keeps the file's split by person."""

import json
import re

import numpy as np
import pytest

from datamodules.prepared.folder import PreparedFolder
from datamodules.sources.common.body_fitting import rotations_of_joints
from scripts.prepare import main as prepare
from tests.places import SHARED

MOTION = SHARED / "data" / "motion" / "motion_h36m17_50fps.npz"
CLIPS = {  # name: subject, source, split
    "01_01": ("CMU01", "cmu-asfamc", "train"),
    "02_01": ("CMU02", "cmu-asfamc", "test"),
    "train/running_1": ("CMUx", "cmu-expmap-8", "train"),
    "uiprmd_m01": ("UIPRMD04", "uiprmd-vicon", "val"),
}
FRAMES = 30


def arrays():
    """Four clips of 30 frames, one of an unknown person."""
    generator = np.random.default_rng(0)
    starts = FRAMES * np.arange(len(CLIPS))
    return {
        "pos3d_rootrel_mm": generator.normal(0, 400, (FRAMES * len(CLIPS), 17, 3)).astype(np.float16),
        "root_mm": generator.normal(0, 1000, (FRAMES * len(CLIPS), 3)).astype(np.float32),
        "clip_start": starts,
        "clip_end": starts + FRAMES,
        "clip_name": np.array(list(CLIPS)),
        "clip_subject": np.array([subject for subject, _, _ in CLIPS.values()]),
        "clip_action": np.array(["walk"] * len(CLIPS)),
        "clip_source": np.array([source for _, source, _ in CLIPS.values()]),
        "clip_licence": np.array([f"licence of {source[:3]}" for _, source, _ in CLIPS.values()]),
        "clip_skeleton": np.array(["own"] * len(CLIPS)),
        "clip_source_fps": np.full(len(CLIPS), 120.0, np.float32),
        "clip_split": np.array([split for _, _, split in CLIPS.values()]),
    }


def run(source, output, *options):
    return prepare(["motion_clips", "--source", str(source), "--output", str(output), "--num_workers", "0", *options])


def test_clips_keep_their_split_and_unknown_people_are_left_out(tmp_path):
    written = arrays()
    np.savez(tmp_path / "clips.npz", **written)
    assert run(tmp_path / "clips.npz", tmp_path / "out") == 0
    folder = PreparedFolder(tmp_path / "out", "motion_clips")
    found = {about["name"]: about for about in folder.sequences}
    assert {name: (about["subject"], about["source"], about["split"]) for name, about in found.items()} == {
        name: facts for name, facts in CLIPS.items() if facts[0] != "CMUx"
    }
    joints = folder.column("joints_world")
    assert np.allclose(folder.column("poses"), rotations_of_joints(joints), atol=1e-5)
    for number, name in enumerate(CLIPS):
        if name in found:
            rows = slice(number * FRAMES, (number + 1) * FRAMES)
            expected = (written["pos3d_rootrel_mm"][rows].astype(float) + written["root_mm"][rows, None]) / 1000
            assert np.allclose(joints[found[name]["start"] : found[name]["stop"]], expected, atol=1e-6)
    assert found["01_01"]["skeleton"] == "own" and found["01_01"]["source_fps"] == 120.0
    assert folder.skeleton("joints_world") == "h36m_17" and folder.facts["fps"] == 50
    assert folder.facts["left_out"] == "1 clips of unknown people"
    assert (tmp_path / "out" / "LICENSE.txt").read_text().startswith("licence of cmu\nlicence of uip\n")


def test_one_source_is_a_folder_of_its_own(tmp_path):
    np.savez(tmp_path / "clips.npz", **arrays())
    assert run(tmp_path / "clips.npz", tmp_path / "out", "--only", "uiprmd") == 0
    manifest = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert [about["name"] for about in manifest["sequences"]] == ["uiprmd_m01"] and manifest["rows"] == FRAMES
    assert "licence of cmu" not in manifest["licence"]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"clip_licence": None}, "has no clip_licence; `noise2pose prepare motion_clips --help`"),
        (
            {"clip_split": np.array(["train", "test", "train", "dev"])},
            "clip_split has 'dev', expected train, val, test",
        ),
        ({"clip_name": np.array(["a", "b", "c", "a"])}, "1 clips have the same name as another, such as a"),
        ({"clip_end": np.array([30, 130, 90, 130])}, "clip uiprmd_m01 has rows 90 to 130 of 120"),
        ({"clip_end": np.array([30, 60])}, r"clip_end is \(2,\), expected \(4,\)"),
        ({"pos3d_rootrel_mm": np.zeros((120, 16, 3))}, r"pos3d_rootrel_mm is \(120, 16, 3\), expected \(120, 17, 3\)"),
        ({"root_mm": np.full((120, 3), np.nan)}, "joints of .* have NaN or infinity"),
        ({"fps": np.array(30)}, "at 30 Hz, expected pelvis, rhip, rknee at 50"),
        ({"joint_names": np.array(["pelvis", "lhip", "lknee"])}, "joints pelvis, lhip, lknee at 50 Hz"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, capsys, changed, message):
    written = {name: values for name, values in (arrays() | changed).items() if values is not None}
    np.savez(tmp_path / "clips.npz", **written)
    assert run(tmp_path / "clips.npz", tmp_path / "out") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and re.search(message, error), error


def test_what_is_no_npz_and_sources_that_are_not_there_are_refused(tmp_path, capsys):
    (tmp_path / "clips.npz").write_text("no archive")
    assert run(tmp_path / "clips.npz", tmp_path / "out") == 2 and "is no npz file of arrays" in capsys.readouterr().err
    assert run(tmp_path / "none.npz", tmp_path / "out") == 2 and "No such file" in capsys.readouterr().err
    np.savez(tmp_path / "clips.npz", **arrays())
    assert run(tmp_path / "clips.npz", tmp_path / "out", "--only", "cmu-expmap") == 2
    assert "has clips of cmu-asfamc, uiprmd-vicon" in capsys.readouterr().err


@pytest.mark.skipif(not MOTION.exists(), reason="needs the shared motion clips")
def test_nobody_is_in_two_splits_of_the_shared_clips():
    from datamodules.sources.motion_clips import UNKNOWN_PEOPLE, read_clips

    clips = read_clips(MOTION)
    people = {}
    for subject, split in zip(clips["clip_subject"].tolist(), clips["clip_split"].tolist(), strict=True):
        people.setdefault(subject, set()).add(split)
    assert all(len(splits) == 1 for splits in people.values())
    assert len(people.keys() - set(UNKNOWN_PEOPLE)) == 42
