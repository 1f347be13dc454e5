"""Bodies that move as motion capture does, seen by a new camera in every epoch."""

import pytest
import roma
import torch

from datamodules.base import select
from datamodules.motion.recombined import recombined_rotations
from datamodules.motion_capture import MotionCapture
from noise2pose import cameras
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from tests.datamodules import motion_folder

PEOPLE = ("01", "02", "05", "11")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    clips = [{"name": f"{subject}_01", "subject": subject, "action": "walk"} for subject in PEOPLE]
    return str(motion_folder.write(tmp_path_factory.mktemp("motion") / "cmu", "cmu_mocap", clips))


def module(root, **options):
    given = {"cameras": "sampled", "body": "free", "train_stride": 1, "eval_stride": 10, "batch_size": 16, **options}
    return MotionCapture(root, **given)


def batches(data, epoch):
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def test_labels_agree(root):
    batch = module(root, keypoints_2d="gt", truncated=0.3, recombined=0.5).load("train")
    assert len(batch["keypoints_2d"]) == 2 * motion_folder.FRAMES
    joints = BodyModel.load("free").joints(**batch["smpl"], translation=batch["camera_translation"])
    assert torch.allclose(joints, batch["keypoints_3d"][..., :3], atol=1e-4)
    camera, box = batch["camera"], batch["box"]
    pixels = cameras.project(joints, camera["focal"], camera["principal_point"])
    assert torch.allclose(pixels, batch["keypoints_2d"][..., :2], atol=0.1)
    assert batch["has_smpl"].all() and (batch["keypoints_3d"][..., 3] == 1).all() and (box[:, 2] > 100.0).all()
    assert len(batch["smpl"]["betas"].unique(dim=0)) == len(box), "a shape of their own"
    turned = batch["smpl"]["global_orient"] @ batch["smpl"]["global_orient"].mT
    assert torch.allclose(turned, torch.eye(3).expand_as(turned), atol=1e-5)


def test_left_and_right_are_those_of_the_person(root):
    """Also of the people who are mirrored."""
    options = {"keypoints_2d": "gt", "tilt": 0.0, "any_rotation": 0.0, "roll": 0.0}
    batch = module(root, **options).load("train")
    joints = batch["keypoints_3d"][..., :3]
    left, up = joints[:, 4] - joints[:, 1], joints[:, 8] - joints[:, 0]
    front = batch["smpl"]["global_orient"][:, :, 2]
    assert ((torch.linalg.cross(left, up) * front).sum(dim=-1) > 0.0).all()
    assert (up[:, 1] < 0.0).all(), "the camera's y is down"


def test_no_view_comes_twice_and_a_resumed_epoch_is_the_same(root):
    data = module(root, exact=0.5, recombined=0.5)
    first, second = batches(data, 0), batches(data, 1)
    keypoints = torch.cat([batch["keypoints_2d"] for batch in (*first, *second)])
    assert len(keypoints.unique(dim=0)) == len(keypoints)
    data.setup("fit")
    loader = data.train_dataloader()
    loader.load_state_dict({"epoch": 1, "batches": 2})
    loader.sampler.set_epoch(1)
    for resumed, batch in zip(loader, second[2:], strict=True):
        assert torch.equal(resumed["keypoints_2d"], batch["keypoints_2d"])
        assert torch.equal(resumed["smpl"]["body_pose"], batch["smpl"]["body_pose"])
        assert torch.equal(resumed["box"], batch["box"])
    exact = [(batch["keypoints_2d"][..., 2] == 1).all(dim=1) for batch in first]
    assert 0.2 < torch.cat(exact).float().mean() < 0.8


def test_the_test_is_the_same_whatever_the_training(root):
    some = module(root).load("test")
    other = module(root, exact=0.5, recombined=1.0, tilt=0.0, any_rotation=1.0, truncated=1.0).load("test")
    assert torch.equal(some["keypoints_2d"], other["keypoints_2d"])
    assert torch.equal(some["smpl"]["body_pose"], other["smpl"]["body_pose"])
    part = select(some, torch.arange(4))
    assert part["sample_id"] == some["sample_id"][:4] and set(some["subject"]) == {"02"}
    (protocol,) = module(root).protocols("test")
    assert protocol.dataset == "motion_people_bodies_cmu" and "random bodies" in protocol.ground_truth


def test_parts_of_other_poses_are_whole_limbs_or_the_upper_body():
    ours, theirs = roma.random_rotmat(24 * 400).view(400, 24, 3, 3), roma.random_rotmat(24 * 400).view(400, 24, 3, 3)
    new = recombined_rotations(ours, theirs, torch.arange(400), share=0.6, seed=0)
    taken = (new == theirs).flatten(2).all(dim=-1)
    assert torch.equal(torch.where(taken[..., None, None], theirs, ours), new)
    left_arm, right_leg, spine = [16, 18, 20, 22], [2, 5, 8, 11], [3, 6, 9, 12, 13, 14, 15]
    for parts in (left_arm, right_leg, spine):
        assert (taken[:, parts].all(dim=1) == taken[:, parts].any(dim=1)).all()
    assert not taken[:, 0].any() and 0.45 < taken.any(dim=1).float().mean() < 0.65
    assert taken[taken[:, spine].any(dim=1)][:, left_arm].all()


def test_what_bodies_need_is_named(root, tmp_path):
    with pytest.raises(InputError, match="data.body is for single frames"):
        module(root, num_frames=9)
    with pytest.raises(InputError, match="data.body is for single frames.*data.cameras to sampled"):
        module(root, cameras="fixed")
    clips = [{"name": "01_01", "subject": "01", "action": "walk"}]
    old = motion_folder.write(tmp_path / "old", "cmu_mocap", clips, columns=("joints_world",))
    with pytest.raises(InputError, match="has no poses, which data.body moves by; prepare it again"):
        module(str(old)).prepare_data()
