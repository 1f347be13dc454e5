"""Pose banks: what is collected of every kind of motion, the frame of reference, and what is refused."""

import numpy as np
import pytest
import roma
import torch

from datamodules.motion import pose_bank
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.motion.pose_bank import PoseBank, read_poses, write_poses
from tests.datamodules import amass_tree, motion_folder


def heights(bank):
    """Metres by which the head is above the pelvis of the free body."""
    body = BodyModel.load("free")
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(bank.rotations[:, :24]))
    joints = body.joints(rotations[:, 0], rotations[:, 1:], torch.zeros(len(rotations), 10), regressor="smpl_24")
    return (joints[:, 15] - joints[:, 0])[:, 1]


def test_synthetic_poses_are_as_many_as_asked_for_and_mostly_upright():
    bank = pose_bank.synthetic(250)
    assert bank.rotations.shape == (250, 24, 3) and len(set(bank.sources)) == 250
    assert len(set(bank.actions)) == 12 and heights(bank).median() > 0.4
    again = pose_bank.synthetic(250)
    assert np.array_equal(bank.rotations, again.rotations) and bank.sources == again.sources


def test_motion_is_of_training_people_and_stands_upright(tmp_path):
    clips = [{"name": f"c{i}", "subject": f"s{i % 3}", "action": "walk", "split": split}
             for i, split in enumerate(["train", "val", "test", "train"])]  # fmt: skip
    motion_folder.write(tmp_path / "motion", "toy_motion", clips)
    bank = pose_bank.of_motion([tmp_path / "motion"], 50)
    assert len(bank.rotations) == 50 and set(bank.actions) == {"walk"}
    assert {source.rsplit("_", 1)[0].rsplit("_", 1)[-1] for source in bank.sources} == {"c0", "c3"}
    assert (heights(bank) > 0.4).all()  # people of the folder stand in a world with z up
    with pytest.raises(InputError, match="does not exist"):
        pose_bank.of_motion([tmp_path / "nothing"], 50)


def test_amass_keeps_hands_and_of_smplx_the_face(tmp_path):
    smplh = amass_tree.motion(tmp_path / "A" / "s" / "walk_poses.npz", frames=60)
    smplx = amass_tree.motion_smplx(tmp_path / "B" / "s" / "Jump_stageii.npz", frames=60, seed=1)
    bank = pose_bank.of_amass([tmp_path], 1000)
    assert bank.rotations.shape == (96, 55, 3)  # without a tenth at both ends
    first = bank.sources.index("A/s/walk_poses.npz_000010")
    assert np.allclose(bank.rotations[first, 25:], smplh[10].reshape(52, 3)[22:], atol=1e-6)
    assert not bank.rotations[first, 22:25].any()
    second = bank.sources.index("B/s/Jump_stageii.npz_000010")
    assert np.allclose(bank.rotations[second, 1:], smplx[10].reshape(55, 3)[1:], atol=1e-6)
    assert {bank.actions[first], bank.actions[second]} == {"walk", "Jump"}
    one = pose_bank.of_amass([tmp_path / "A" / "s" / "walk_poses.npz"], 5)
    assert len(one.rotations) == 5 and len(set(one.sources)) == 5
    np.savez(tmp_path / "A" / "s" / "bad_poses.npz", poses=np.zeros((9, 72)))
    with pytest.raises(InputError, match=r"bad_poses.npz: `poses` has shape \(9, 72\)"):
        pose_bank.of_amass([tmp_path], 10)
    with pytest.raises(InputError, match="found no npz file of AMASS"):
        pose_bank.of_amass([(tmp_path / "empty").mkdir() or tmp_path / "empty"], 10)


def test_a_bank_is_read_as_it_was_written_and_broken_ones_are_refused(tmp_path):
    path = tmp_path / "poses.npz"
    rotations = np.random.default_rng(0).normal(size=(3, 55, 3)).astype(np.float32)
    bank = PoseBank(rotations, ["a", "", "c"], ["male"] * 3, ["x", "y", "z"])
    write_poses(path, bank)
    content, read = path.read_bytes(), read_poses(path)
    assert np.array_equal(read.rotations, bank.rotations) and read[1:] == bank[1:]
    write_poses(path, bank)
    assert path.read_bytes() == content
    arrays = dict(np.load(path))
    for change, message in (
        ({"poses": arrays["poses"][:, :66]}, r"shape \(3, 66\)"),
        ({"poses": np.where(arrays["poses"] > 1, np.nan, arrays["poses"])}, "not finite"),
        ({"actions": arrays["actions"][:2]}, "`actions` has 2 entries, expected 3"),
    ):
        np.savez(path, **{**arrays, **change})
        with pytest.raises(InputError, match=message):
            read_poses(path)
    del arrays["genders"]
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="found no genders"):
        read_poses(path)
