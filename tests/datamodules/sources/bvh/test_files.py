"""Folders of BVH become prepared folders, whatever their skeleton, unit and up axis, and their traps are seen."""

import json
import zipfile

import numpy as np
import pytest

from datamodules.prepared.folder import PreparedFolder
from datamodules.sources.bvh.files import subject_of
from scripts.prepare import main as prepare
from tests.datamodules import acclaim, bvh_files

LIMBS = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")


def names(limbs, left, right, **trunk):
    """Names of all joints of `bvh_files.PERSON`, with `*` for the side in those of the limbs."""
    trunk = {"pelvis": "Hips", "spine": "Chest", "thorax": "Neck", "chin": "Head", **trunk}
    for side, word in (("left", left), ("right", right)):
        trunk |= {f"{side}_{joint}": name.replace("*", word) for joint, name in zip(LIMBS, limbs.split(), strict=True)}
    return trunk


MIXAMO = names(
    "mixamorig:*UpLeg mixamorig:*Leg mixamorig:*Foot mixamorig:*Arm mixamorig:*ForeArm mixamorig:*Hand",
    *("Left", "Right"),
    pelvis="mixamorig:Hips",
    spine="mixamorig:Spine1",
    thorax="mixamorig:Neck",
    chin="mixamorig:Head",
)
FAMILIES = {
    "motionbuilder": MIXAMO,
    "bandai_namco": names("UpperLeg_* LowerLeg_* Foot_* UpperArm_* LowerArm_* Hand_*", "L", "R"),
    "100style": names("*Hip *Knee *Ankle *Shoulder *Elbow *Wrist", "Left", "Right", spine="Chest2"),
    "rokoko": names("*Thigh *Shin *Foot *Arm *ForeArm *Hand", "Left", "Right", spine="Spine2"),
    "daz": names("*Thigh *Shin *Foot *Shldr *ForeArm *Hand", "l", "r", pelvis="hip", spine="chest"),
    "biped": names(
        "Bip01 * Thigh,Bip01 * Calf,Bip01 * Foot,Bip01 * UpperArm,Bip01 * Forearm,Bip01 * Hand".replace(
            " ", "_"
        ).replace(",", " "),
        *("L", "R"),
        pelvis="Bip01_Pelvis",
        spine="Bip01_Spine1",
        thorax="Bip01_Neck",
        chin="Bip01_Head",
    ),
}


def run(source, output, *options):
    return prepare(["bvh", "--source", str(source), "--output", str(output), "--num_workers", "0", *options])


