"""Poses of every source as batches of people."""

import pytest
import roma
import torch

from datamodules.cmu_mocap import read_clips
from datamodules.mixture import Mixture
from datamodules.motion_poses import MotionPoses
from noise2pose import cameras
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from scripts.prepare import main as prepare
from tests.datamodules import acclaim, amass_tree


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Prepared folders of CMU and AMASS."""
    home = tmp_path_factory.mktemp("motion")
    acclaim.prepare(acclaim.write(home / "source", {"01": 8, "02": 2}, frames=90), home / "cmu")
    amass_tree.write(home / "published")
    prepare(["amass", "--source", str(home / "published"), "--output", str(home / "amass"), "--num_workers", "0"])
    return home


def data(source, roots, **options):
    root = None if source == "synthetic" else str(roots / source)
    return MotionPoses(source, root=root, clips_per_activity=2, **{"train_stride": 5, "eval_stride": 5, **options})


@pytest.mark.parametrize("source", ["synthetic", "cmu", "amass"])
def test_a_batch_is_a_person_in_front_of_a_camera(source, roots):
    module = data(source, roots)
    batch = module.load("val")
    number = len(batch["sample_id"])
    assert number and len(set(batch["sample_id"])) == number
    joints = BodyModel.load("free").joints(**batch["smpl"], translation=batch["camera_translation"])
    assert torch.allclose(joints, batch["keypoints_3d"][..., :3], atol=1e-5)
    camera = batch["camera"]
    pixels = cameras.project(joints, camera["focal"], camera["principal_point"])
    assert torch.allclose(pixels, batch["keypoints_2d"][..., :2], atol=1e-2)
    assert batch["has_smpl"].all() and batch["smpl"]["betas"].abs().max() <= 2.0
    again = data(source, roots).load("val")
    assert torch.equal(again["keypoints_3d"], batch["keypoints_3d"])
    assert module.protocols("val")[0].dataset == f"{source}_poses"


@pytest.mark.parametrize("source", ["synthetic", "cmu", "amass"])
def test_no_pose_is_in_two_splits(source, roots):
    names = [set(data(source, roots).poses(split).names) for split in ("train", "val", "test")]
    assert all(names) and not (names[0] & names[1] | names[0] & names[2] | names[1] & names[2])


def test_other_motion_is_split_by_person(roots):
    module = MotionPoses("motion", root=str(roots / "cmu"))
    subjects = {split: set(module.poses(split).subjects) for split in ("train", "test")}
    assert subjects == {"train": {"01"}, "test": {"02"}} and module.dataset == "cmu_poses"
    with pytest.raises(InputError, match="has no poses for val"):
        module.poses("val")


def test_poses_are_those_of_the_clips_and_stand_upright(roots):
    poses = data("cmu", roots, train_stride=3).poses("train")
    clips = read_clips(roots / "cmu", "train", "poses")
    expected = torch.cat([roma.rotvec_to_rotmat(rotvecs[::3]) for *_, rotvecs in clips])
    assert torch.allclose(poses.rotations[:, 1:], expected[:, 1:], atol=1e-6)
    assert torch.allclose(poses.rotations[:, 0, 1], expected[:, 0, 2], atol=1e-6)  # up: z there, y here


def test_sources_are_mixed_in_every_batch(roots):
    mixture = Mixture([data("cmu", roots), data("synthetic", roots)], weights=[1.0, 1.0], batch_size=8)
    parts = next(iter(mixture.train_dataloader()))
    assert [len(part["sample_id"]) for part in parts] == [4, 4]
    assert [protocol.dataset for protocol in mixture.protocols("val")] == ["cmu_poses", "synthetic_poses"]


def test_missing_folders_and_wrong_numbers_are_named(tmp_path):
    for source, word in (("cmu", "prepare cmu_mocap"), ("amass", "prepare amass")):
        with pytest.raises(InputError, match=word):
            MotionPoses(source, root=str(tmp_path)).prepare_data()
    with pytest.raises(InputError, match="eval_stride"):
        MotionPoses(eval_stride=0)
    with pytest.raises(InputError, match="data.clips_per_activity is 0"):
        MotionPoses(clips_per_activity=0)


def test_a_split_without_poses_is_named(tmp_path):
    amass_tree.motion(tmp_path / "source" / "KIT" / "3" / "walk_poses.npz")
    prepare(["amass", "--source", str(tmp_path / "source"), "--output", str(tmp_path / "out"), "--num_workers", "0"])
    module = MotionPoses("amass", root=str(tmp_path / "out"))
    assert len(module.load("train")["sample_id"]) == 8
    with pytest.raises(InputError, match="no poses for val"):
        module.load("val")
