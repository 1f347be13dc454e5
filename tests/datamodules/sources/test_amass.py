"""AMASS as it is published becomes poses, and what is wrong with a file is said."""

import json

import numpy as np
import pytest

from datamodules.prepared.folder import PreparedFolder
from scripts.prepare import main as prepare
from tests.datamodules import amass_tree


def run(source, output, *options):
    return prepare(["amass", "--source", str(source), "--output", str(output), "--num_workers", "0", *options])


def sequences(output):
    return {about["name"]: about for about in json.loads((output / "dataset.json").read_text())["sequences"]}


def test_motions_become_poses_with_vposers_splits(tmp_path):
    written = amass_tree.write(tmp_path / "amass")
    assert run(tmp_path / "amass", tmp_path / "out") == 0
    folder = PreparedFolder(tmp_path / "out", "amass")
    found = sequences(tmp_path / "out")
    assert {name: about["split"] for name, about in found.items()} == {
        "ACCAD/Female1General_c3d/A1_-_Stand_poses.npz": "train",
        "CMU/CMU/01/01_01_poses.npz": "train",
        "CMU/CMU/02/02_01_poses.npz": "test",
        "HumanEva/S1/Box_1_poses.npz": "val",
        "SSM_synced/20160330_03333/chicken_wings_poses.npz": "test",
    }
    about = found["ACCAD/Female1General_c3d/A1_-_Stand_poses.npz"]
    assert (about["dataset"], about["subject"], about["action"]) == ("ACCAD", "Female1General_c3d", "A1_-_Stand")
    for name, poses in written.items():
        about = found[name]
        rows = slice(about["start"], about["stop"])
        frames = np.arange(6, 54, 6)  # 60 frames at 60 Hz: without a tenth at each end, ten a second
        assert np.array_equal(folder.column("frame")[rows], frames)
        kept = folder.column("poses")[rows]
        assert np.allclose(kept[:, :22], poses[frames, :66].reshape(-1, 22, 3), atol=1e-6)
        assert not kept[:, 22:].any()


def test_smplx_files_are_read_too_and_rates_are_followed(tmp_path):
    source = tmp_path / "amass"
    slow = amass_tree.motion_smplx(source / "KIT" / "3" / "walk_stageii.npz", frames=50, rate=8.0)
    amass_tree.motion_smplx(source / "KIT" / "3" / "run_stageii.npz", frames=240, rate=120.0)
    np.savez(source / "KIT" / "3" / "neutral_stagei.npz", betas=np.zeros(16))
    assert run(source, tmp_path / "out", "--fps", "20") == 0
    folder, found = PreparedFolder(tmp_path / "out", "amass"), sequences(tmp_path / "out")
    about = found["KIT/3/walk_stageii.npz"]
    assert about["action"] == "walk" and about["stop"] - about["start"] == 40
    assert np.allclose(
        folder.column("poses")[about["start"] : about["stop"], :22].reshape(40, 66), slow[5:45, :66], atol=1e-6
    )
    about = found["KIT/3/run_stageii.npz"]
    assert about["stop"] - about["start"] == 32


def test_cmu_at_60_hz_is_known_where_smplx_files_have_120(tmp_path):
    for name in ("60/60_01", "02/02_01"):
        amass_tree.motion_smplx(tmp_path / "CMU" / f"{name}_stageii.npz", frames=120, rate=120.0)
    assert run(tmp_path, tmp_path / "out") == 0
    found = sequences(tmp_path / "out")
    assert [found[f"CMU/{name}_stageii.npz"]["rate"] for name in ("60/60_01", "02/02_01")] == [60.0, 120.0]


def test_what_is_no_motion_is_named_and_left_out(tmp_path, capsys):
    source = tmp_path / "amass"
    amass_tree.write(source)
    folder = source / "ACCAD" / "Male1"
    amass_tree.motion(folder / "few_poses.npz", columns=45)
    amass_tree.motion(folder / "rate_poses.npz", rate=float("nan"))
    (folder / "cut_poses.npz").write_bytes((folder / "few_poses.npz").read_bytes()[:300])
    np.savez(folder / "empty_poses.npz", betas=np.zeros(16))
    poses = amass_tree.motion(folder / "nan_poses.npz", seed=9)
    poses[12, 5] = np.nan
    np.savez(folder / "nan_poses.npz", poses=poses, mocap_framerate=60.0)
    assert run(source, tmp_path / "out") == 1
    said = capsys.readouterr().err
    for word in ("(60, 45)", "rate_poses.npz: `mocap_framerate`", "cut_poses", "no `poses`", "1 poses have NaN"):
        assert word in said
    about = sequences(tmp_path / "out")["ACCAD/Male1/nan_poses.npz"]
    assert about["stop"] - about["start"] == 7


def test_two_motions_of_one_name_are_both_there(tmp_path):
    for subject in ("1", "2"):
        amass_tree.motion(tmp_path / "amass" / "KIT" / subject / "walk_poses.npz", seed=int(subject))
    assert run(tmp_path / "amass", tmp_path / "out") == 0
    assert len(sequences(tmp_path / "out")) == 2


@pytest.mark.parametrize("options", [(), ("--fps", "0")])
def test_wrong_folders_and_rates_are_refused(tmp_path, capsys, options):
    (tmp_path / "other").mkdir()
    if options:
        amass_tree.write(tmp_path / "other")
    assert run(tmp_path / "other", tmp_path / "out", *options) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and ("--fps" if options else "is not AMASS") in said
