import pytest
import torch

from methods import lifting
from methods.diffpose import ContextEncoder
from noise2pose import cameras, skeletons
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
    assert torch.equal(joints[..., LIMBS, 2], batch["keypoints_2d"][..., LIMBS, 2])
    assert (joints[..., OTHERS, :] == 0).all()


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
def test_an_encoder_of_limbs_answers_alike_wherever_the_image_was_cut_out(batch):
    batch, num_frames = batch
    clip = {"encoder": "mixste", "num_frames": num_frames} if num_frames > 1 else {}
    encoder = ContextEncoder(width=16, num_blocks=1, num_heads=2, normalisation="limbs", flip_test=True, **clip).eval()
    points, camera = batch["keypoints_2d"].clone(), batch["camera"]
    points[..., :2] += 200.0
    moved = {
        **changed(batch, points),
        "camera": {
            **camera,
            "principal_point": camera["principal_point"] + 200.0,
            "image_size": camera["image_size"] * 2,
        },
    }
    assert torch.allclose(encoder(moved)["joints_3d"], encoder(batch)["joints_3d"], atol=1e-4)


@pytest.fixture
def aside(batch):
    """People who stand 20 to 30 degrees beside the optical axis, as exact projections."""
    batch, num_frames = batch
    joints = batch["keypoints_3d"].clone()
    joints[..., :3] += torch.tensor([2.2, -0.4, 5.0])
    focal, middle = (batch["camera"][key] for key in ("focal", "principal_point"))
    pixels = project(joints, focal, middle)
    box = torch.cat((limbs_box(pixels)[0], torch.full((len(pixels), 1), 300.0)), dim=-1)
    seen = torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1)
    return {**batch, "keypoints_2d": seen, "keypoints_3d": joints, "box": box}, num_frames


def project(joints, focal, middle):
    return torch.stack([cameras.project(*one) for one in zip(joints[..., :3], focal, middle, strict=True)])


def limbs_box(pixels):
    points = pixels[..., LIMBS, :2].flatten(1, -2)
    low, high = points.amin(dim=1), points.amax(dim=1)
    return (low + high) / 2.0, (high - low).amax(dim=-1)


def test_a_turned_camera_sees_what_it_would_project(aside):
    batch, _ = aside
    turned, rotation = lifting.towards_person(batch, H36M, "limbs")
    camera = batch["camera"]
    expected = project(turned["keypoints_3d"], camera["focal"], camera["principal_point"])
    assert torch.allclose(turned["keypoints_2d"][..., :2], expected, atol=0.05)
    before = (limbs_box(batch["keypoints_2d"])[0] - camera["principal_point"]).norm(dim=-1)
    centre, side = limbs_box(turned["keypoints_2d"])
    assert ((centre - camera["principal_point"]).norm(dim=-1) < 0.1 * before).all()
    assert torch.allclose(turned["box"][:, :2], centre, atol=0.05)
    assert torch.allclose(turned["box"][:, 2] / 300.0, side / limbs_box(batch["keypoints_2d"])[1], atol=1e-4)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(len(rotation)), atol=1e-5)


def test_poses_of_the_turned_camera_are_turned_back(aside):
    batch, _ = aside
    turned, rotation = lifting.towards_person(batch, H36M, "limbs")
    pose = turned["keypoints_3d"][..., :3]
    back = lifting.turned_back({"joints_3d": pose, "hypotheses": torch.stack((pose, 2.0 * pose))}, rotation)
    expected = batch["keypoints_3d"][..., :3]
    assert torch.allclose(back["joints_3d"], expected, atol=1e-4)
    assert torch.allclose(back["hypotheses"], torch.stack((expected, 2.0 * expected)), atol=1e-4)


def test_the_screen_needs_no_turn(aside):
    batch, _ = aside
    same, rotation = lifting.towards_person(batch, H36M, "screen")
    assert same is batch and rotation is None
    assert lifting.turned_back({"joints_3d": batch["keypoints_3d"]}, None)["joints_3d"] is batch["keypoints_3d"]


def test_unseen_joints_and_unseen_people_turn_nothing(aside):
    batch, _ = aside
    points = batch["keypoints_2d"].clone()
    points[..., OTHERS, :2], points[..., OTHERS, 2] = -1e6, 0.0
    turned, rotation = lifting.towards_person({**batch, "keypoints_2d": points}, H36M, "limbs")
    assert torch.equal(rotation, lifting.towards_person(batch, H36M, "limbs")[1])
    assert turned["keypoints_2d"].isfinite().all()
    points[..., 2] = 0.0
    turned, rotation = lifting.towards_person({**batch, "keypoints_2d": points}, H36M, "limbs")
    assert torch.allclose(rotation, torch.eye(3).expand_as(rotation))
    assert torch.equal(turned["box"], batch["box"])


def test_one_rotation_serves_a_clip():
    batch = TinyPoses(num_frames=4).load("val")
    _, rotation = lifting.towards_person(batch, H36M, "limbs")
    assert rotation.shape == (len(batch["keypoints_2d"]), 3, 3)
