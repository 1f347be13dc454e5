import pytest
import roma
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from datamodules.base import select
from datamodules.rendered import people as posed_people
from datamodules.rendered.people import IMAGE_SIDE, MIN_SEEN, SKELETON, Poses
from noise2pose import cameras
from noise2pose.bodies import BodyModel
from noise2pose.images.crops import BOX_SCALE
from noise2pose.keyed_random import keys_of

COUNT = 1000
checked = jaxtyped(typechecker=beartype)
photograph, boxes = checked(posed_people.photograph), checked(posed_people.boxes)


@pytest.fixture(scope="module")
def body():
    return BodyModel.load("free")


@pytest.fixture(scope="module")
def poses():
    """Upright people with bent arms and legs."""
    generator = torch.Generator().manual_seed(0)
    bend = 0.3 * torch.randn(COUNT, 24, 3, generator=generator)
    bend[:, 0] = 0.0
    names = [f"person_{number}" for number in range(COUNT)]
    betas = torch.randn(COUNT, 10, generator=generator)
    return Poses(roma.rotvec_to_rotmat(bend), betas, names, ["somebody"] * COUNT, ["stand"] * COUNT)


def of(poses, body, *, seed=0, truncation=0.3):
    return photograph(poses, body, keys_of(poses.names), seed, truncation)


@pytest.fixture(scope="module")
def people(poses, body):
    return of(poses, body)


def test_labels_agree(people, body):
    joints, camera = people["keypoints_3d"], people["camera"]
    posed = body.joints(**people["smpl"], translation=people["camera_translation"], regressor=SKELETON)
    assert torch.allclose(posed, joints[..., :3], atol=1e-5) and (joints[..., 3] == 1).all()
    pixels = cameras.project(posed, camera["focal"], camera["principal_point"])
    assert torch.allclose(pixels, people["keypoints_2d"][..., :2], atol=2e-2)
    inside = ((pixels > -0.05) & (pixels < IMAGE_SIDE + 0.05)).all(dim=-1)
    assert inside[people["keypoints_2d"][..., 2] == 1].all(), "confidence 1 is inside the image, 0 outside"
    assert not ((pixels > 0.05) & (pixels < IMAGE_SIDE - 0.05)).all(dim=-1)[people["keypoints_2d"][..., 2] == 0].any()
    assert set(people["keypoints_2d"][..., 2].unique().tolist()) == {0.0, 1.0}
    assert people["has_smpl"].all() and (camera["image_size"] == IMAGE_SIDE).all()
    assert torch.equal(2.0 * camera["principal_point"], camera["image_size"])


def test_the_body_keeps_its_pose_and_only_turns(people, poses):
    assert torch.equal(people["smpl"]["body_pose"], poses.rotations[:, 1:])
    assert torch.equal(people["smpl"]["betas"], poses.betas)
    turn = people["smpl"]["global_orient"]
    assert torch.allclose(turn @ turn.mT, torch.eye(3), atol=1e-5) and (torch.linalg.det(turn) > 0).all()


def test_people_face_the_camera_where_that_is_asked_for(poses, body):
    turned = poses._replace(rotations=poses.rotations.clone())
    turned.rotations[:, 0] = roma.euler_to_rotmat("Y", 360.0 * torch.rand(COUNT, 1), degrees=True)
    people = photograph(turned, body, keys_of(poses.names), seed=0, truncation=0.0, max_turn=30.0)
    front = people["smpl"]["global_orient"] @ torch.tensor([0.0, 0.0, 1.0])
    away = torch.rad2deg(torch.atan2(front[:, 0], -front[:, 2])).abs()
    assert 20.0 < away.max() < 40.0, "roll and elevation add a little"


