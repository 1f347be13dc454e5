import pytest
import roma
import torch

from datamodules.cmu_mocap import CMUMocap
from datamodules.motion.recombined import partners, recombined
from tests.datamodules import motion_folder
from tests.datamodules.motion_folder import SKELETON, STANDING

KEYS = torch.arange(400)
NUMBER = {joint: number for number, joint in enumerate(SKELETON.joints)}
LEGS = [NUMBER[f"{side}_{joint}"] for side in ("left", "right") for joint in ("hip", "knee", "ankle")]
UPPER = [number for number, joint in enumerate(SKELETON.joints) if number not in LEGS and joint != "pelvis"]


def people(seed, frames=1):
    generator = torch.Generator().manual_seed(seed)
    joints = torch.tensor(STANDING, dtype=torch.float32) + 0.1 * torch.randn(400, frames, 17, 3, generator=generator)
    turn = roma.random_rotmat(400)
    return joints @ turn[:, None].mT


def mixed(joints, others, share=1.0, seed=0, keys=KEYS):
    return recombined(joints, others, keys, share=share, skeleton="h36m_17", seed=seed)


def bones(joints):
    pairs = [(joint, parent) for joint, parent in enumerate(SKELETON.parents) if parent >= 0]
    return torch.stack([(joints[..., joint, :] - joints[..., parent, :]).norm(dim=-1) for joint, parent in pairs], -1)


def test_each_bone_is_of_one_of_the_two_and_all_kinds_of_parts_are_exchanged():
    ours, theirs = people(0, frames=3), people(1, frames=3)
    new = mixed(ours, theirs)
    own = torch.isclose(bones(new), bones(ours), atol=1e-4)
    other = torch.isclose(bones(new), bones(theirs), atol=1e-4)
    assert (own | other).all()
    changed = (new - ours).norm(dim=-1).amax(dim=1) > 1e-3  # (B, J)
    assert torch.equal(new[:, :, NUMBER["pelvis"]], ours[:, :, NUMBER["pelvis"]])
    trunk = changed[:, UPPER].all(dim=-1)
    assert trunk.float().mean() == pytest.approx(0.5, abs=0.1) and not changed[trunk][:, LEGS].any()
    for limb in ("left_wrist", "right_wrist", "left_ankle", "right_ankle"):
        assert changed[~trunk, NUMBER[limb]].float().mean() == pytest.approx(0.5, abs=0.1)


def test_parts_of_the_same_pose_change_nothing_whichever_way_it_is_turned():
    ours = people(0)
    turn = roma.random_rotmat(400)
    theirs = ours @ turn[:, None].mT + 5.0
    assert torch.allclose(mixed(ours, theirs), ours, atol=1e-4)
    assert torch.allclose(mixed(ours, theirs @ turn[:, None]), ours, atol=1e-4)


def test_a_share_is_changed_and_each_sample_depends_on_its_key_alone():
    ours, theirs = people(0), people(1)
    new = mixed(ours, theirs, share=0.3)
    unchanged = (new == ours).all(dim=-1).all(dim=-1).all(dim=-1)
    assert unchanged.float().mean() == pytest.approx(0.7 + 0.3 * 0.5**5, abs=0.06)
    assert torch.equal(mixed(ours[7:9], theirs[7:9], 0.3, keys=KEYS[7:9]), new[7:9])
    assert not torch.equal(mixed(ours, theirs, 0.3, seed=1), new)
    assert torch.equal(mixed(ours, theirs, share=0.0), ours)


def test_partners_are_all_samples_alike():
    drawn = partners(torch.arange(20_000), 10, seed=0)
    assert torch.bincount(drawn, minlength=10).min() > 1800 and drawn.max() == 9
    assert not torch.equal(partners(torch.arange(20_000), 10, seed=1), drawn)


@pytest.mark.parametrize("num_frames", [1, 9])
def test_training_gets_new_poses_and_the_evaluation_none(tmp_path, num_frames):
    clips = [{"name": f"01_{n:02d}", "subject": "01", "action": "walk"} for n in range(1, 7)]
    clips += [{"name": "02_01", "subject": "02", "action": "walk"}]
    root = motion_folder.write(tmp_path / "cmu", "cmu_mocap", clips)
    options = {"root": str(root), "cameras": "sampled", "keypoints_2d": "gt", "num_frames": num_frames}
    plain, new = (CMUMocap(**options, recombined=share) for share in (0.0, 1.0))
    before, after = (data.load("train")["keypoints_3d"] for data in (plain, new))
    assert before.shape == after.shape and not torch.allclose(before, after, atol=0.01)
    assert torch.equal(plain.load("test")["keypoints_3d"], new.load("test")["keypoints_3d"])
