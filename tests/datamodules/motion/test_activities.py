import numpy as np
import pytest
import roma
import torch

from datamodules.motion import activities, clips
from datamodules.motion.activities import ACTIVITIES, generate
from datamodules.synthetic_motion import SyntheticMotion
from noise2pose.bodies import BodyModel

BODY = BodyModel.load("free")
FRAMES = 150


def joints(motion):
    """(F, 24, 3) joints of the body tree, metres, y up."""
    matrices = roma.rotvec_to_rotmat(torch.as_tensor(motion.rotations, dtype=torch.float32))
    betas = torch.as_tensor(motion.betas, dtype=torch.float32).expand(len(matrices), -1)
    translation = torch.as_tensor(motion.translation, dtype=torch.float32)
    return BODY.joints(matrices[:, 0], matrices[:, 1:], betas, translation, regressor="smpl_24").numpy()


@pytest.fixture(params=ACTIVITIES)
def activity(request):
    return request.param


def test_a_clip_is_its_seed(activity):
    first, again, other = (generate(activity, 30, seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.allclose(first.rotations, other.rotations) and not np.allclose(first.betas, other.betas)


@pytest.mark.parametrize("seed", range(4))
def test_a_clip_moves_like_a_person(activity, seed):
    motion = generate(activity, FRAMES, seed=seed)
    points = joints(motion)
    assert np.isfinite(points).all()
    assert points[..., 1].min() > -0.03  # nothing below the ground
    speed = np.linalg.norm(np.diff(points, axis=0), axis=-1) * 50
    assert speed.max() < 14.0
    assert speed.mean() > 0.02
    lowest = points[..., 1].min(axis=1)
    assert (lowest < 0.16).mean() > (0.5 if activity in ("jump", "run") else 0.99)  # something stands on the ground


@pytest.mark.parametrize("name", ["walk", "squat", "sit_down", "punch", "wave", "turn"])
def test_the_standing_foot_does_not_slide(name):
    for seed in range(3):
        points = joints(generate(name, FRAMES, seed=seed))
        feet = points[:, [7, 8, 10, 11]]
        slip = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1).min(axis=1)
        assert np.quantile(slip, 0.95) < 0.01  # metres per frame of the foot that stands


def test_walking_and_running_get_somewhere_and_jumping_flies():
    for seed in range(3):
        assert np.linalg.norm(np.diff(generate("walk", FRAMES, seed).translation[[0, -1]], axis=0)) > 1.0
        assert np.linalg.norm(np.diff(generate("run", FRAMES, seed).translation[[0, -1]], axis=0)) > 1.0
        lowest = joints(generate("jump", FRAMES, seed))[..., 1].min(axis=1)
        assert 3 < (lowest > 0.12).sum() < FRAMES / 2 and lowest.max() < 0.8


def test_sitting_ends_low_and_crawling_is_on_all_fours():
    for seed in range(3):
        sitting = joints(generate("sit_down", FRAMES, seed))
        assert sitting[-1, 0, 1] < 0.75 * sitting[0, 0, 1]
        crawling = joints(generate("crawl", FRAMES, seed))
        assert crawling[:, 0, 1].max() < 0.8 and crawling[:, 15, 1].max() < 1.1
        assert crawling[:, [20, 21], 1].min(axis=1).mean() < 0.3


def test_joint_limits_hold():
    generator = np.random.default_rng(0)
    limited = clips.limited(generator.normal(0, 200, (10, 24, 3)))
    assert limited[:, 4, 0].min() >= 0 and limited[:, 4, 0].max() <= 150  # knees do not bend backwards
    mirrored = clips.limited(np.full((1, 24, 3), 500.0))
    assert mirrored[0, 18, 1] == 5 and mirrored[0, 19, 1] == 150


def test_who_waits_is_told_once(monkeypatch, capsys):
    assert len(list(activities.clips("val", 1, 20))) == len(ACTIVITIES) and capsys.readouterr().err == ""
    monkeypatch.setattr(activities.time, "monotonic", iter(range(100)).__next__)  # a second for each clip
    list(activities.clips("val", 1, 20))
    assert capsys.readouterr().err == "making 12 clips of synthetic motion (val), about 9 s more\n"


def test_the_data_module_needs_no_file_and_shares_no_person():
    data = SyntheticMotion(clips_per_activity=10, frames_per_clip=20)
    samples = data.load("val")
    assert len(samples["keypoints_2d"]) == len(ACTIVITIES) * 1 * 2 * 4
    assert set(samples["action"]) == set(ACTIVITIES)
    names = [{clip.name for clip in data.clips(split)} for split in ("train", "val", "test")]
    assert not names[0] & names[1] and not names[1] & names[2] and len(names[0]) == 10 * len(ACTIVITIES)
    (protocol,) = data.protocols("test")
    assert protocol.dataset == "synthetic" and "synthetic motion" in protocol.split
    heights = samples["keypoints_3d"][..., 1]
    assert (heights.amax(dim=1) - heights.amin(dim=1)).max() < 3.0
