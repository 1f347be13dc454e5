"""Hands, jaw, eyes and expression of SMPL-X: turned, stored and drawn; stand-in bodies in its layout."""

import numpy as np
import pytest
import roma
import torch

from methods.posepp.people import conditions, drawing, sampling
from methods.posepp.people.body import PARTS, Body, fit_joints, join_pose, split_pose
from methods.posepp.records import Record
from methods.posepp.settings import Settings
from noise2pose.bodies.conversion import convert
from noise2pose.motion.pose_bank import PoseBank
from tests.noise2pose.published_bodies import published


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A body file in the layout of SMPL-X, with expressions and landmarks."""
    folder = tmp_path_factory.mktemp("bodies")
    entries = published("smplx", 20)
    generator = np.random.default_rng(1)
    entries["f"] = generator.integers(10475, size=(3000, 3)).astype(np.uint32)
    entries["lmk_faces_idx"] = generator.integers(3000, size=51)
    entries["v_template"] = 0.8 * entries["v_template"]
    np.savez(folder / "SMPLX_NEUTRAL.npz", **entries)
    convert(folder / "SMPLX_NEUTRAL.npz", folder / "smplx.npz")
    return entries, folder / "smplx.npz"


def bank(joints=55, count=6):
    torch.manual_seed(0)
    rotvecs = 0.2 * torch.randn(count, joints, 3)
    return PoseBank(rotvecs.numpy(), ["walk"] * count, ["neutral"] * count, [f"clip_{i}" for i in range(count)])


@pytest.fixture(scope="module")
def record(model):
    body = Body(str(model[1]))
    settings = Settings(samples=1, image_size=128)
    drawn = sampling.SampleStage(settings, body, bank()).draw(0)
    return body, settings, Record(0, {"sample": drawn.files})


def test_every_part_of_the_pose_reaches_the_mesh(record):
    body, _, of = record
    sample = of.arrays("sample")
    assert {name for name, _ in PARTS[55]} | {"expression", "betas"} <= set(sample)
    before, _ = body.pose(sample)
    for name in (*(name for name, _ in PARTS[55]), "expression", "betas"):
        after, _ = body.pose({**sample, name: sample[name] + 0.3})
        assert np.abs(after - before).max() > 1e-3, name


def test_expressions_and_landmarks_are_those_of_the_published_file(model, record):
    entries, path = model
    body = record[0]
    rest = {name: np.zeros(3 * count) for name, count in PARTS[55]}
    expression = np.linspace(-1.0, 1.0, 10)
    vertices, _ = body.pose({**rest, "betas": np.zeros(10), "expression": expression})
    expected = entries["v_template"] + entries["shapedirs"][:, :, 10:20] @ expression
    assert np.abs(vertices - expected).max() < 1e-6
    corners = vertices[entries["f"][entries["lmk_faces_idx"]]]
    found = body.landmarks({**rest, "betas": np.zeros(10), "expression": expression})
    assert found is not None
    assert np.abs(found - np.einsum("lk,lkc->lc", entries["lmk_bary_coords"], corners)).max() < 1e-6


def test_hands_are_in_the_order_of_openpose(record):
    body, _, of = record
    sample = of.arrays("sample")
    vertices, joints = body.pose(sample)
    hands = body.hands(vertices, joints)
    names, ids = body.model.joint_names, body.model.vertex_ids
    for side, letter, hand in zip(("left", "right"), "lr", hands, strict=True):
        expected = [joints[names.index(f"{side}_wrist")]]
        for finger in ("thumb", "index", "middle", "ring", "pinky"):
            expected += [joints[names.index(f"{side}_{finger}{number}")] for number in (1, 2, 3)]
            expected.append(vertices[ids[f"{letter}{finger}"]])
        assert np.array_equal(hand, np.array(expected))
    assert Body("free").hands(vertices, joints) is None and Body("free").landmarks(sample) is None


def test_labels_and_drawing_have_hands_and_face(record):
    body, settings, of = record
    rendered = conditions.RenderStage(settings, body).render(of)
    labels = Record(0, {"render": rendered.files}).arrays("render")
    assert labels["hands_2d"].shape == (42, 3) and labels["face_2d"].shape == (51, 3)
    pixels = sampling.project(body.landmarks(of.arrays("sample")), of.arrays("sample")["K"])
    assert np.abs(labels["face_2d"][:, :2] - pixels).max() < 0.01
    stage = conditions.RenderStage(settings, body)
    stage.options.hands = stage.options.face = False
    plain = stage.render(of).files["keypoints.png"]
    stage.options.hands = stage.options.face = True
    assert plain != rendered.files["keypoints.png"]


def test_points_of_hands_are_blue_and_those_of_the_face_white():
    hidden = np.zeros(18, dtype=bool)
    grid = 20.0 + 10.0 * np.stack(np.meshgrid(np.arange(7), np.arange(6)), axis=-1).reshape(42, 2)
    shown = np.ones(42, dtype=bool)
    shown[3] = False
    picture = drawing.draw_keypoints(np.zeros((18, 2)), hidden, (256, 128), 0.5, hands=drawing.Marks(grid, shown))
    column, row = grid[shown].astype(int).T
    assert (picture[row, column] == [0, 0, 255]).all()
    missing = picture[int(grid[3, 1]) - 2 : int(grid[3, 1]) + 2, int(grid[3, 0])]
    assert not (missing == [0, 0, 255]).all(axis=-1).any()
    face = drawing.draw_keypoints(np.zeros((18, 2)), hidden, (256, 128), face=drawing.Marks(grid[:5], shown[:5]))
    assert set(np.unique(face)) == {0, 255} and (face[..., 0] == face[..., 2]).all()


def test_poses_of_another_family_keep_what_both_have():
    whole = bank().rotations
    smpl = fit_joints(whole, 24)
    assert np.array_equal(smpl[:, :22], whole[:, :22]) and not smpl[:, 22:].any()
    smplh = fit_joints(whole, 52)
    assert np.array_equal(smplh[:, 22:], whole[:, 25:])
    back = fit_joints(smpl, 55)
    assert np.array_equal(back[:, :22], smpl[:, :22]) and not back[:, 22:].any()
    assert np.array_equal(join_pose(split_pose(whole[0])), whole[0])


def test_yaw_turns_about_the_vertical_only():
    rotvecs = bank().rotations[0]
    upright = roma.rotvec_to_rotmat(torch.from_numpy(rotvecs[0]).double())
    for degrees in (0.0, 30.0, -170.0):
        turned = roma.rotvec_to_rotmat(torch.from_numpy(sampling.yawed(rotvecs, degrees)[0]).double())
        assert torch.allclose(turned[1], -upright[1], atol=1e-6)  # what is up in the body is up in the image
