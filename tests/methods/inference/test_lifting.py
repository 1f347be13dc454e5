import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.base import PoseMethod
from methods.inference import Lifter
from methods.inference.lifting import lift
from methods.inference.model import SAMPLE
from noise2pose import cameras
from noise2pose.errors import InputError
from noise2pose.keypoints.files import read_keypoints
from tests.noise2pose.keypoints.walker import coco_walker


class Echo(PoseMethod):
    """Answers the screen coordinates that it was given, and numbers the windows by their first frame."""

    def __init__(self, num_frames):
        super().__init__()
        self.num_frames = num_frames
        self.windows = []

    def forward(self, batch):
        points, camera = batch["keypoints_2d"], batch["camera"]
        assert points.ndim == (3 if self.num_frames == 1 else 4)
        assert set(batch["sample_id"]) == {SAMPLE}
        self.windows += points.flatten(1, -2)[:, 0, 2].tolist()  # the confidence tells the frame
        middle = (slice(None), *(None,) * (points.ndim - 2))
        rays = (points[..., :2] - camera["principal_point"][middle]) / camera["focal"][middle]
        joints = torch.cat((rays, points[..., 2:]), dim=-1)
        return {"joints_3d": joints, "uncertainty": points[..., 2], "hypotheses": torch.stack((joints, joints + 1))}


def clip(number):
    points = 100.0 * torch.randn(number, 17, 3, generator=torch.Generator().manual_seed(0))
    points[..., 2] = torch.arange(number)[:, None]  # the confidence tells the frame
    return points


@pytest.mark.parametrize(
    ("frames", "number", "windows"),
    [(1, 3, [0, 1, 2]), (4, 8, [0, 4]), (4, 10, [0, 4, 6]), (4, 5, [0, 1]), (4, 4, [0]), (4, 3, [0]), (4, 1, [0])],
)
def test_every_frame_is_answered_once_and_in_order(frames, number, windows):
    points, method = clip(number), Echo(frames)
    lifted = lift(method, points)
    assert method.windows == windows
    assert lifted.joints_3d.shape == (number, 17, 3)
    assert lifted.uncertainty is not None and torch.equal(lifted.uncertainty, points[..., 2])
    assert lifted.hypotheses is not None and lifted.hypotheses.shape == (number, 2, 17, 3)
    assert torch.equal(lifted.hypotheses[:, 0], lifted.joints_3d)
    assert torch.equal(lifted.joints_3d[..., 2], points[..., 2])


def test_the_answer_does_not_depend_on_where_and_how_large_the_person_is():
    points = clip(2)
    moved = torch.cat((3.0 * points[..., :2] + 700.0, points[..., 2:]), dim=-1)
    near, far = (lift(Echo(1), keypoints).joints_3d for keypoints in (points, moved))
    assert torch.allclose(near, far, atol=1e-5)
    half = 0.5 / (2.2 * cameras.VIRTUAL_FOCAL)
    assert near[..., :2].abs().amax() == pytest.approx(half, rel=1e-4), "the box takes 1 / 2.2 of the image"


def test_a_window_has_one_virtual_image():
    points = clip(4)
    lifted = lift(Echo(4), points).joints_3d[..., :2]
    assert lifted.flatten(0, 1).amax(dim=0).add(lifted.flatten(0, 1).amin(dim=0)).abs().max() < 1e-6
    moved, given = lifted[1:] - lifted[:-1], points[1:, :, :2] - points[:-1, :, :2]
    assert torch.allclose(moved / given, (moved / given)[0, 0, 0], rtol=1e-2), "one scale, one corner"


def test_a_person_without_size_is_refused():
    points = clip(2)
    points[1, :, :2] = 5.0
    with pytest.raises(InputError, match="pose 1: all joints lie at one point"):
        lift(Echo(1), points)


def test_a_method_without_uncertainty():
    method = Echo(1)
    method.forward = lambda batch: {"joints_3d": batch["keypoints_2d"]}
    lifted = lift(method, clip(3))
    assert lifted.uncertainty is None and lifted.hypotheses is None


def lifted(tmp_path, entries, model="diffpose-people-27"):
    path = tmp_path / "keypoints.json"
    path.write_text(json.dumps(entries))
    poses = LIFTERS.setdefault(model, Lifter(model)).predict(path)
    return poses, dict(zip(poses.names, poses.joints_3d, strict=True))


LIFTERS = {}


def two_people(frames, spelling=int):
    return [
        {"image_id": f"v/{t}.jpg", "keypoints": coco_walker(frames, p)[t].ravel().tolist(), "track_id": spelling(p)}
        for t in range(frames)
        for p in (0, 1)
    ]


