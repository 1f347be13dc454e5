import pytest
import roma
import torch

from noise2pose import skeletons
from noise2pose.bodies import BodyModel
from noise2pose.bodies.coco import NUM_FACE, coco_joints, face_points
from noise2pose.errors import InputError

COCO = skeletons.get("coco_17")


def people(number=6):
    generator = torch.Generator().manual_seed(0)
    turns = roma.rotvec_to_rotmat(0.4 * torch.randn(number, 24, 3, generator=generator))
    return turns[:, 0], turns[:, 1:], torch.randn(number, 10, generator=generator)


def test_the_face_is_where_it_should_be_on_the_free_body():
    body = BodyModel.load("free")
    rest = torch.eye(3).expand(24, 3, 3)
    points = dict(zip(COCO.joints, coco_joints(body, rest[0], rest[1:], torch.zeros(10)), strict=True))
    # +x is the body's left, y is up and it faces +z.
    assert points["nose"][0].abs() < 0.01 and points["nose"][2] == max(point[2] for point in points.values())
    for name in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        left, right = points[f"left_{name}"], points[f"right_{name}"]
        assert left[0] > 0.02 and (left * torch.tensor([-1.0, 1.0, 1.0]) - right).abs().max() < 0.01, name
    eyes, ears = points["left_eye"], points["left_ear"]
    assert eyes[1] > points["nose"][1] + 0.02 and eyes[2] > ears[2] + 0.05 and ears[0] > eyes[0] + 0.03
    assert points["nose"][1] > points["left_shoulder"][1] + 0.1


def test_points_of_the_face_are_the_named_vertices_of_the_posed_mesh():
    body, (orient, pose, betas) = BodyModel.load("free"), people()
    move = torch.tensor([0.3, -0.2, 4.0])
    mesh = body(orient, pose, betas, move)
    joints = coco_joints(body, orient, pose, betas, move)
    for number, vertex in enumerate(("nose", "leye", "reye", "lear", "rear")):
        assert torch.allclose(joints[:, number], mesh.vertices[:, body.vertex_ids[vertex]], atol=1e-5)
    kinematic = skeletons.get("smpl_24")
    for number, name in enumerate(COCO.joints[NUM_FACE:], start=NUM_FACE):
        assert torch.allclose(joints[:, number], mesh.joints[:, kinematic.index(name)], atol=1e-5), name


def test_the_neck_turns_the_face_and_nothing_else():
    body, (orient, pose, betas) = BodyModel.load("free"), people()
    turned = pose.clone()
    turned[:, 11] = turned[:, 11] @ roma.rotvec_to_rotmat(torch.tensor([0.0, 0.5, 0.0]))  # joint 12, the neck
    moved = (coco_joints(body, orient, turned, betas) - coco_joints(body, orient, pose, betas)).norm(dim=-1)
    assert (moved[:, :NUM_FACE].amax(dim=1) > 0.03).all() and (moved[:, NUM_FACE:] == 0).all()


def test_a_body_without_named_vertices_says_what_is_missing():
    body = BodyModel.load("free")
    nameless = BodyModel(
        template=body.template, shape_directions=body.shape_directions, skinning_weights=body.skinning_weights,
        joint_regressor=body.joint_regressor, parents=body.parents, faces=body.faces,
    )  # fmt: skip
    with pytest.raises(InputError, match="no nose, eyes and ears"):
        face_points(nameless, *people())