def test_cameras_stand_around_people_and_are_hardly_tilted(people):
    turn = people["smpl"]["global_orient"]  # the poses are upright, so this is the rotation from world to camera
    up, front = turn @ torch.tensor([0.0, 1.0, 0.0]), turn @ torch.tensor([0.0, 0.0, 1.0])
    assert up[:, 1].max() < -0.6, "y is down"
    assert up[:, 0].abs().max() < 0.35 and up[:, 0].mean().abs() < 0.02, "roll"
    elevation = torch.rad2deg(torch.asin(-up[:, 2]))  # of the camera over the person
    assert -20.0 - 1e-3 < elevation.min() and elevation.max() < 45.0 + 1e-3
    assert elevation.mean() == pytest.approx(8.0, abs=1.0), "from a little above"
    octant = ((torch.atan2(front[:, 0], front[:, 2]) / torch.pi + 1.0) * 4.0).long().clamp_max(7)
    assert torch.bincount(octant, minlength=8).min() > 0.08 * COUNT


def test_everybody_is_in_front_of_the_camera_and_in_the_image(people, body):
    vertices = body(**people["smpl"], translation=people["camera_translation"]).vertices
    assert vertices[..., 2].min() > 0.3
    seen = people["keypoints_2d"][..., 2].sum(dim=-1)
    assert seen.min() == MIN_SEEN
    extent = (people["keypoints_2d"][..., :2].amax(dim=1) - people["keypoints_2d"][..., :2].amin(dim=1)).amax(dim=-1)
    assert 0.2 * IMAGE_SIDE < extent.min() and extent.median() > 0.4 * IMAGE_SIDE


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 1.0])
def test_about_as_many_as_asked_are_moved_over_a_border(people, poses, body, share):
    whole, cut = (of(poses, body, truncation=truncation) for truncation in (0.0, share))
    moved = (whole["camera_translation"] != cut["camera_translation"]).any(dim=-1)
    # A tenth of those who are asked for stay: too few of their joints would be seen.
    assert 0.85 * share - 0.03 < moved.float().mean() < share + 0.03
    out = (cut["keypoints_2d"][..., 2] == 0).any(dim=-1)
    assert not out[~moved].any() and out[moved].float().sum() >= 0.95 * moved.sum()
    assert (whole["keypoints_2d"][..., 2] == 1).all()


def test_what_a_person_gets_belongs_to_the_key_and_the_seed(people, poses, body):
    assert torch.equal(of(poses, body)["keypoints_2d"], people["keypoints_2d"])
    chosen = torch.tensor([700, 3, 41])
    part = of(Poses(*(select(values, chosen) for values in poses)), body)
    for key in ("camera_translation", "box", "keypoints_2d"):
        assert torch.allclose(part[key], people[key][chosen], atol=1e-2)
    other = of(poses, body, seed=1)
    assert (other["camera"]["focal"] != people["camera"]["focal"]).float().mean() > 0.99
    assert (other["box"] != people["box"]).any(dim=-1).all()


def test_boxes_are_about_the_seen_joints():
    generator = torch.Generator().manual_seed(0)
    pixels = 1000.0 * torch.rand(COUNT, 17, 2, generator=generator)
    seen = torch.rand(COUNT, 17, generator=generator) > 0.4
    seen[:, :2] = True
    found = boxes(pixels, seen, keys_of([str(number) for number in range(COUNT)]), 0)
    scales, shifts = [], []
    for person in range(COUNT):
        joints = [pixels[person, joint] for joint in range(17) if seen[person, joint]]
        low = [min(float(joint[axis]) for joint in joints) for axis in (0, 1)]
        high = [max(float(joint[axis]) for joint in joints) for axis in (0, 1)]
        x, y, side = found[person].tolist()
        scales.append(side / max(high[0] - low[0], high[1] - low[1]) / BOX_SCALE)
        shifts += [(x - (low[0] + high[0]) / 2) / side, (y - (low[1] + high[1]) / 2) / side]
    assert 0.9 - 1e-4 < min(scales) < 0.91 and 1.14 < max(scales) < 1.15 + 1e-4
    assert 0.045 < max(shifts) < 0.05 + 1e-4 and abs(sum(shifts) / len(shifts)) < 0.003
    half = found[:, None, 2:] / 2.0
    inside = ((pixels - found[:, None, :2]).abs() <= half).all(dim=-1)
    assert inside[seen].float().mean() > 0.995, "a box may cut what it holds as a detector's does, by a hair"