def test_each_person_of_a_video_is_lifted_alone(tmp_path):
    entries = two_people(6)
    poses, together = lifted(tmp_path, entries)
    assert "12 poses of 2 tracked people in 6 images" in poses.about and "2 clips at 50 frames" in poses.about
    assert poses.about.endswith("; no GIF, which shows one track: there are 2") and not poses.is_clip
    _, alone = lifted(tmp_path, entries[::2])
    assert all(np.allclose(together[name], joints, atol=1e-5) for name, joints in alone.items())
    untracked = [{key: value for key, value in entry.items() if key != "track_id"} for entry in entries]
    with pytest.raises(InputError, match="0 and 0#2 are of one frame, and no identities"):
        lifted(tmp_path, untracked)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1000), spelling=st.sampled_from([str, float, lambda p: [float(p)]]))
def test_order_and_names_change_nobodys_pose(tmp_path_factory, seed, spelling):
    tmp_path = tmp_path_factory.mktemp("any")
    _, expected = lifted(tmp_path, two_people(4))
    entries = two_people(4, spelling)
    random.Random(seed).shuffle(entries)
    entries = [dict(random.Random(seed).sample(list(entry.items()), len(entry))) for entry in entries]
    for entry in entries:
        entry["image_id"] = "C:\\other\\shot" + entry["image_id"][2:].replace("jpg", "png")
    _, found = lifted(tmp_path, entries)
    renamed = {name.replace("shot", ""): joints for name, joints in found.items()}
    assert renamed.keys() == expected.keys()
    assert all(np.allclose(renamed[name], joints, atol=1e-5) for name, joints in expected.items())


def test_the_frame_rate_says_how_fast_people_move(tmp_path):
    points = coco_walker(40)
    lifter = Lifter("diffpose-people-27")
    every = lifter.predict(points)
    half = lifter.predict(points[::2], fps=25.0)
    assert half.about.endswith("1 clip at 25 frames a second") and len(half) == 20
    wrong = lifter.predict(points[::2])
    away = [np.abs(poses.joints_3d - every.joints_3d[::2]).mean() for poses in (half, wrong)]
    assert away[0] < 0.5 * away[1]
    with pytest.raises(InputError, match="fps is -1"):
        lifter.predict(points, fps=-1)
    photographs = [f"IMG_{number:04d}.jpg" for number in (231, 232)]
    assert lifter.predict(points[:2], names=photographs).about.endswith("frames of one video need --fps")
    assert lifter.predict(points[:2], names=photographs, fps=50).about.endswith("1 clip at 50 frames a second")


def test_the_frames_of_a_video_are_levelled_alike_and_photographs_one_by_one():
    points = coco_walker(5)
    lifter = LIFTERS.setdefault("diffpose-people", Lifter("diffpose-people"))
    as_video = lifter.predict(points, names=[f"v/{frame}.jpg" for frame in range(5)])
    as_photos = lifter.predict(points, names=[f"IMG_{number:04d}.jpg" for number in (3, 9, 20, 21, 40)])
    assert np.array_equal(as_video.joints_3d, as_photos.joints_3d)
    assert (as_video.levels.rotation == as_video.levels.rotation[0]).all()
    assert as_video.summary().endswith(" if 5 of 5 poses stand")
    assert len({rotation.tobytes() for rotation in as_photos.levels.rotation}) == 5
    up = as_photos.levels.rotation[1] @ (as_photos.joints_3d[1, 8] - as_photos.joints_3d[1, [3, 6]].mean(axis=0))
    assert up[1] < -0.9 and abs(up[[0, 2]]).max() < 1e-4, "from the ankles to the thorax is straight up"


def test_a_given_pitch_turns_the_pictures_and_not_the_numbers(tmp_path):
    lifter, points = LIFTERS.setdefault("diffpose-people", Lifter("diffpose-people")), coco_walker(1)
    saved = []
    for pitch in (None, 40.0):
        lifter.predict(points, camera_pitch=pitch).save(tmp_path / str(pitch))
        with np.load(tmp_path / str(pitch) / "poses.npz") as file:
            saved.append(dict(file))
    assert saved[0].keys() == saved[1].keys()
    changed = {key for key in saved[0] if not np.array_equal(saved[0][key], saved[1][key])}
    assert changed == {"level_rotation", "level"} and saved[1]["level"].tolist() == ["camera 40 degrees down, as given"]
    pictures = [(tmp_path / str(pitch) / "pose_00000.png").read_bytes() for pitch in (None, 40.0)]
    assert pictures[0] != pictures[1]
    with pytest.raises(InputError, match="camera_pitch is -95, expected degrees"):
        lifter.predict(points, camera_pitch=-95)


def test_the_output_says_who_is_who_and_when(tmp_path):
    entries = two_people(3)
    del entries[2]  # the first person is not seen in the second frame
    poses, _ = lifted(tmp_path, entries)
    assert poses.people == ["0", "1", "1", "0", "1"] and poses.images[2] == "v/1.jpg"
    poses.save(tmp_path / "out", pictures=0, gif=False)
    again = read_keypoints(tmp_path / "out" / "poses.npz")
    assert (again.people, again.images, again.skeleton) == (poses.people, poses.images, "h36m_17")
