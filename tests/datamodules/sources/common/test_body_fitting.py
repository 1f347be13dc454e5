"""Rotations that are fitted to joints alone."""

import numpy as np
import pytest
import roma
import torch

from datamodules.motion import activities
from datamodules.sources.common.body_fitting import rotations_of_joints
from noise2pose import skeletons
from noise2pose.bodies import BodyModel
from noise2pose.images.mirroring import mirror_pose, mirror_smpl

SKELETON = skeletons.get("h36m_17")
UPRIGHT = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)  # y up to z up
LIMBS = [(SKELETON.index(f"{side}_{a}"), SKELETON.index(f"{side}_{b}")) for side in ("left", "right") for a, b in (
    ("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")
)]  # fmt: skip
LISTED = [joint for limb in LIMBS for joint in limb]


def joints_of(poses):
    rotations = roma.rotvec_to_rotmat(torch.as_tensor(poses, dtype=torch.float64))
    body = BodyModel.load("free", dtype=torch.float64)
    return body.joints(rotations[:, 0], rotations[:, 1:], torch.zeros(len(rotations), 10, dtype=torch.float64))


@pytest.fixture(scope="module")
def joints():
    """People who do all kinds of things, z up."""
    poses = [activities.generate(kind, 100, seed=3).rotations[::25] for kind in activities.ACTIVITIES]
    return (joints_of(np.concatenate(poses)) @ UPRIGHT.mT).numpy()


def test_the_fitted_body_stands_as_the_joints_do(joints):
    fitted = joints_of(rotations_of_joints(joints)).numpy()
    for start, end in LIMBS:
        bone, limb = joints[:, end] - joints[:, start], fitted[:, end] - fitted[:, start]
        cosine = (bone * limb).sum(-1) / np.linalg.norm(bone, axis=-1) / np.linalg.norm(limb, axis=-1)
        assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 5.0  # the joints of the mesh are not quite the bones'
    error = np.linalg.norm((fitted - fitted[:, :1]) - (joints - joints[:, :1]), axis=-1)
    assert error[:, LISTED].mean() < 0.03 and error[:, LISTED].max() < 0.2


def test_knees_and_elbows_bend_about_their_own_axes(joints):
    """In the other axes a hinge turns a few degrees at most."""
    poses = np.degrees(rotations_of_joints(joints))
    names = skeletons.get("smpl_24").joints
    for joint, axis, sign in (
        *(("left_knee", 0, 1), ("right_knee", 0, 1)),
        *(("left_elbow", 1, -1), ("right_elbow", 1, 1)),
    ):
        turns = poses[:, names.index(joint)]
        bent = np.linalg.norm(turns, axis=-1) > 40.0
        assert bent.any() and (sign * turns[bent, axis] > 30.0).all()
        assert np.median(np.abs(np.delete(turns[bent], axis, axis=-1))) < 5.0


def test_a_turned_or_mirrored_person_has_the_same_body(joints):
    poses = torch.from_numpy(rotations_of_joints(joints))
    turn = roma.rotvec_to_rotmat(torch.tensor([0.0, 0.0, 1.1], dtype=torch.float64))
    turned = torch.from_numpy(rotations_of_joints(joints @ turn.numpy().T))
    assert torch.allclose(turned[:, 1:], poses[:, 1:], atol=1e-6)
    assert torch.allclose(roma.rotvec_to_rotmat(turned[:, 0]), turn @ roma.rotvec_to_rotmat(poses[:, 0]), atol=1e-6)
    mirrored = roma.rotvec_to_rotmat(
        torch.from_numpy(rotations_of_joints(mirror_pose(torch.from_numpy(joints), SKELETON).numpy()))
    )
    rotations = roma.rotvec_to_rotmat(poses)
    expected = mirror_smpl(
        {"global_orient": rotations[:, 0], "body_pose": rotations[:, 1:], "betas": torch.zeros(len(poses), 10)}
    )
    assert torch.allclose(mirrored[:, 1:], expected["body_pose"], atol=0.02)


def test_joints_that_coincide_give_a_pose(joints):
    assert np.isfinite(rotations_of_joints(np.zeros((2, 17, 3)))).all()
