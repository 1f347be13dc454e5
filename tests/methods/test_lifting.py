import pytest
import torch

from methods import lifting
from methods.diffpose import ContextEncoder
from noise2pose import skeletons
from noise2pose.images.mirroring import mirror_batch
from tests.tiny import TinyPoses

H36M = skeletons.get("h36m_17")
LIMBS = [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16]
OTHERS = [0, 7, 8, 9, 10]


@pytest.fixture(params=[1, 4], ids=["frames", "clips"])
def batch(request):
    return TinyPoses(num_frames=request.param).load("val"), request.param


def limbs(batch, num_frames):
    return lifting.input_joints(batch, H36M, num_frames, "limbs")


def changed(batch, points):
    return {**batch, "keypoints_2d": points}


def test_the_box_of_the_limbs_has_its_centre_at_the_origin_and_a_side_of_two(batch):
    batch, num_frames = batch
    joints = limbs(batch, num_frames)
    points = joints[..., LIMBS, :2].flatten(1, -2)
    low, high = points.amin(dim=1), points.amax(dim=1)
    assert torch.allclose(low + high, torch.zeros_like(low), atol=1e-5)
    assert torch.allclose((high - low).amax(dim=-1), torch.full((len(low),), 2.0), atol=1e-5)
    assert (joints[..., LIMBS, 2] == 1).all() and (joints[..., OTHERS, :] == 0).all()


def test_place_size_and_image_of_the_person_do_not_matter(batch):
    batch, num_frames = batch
    points = batch["keypoints_2d"].clone()
    points[..., :2] = 0.37 * points[..., :2] + torch.tensor([311.0, -95.0])
    points[..., OTHERS, :2] += 50.0  # what a detector calls a chin
    moved = changed(batch, points)
    moved["camera"] = {**batch["camera"], "image_size": batch["camera"]["image_size"] * torch.tensor([3.0, 2.0])}
    assert torch.allclose(limbs(moved, num_frames), limbs(batch, num_frames), atol=2e-4)


def test_it_does_not_matter_where_an_unseen_joint_was_put(batch):
    batch, num_frames = batch
    points = batch["keypoints_2d"].clone()
    points[..., [3, 13], 2] = 0.0
    once = limbs(changed(batch, points), num_frames)
    points[..., [3, 13], :2] = torch.rand_like(points[..., [3, 13], :2]) * 1e4
    assert torch.equal(limbs(changed(batch, points), num_frames), once)
    assert (once[..., [3, 13], :] == 0).all()


def test_nobody_seen_is_a_number(batch):
    batch, num_frames = batch
    points = batch["keypoints_2d"].clone()
    points[..., 2] = 0.0
    assert (limbs(changed(batch, points), num_frames) == 0).all()


def test_the_limbs_of_a_mirrored_image_are_the_mirrored_limbs(batch):
    batch, num_frames = batch
    mirrored = limbs(mirror_batch(batch, H36M), num_frames)
    expected = limbs(batch, num_frames)[..., list(H36M.flip_order), :] * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.allclose(mirrored, expected, atol=1e-4)


@torch.no_grad()
def test_an_encoder_of_limbs_answers_alike_wherever_the_person_stands(batch):
    batch, num_frames = batch
    clip = {"encoder": "mixste", "num_frames": num_frames} if num_frames > 1 else {}
    encoder = ContextEncoder(width=16, num_blocks=1, num_heads=2, normalisation="limbs", flip_test=True, **clip).eval()
    points = batch["keypoints_2d"].clone()
    points[..., :2] += 200.0
    moved = encoder(changed(batch, points))["joints_3d"]
    assert torch.allclose(moved, encoder(batch)["joints_3d"], atol=1e-4)
