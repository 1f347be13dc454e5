"""Keypoints of one or several views: places, errors, orientations."""

import roma
import torch

from methods.pose_prior.views import Views, first_orientations
from noise2pose import cameras
from noise2pose.bodies import BodyModel
from tests.tiny import TinyPeople

BATCH = TinyPeople().load("val")
JOINTS = BATCH["keypoints_3d"][..., :3]


def seen_from(angle, batch=BATCH):
    """The same people from a camera that is turned around them, as a view after the first."""
    views = Views.of(batch)
    turn = roma.euler_to_rotmat("Y", torch.tensor([angle]), degrees=True).expand(len(JOINTS), 3, 3)
    shift = torch.tensor([0.0, 0.0, 5.0]) - (turn @ torch.tensor([0.0, 0.0, 5.0])[:, None])[..., 0]
    placed = JOINTS @ turn.mT + shift[:, None]
    points = cameras.project(placed, views.focal[:, 0], views.principal_point[:, 0])
    return views._replace(points=points[:, None], rotation=turn[:, None], shift=shift[:, None])


def test_the_place_in_one_view_is_that_of_the_kit():
    views = Views.of(BATCH)
    pose, camera = JOINTS - JOINTS[:, :1] + 0.02 * torch.randn(JOINTS.shape), BATCH["camera"]
    points, confidence = BATCH["keypoints_2d"][..., :2], BATCH["keypoints_2d"][..., 2]
    expected = cameras.fit_translation(pose, points, confidence, camera["focal"], camera["principal_point"])
    assert torch.allclose(views.place(pose), expected, atol=1e-3)
    assert torch.allclose(views.place(torch.stack((pose, pose))), expected.expand(2, -1, -1), atol=1e-3)


def test_true_joints_have_no_error_in_any_view():
    views = Views.joined([Views.of(BATCH), seen_from(90.0), seen_from(200.0)])
    pose = JOINTS - JOINTS[:, :1]
    place = views.place(pose)
    assert torch.allclose(place, JOINTS[:, 0], atol=1e-3)
    assert views.distance(pose, place, 0.1).max() < 1e-5
    assert views.distance(1.2 * pose, place, 0.1).min() > 1e-3


def test_a_second_view_sees_the_depth():
    one, two = Views.of(BATCH), Views.joined([Views.of(BATCH), seen_from(90.0)])
    flat = (JOINTS - JOINTS[:, :1]) * torch.tensor([1.0, 1.0, 0.2])
    in_one, in_two = (views.distance(flat, views.place(flat), 0.1).mean() for views in (one, two))
    assert in_two > 3.0 * in_one


def test_hidden_keypoints_do_not_count():
    views = Views.of(BATCH)
    confidence = views.confidence.clone()
    confidence[..., 3] = 0.0
    wrong = views.points.clone()
    wrong[..., 3, :] += 500.0
    pose = JOINTS - JOINTS[:, :1]
    hidden = views._replace(points=wrong, confidence=confidence)
    assert torch.allclose(hidden.place(pose), JOINTS[:, 0], atol=1e-3)
    assert hidden.distance(pose, hidden.place(pose), 0.1).max() < 1e-5


def test_the_orientation_is_found_from_the_keypoints_alone():
    body = BodyModel.load("free")
    identity = torch.eye(3).expand(1, 23, 3, 3)
    rest = body.joints(torch.eye(3)[None], identity, torch.zeros(1, 10))[0]
    turns = torch.tensor([[0.0, 0.0, 0.0], [0.0, 120.0, 0.0], [60.0, 0.0, 0.0], [0.0, -100.0, 20.0]])
    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ roma.euler_to_rotmat("XYZ", turns, degrees=True)
    part = BATCH["keypoints_3d"][:4]
    views = Views.of({**BATCH, "keypoints_2d": BATCH["keypoints_2d"], "keypoints_3d": part}).rows(torch.arange(4))
    joints = rest @ facing.mT + torch.tensor([0.0, 0.0, 5.0])
    points = cameras.project(joints, views.focal[:, 0], views.principal_point[:, 0])
    found = first_orientations(views._replace(points=points[:, None]), rest, 0.1, 2)
    off = torch.rad2deg(roma.rotmat_geodesic_distance(found, facing.expand_as(found)))
    # The candidates are up to 30 degrees away; whether a body bows or leans back is hardly seen from the front.
    assert off.amin(dim=0).max() < 30.0 and off[0, [0, 1, 3]].max() < 30.0
    assert torch.rad2deg(roma.rotmat_geodesic_distance(found[0], found[1])).min() >= 60.0 - 1e-3