def manifest(folder):
    return json.loads((folder / "dataset.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_skeletons_are_recognised_by_their_joints(tmp_path, family):
    text, expected = bvh_files.person(FAMILIES[family], frames=60, fps=50.0)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "walk1_subject5.bvh").write_text(text)
    assert run(tmp_path / "in", tmp_path / "out") == 0
    folder = PreparedFolder(tmp_path / "out", "bvh")
    (about,) = folder.sequences
    assert (about["skeleton"], about["subject"], about["action"], about["unit"], about["up"]) == (
        *(family, "subject5", "walk", "cm", "y"),
    )
    assert np.allclose(folder.column("joints_world"), expected, atol=1e-4)


@pytest.mark.parametrize(
    "unit, scale, up",
    [("m", 1.0, "z"), ("cm", 100.0, "y"), ("mm", 1000.0, "x"), ("inch", 39.37, "z"), ("cmu", 17.717, "y")],
)
def test_unit_and_up_axis_are_told_from_the_body(tmp_path, unit, scale, up):
    text, expected = bvh_files.person(MIXAMO, frames=75, fps=25.0, scale=scale, up=up, order="XYZ")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.bvh").write_text(text)
    assert run(tmp_path / "in", tmp_path / "out") == 0
    (about,) = manifest(tmp_path / "out")["sequences"]
    assert (about["unit"], about["up"], about["subject"], about["source_fps"]) == (unit, up, "unknown", 25.0)
    joints = np.load(tmp_path / "out" / "joints_world.npy")
    assert len(joints) == 149
    height = joints[::2] - joints[::2, :1]
    assert np.allclose(height[..., 2], (expected - expected[:, :1])[..., 2], atol=2e-3)
    lengths = np.linalg.norm(joints[::2, 1] - joints[::2, 2], axis=-1)
    assert np.allclose(lengths, np.linalg.norm(expected[:, 1] - expected[:, 2], axis=-1), atol=2e-3)


def test_a_take_of_cmu_is_the_same_as_bvh_and_as_asf(tmp_path):
    """The conversion has lost the thorax bone and put a T-pose in front; both are mended."""
    acclaim.write(tmp_path / "asf", {"01": 1}, frames=300)
    acclaim.prepare(tmp_path / "asf", tmp_path / "expected")
    take = (tmp_path / "asf" / "01" / "01_01.amc").read_text()
    (tmp_path / "bvh").mkdir()
    (tmp_path / "bvh" / "01_01.bvh").write_text(bvh_files.cmu(take))
    assert run(tmp_path / "bvh", tmp_path / "out") == 0
    (about,) = manifest(tmp_path / "out")["sequences"]
    assert (about["skeleton"], about["unit"], about["subject"], about["source_fps"]) == ("cmu", "cmu", "01", 120.0)
    assert "thorax" in about["mended"] and "first frame" in about["left_out"]
    expected, found = (np.load(tmp_path / name / "joints_world.npy") for name in ("expected", "out"))
    assert len(found) == len(expected) and np.abs(found - expected).max() < 1e-4
    (tmp_path / "bvh" / "01_01.bvh").write_text(bvh_files.cmu(take, lost_thorax=False, t_pose=False))
    assert run(tmp_path / "bvh", tmp_path / "out") == 0
    assert "mended" not in manifest(tmp_path / "out")["sequences"][0]
    assert np.abs(np.load(tmp_path / "out" / "joints_world.npy") - expected).max() < 1e-4


def test_frame_rates_of_cmu_and_of_the_user_count_more_than_the_header(tmp_path):
    text, _ = bvh_files.person(MIXAMO, frames=120, fps=120.0)
    for name in ("60_02", "02_01"):
        (tmp_path / f"{name}.bvh").write_text(text)
    assert run(tmp_path, tmp_path / "out") == 0
    assert {about["name"]: about["source_fps"] for about in manifest(tmp_path / "out")["sequences"]} == {
        "02_01": 120.0,
        "60_02": 60.0,
    }
    assert run(tmp_path, tmp_path / "out", "--source_fps", "100,60=30") == 0
    assert [about["source_fps"] for about in manifest(tmp_path / "out")["sequences"]] == [100.0, 30.0]
    assert run(tmp_path, tmp_path / "other", "--source_fps", "61=30") == 2


def test_a_head_top_that_is_missing_is_estimated(tmp_path):
    text, expected = bvh_files.person(FAMILIES["rokoko"], fps=50.0, head_top=False)
    (tmp_path / "a.bvh").write_text(text)
    assert run(tmp_path, tmp_path / "out") == 0
    assert "the head top" in manifest(tmp_path / "out")["sequences"][0]["estimated"]
    assert np.abs(np.load(tmp_path / "out" / "joints_world.npy") - expected).max() < 0.025


def test_other_skeletons_come_with_a_joint_map(tmp_path, capsys):
    own = {joint: f"Bone{number}" for number, joint in enumerate(bvh_files.PERSON)}
    text, expected = bvh_files.person(own, fps=50.0)
    (tmp_path / "a.bvh").write_text(text)
    assert run(tmp_path, tmp_path / "out") == 2
    assert "a.bvh: is of no known skeleton (Bone0, Bone1, " in capsys.readouterr().err
    joint_map = tmp_path / "map.json"
    joint_map.write_text(json.dumps({**own, "head_top": "Bone9.end"}))
    assert run(tmp_path, tmp_path / "out", "--joint_map", str(joint_map)) == 0
    assert np.allclose(np.load(tmp_path / "out" / "joints_world.npy"), expected, atol=1e-4)
    for wrong, message in (
        ({**own, "left_hip": "Bone77"}, "has no Bone77, which the joint map has for left_hip"),
        ({**own, "nose": "Bone9"}, "nose is no joint; joints are pelvis, "),
        ({"pelvis": "Bone0"}, "chin is missing"),
        ([1], "is no JSON object"),
    ):
        joint_map.write_text(json.dumps(wrong))
        assert run(tmp_path, tmp_path / "other", "--joint_map", str(joint_map)) == 2
        assert message in capsys.readouterr().err


def test_what_is_no_person_is_refused_in_one_line(tmp_path, capsys):
    files = {
        "mirrored": bvh_files.person(MIXAMO, mirrored=True)[0],
        "tiny": bvh_files.person(MIXAMO, scale=0.004)[0],
        "broken": bvh_files.person(MIXAMO)[0][:500],
        "short": bvh_files.person(MIXAMO, frames=10)[0],
    }
    for name, text in files.items():
        (tmp_path / f"{name}.bvh").write_text(text)
    assert run(tmp_path, tmp_path / "out") == 2
    (tmp_path / "good.bvh").write_text(bvh_files.person(MIXAMO)[0])
    assert run(tmp_path, tmp_path / "out") == 1
    reasons = dict(reason.split(".bvh: ", 1) for _, reason in manifest(tmp_path / "out")["skipped"])
    assert "its knees bend" in reasons["mirrored"] and "--joint_map" in reasons["mirrored"]
    assert "no person's in any of m, dm, cm" in reasons["tiny"]
    assert "not a BVH file, or truncated" in reasons["broken"]
    assert "no 25 frames in a row are usable" in reasons["short"]
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", tmp_path / "other") == 2 and "found no .bvh files" in capsys.readouterr().err


def test_archives_and_folders_are_read_alike_and_the_licence_is_the_users(tmp_path):
    text, _ = bvh_files.person(MIXAMO)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("set/anna/Walk_02.bvh", text)
        archive.writestr("__MACOSX/set/anna/._Walk_02.bvh", "not a motion")
    assert run(tmp_path / "a.zip", tmp_path / "out", "--licence", "CC BY 4.0, Somebody") == 0
    found = manifest(tmp_path / "out")
    assert [(about["name"], about["subject"], about["action"]) for about in found["sequences"]] == [
        ("set/anna/Walk_02", "anna", "Walk")
    ]
    assert "CC BY 4.0, Somebody" in (tmp_path / "out" / "LICENSE.txt").read_text()


def test_subjects_are_told_from_names():
    assert [subject_of(name) for name in ("a/02_01", "b/walk1_Subject3", "c/d/x", "x")] == [
        "02",
        "subject3",
        "d",
        "unknown",
    ]
