import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noise2pose.errors import InputError
from noise2pose.keypoints.arrays import from_array
from noise2pose.keypoints.files import read_keypoints
from noise2pose.keypoints.tracks import at_places, resample, tracks
from tests.noise2pose.keypoints.walker import coco_walker


def record(images, people=None, frames=None, fps=None):
    found = from_array("array", coco_walker(40)[: len(images)], names=np.array(images))
    people, frames = people or [None] * len(images), frames or [None] * len(images)
    return replace(found, people=people, frames=frames, fps=fps)


def rows(read, fps=50.0):
    return [(track.rows, [round(time, 3) for time in track.times]) for track in tracks(read, fps)]


def test_people_are_told_apart_by_identity_whatever_their_order():
    images = [f"{t}.jpg" for t in (1, 1, 0, 0, 2)]
    assert rows(record(images, ["a", "b", "b", "a", "a"])) == [([2, 1], [0.0, 0.02]), ([3, 0, 4], [0.0, 0.02, 0.04])]
    with pytest.raises(InputError, match=r"0 and 0#2 are of one frame, and no identities .track_id, idx or person_id"):
        tracks(record(images), 50.0)
    with pytest.raises(InputError, match="person a is twice in frame 1"):
        tracks(record(images, ["a", "a", "b", "a", "a"]), 50.0)
    alone = rows(record(images, ["a", None, None, "a", "a"]))
    assert alone == [([1], [0.0]), ([2], [0.0]), ([3, 0, 4], [0.0, 0.02, 0.04])]


def test_a_sign_counts_where_names_have_numbers_without_it():
    assert rows(record(["t_-1.jpg", "t_0.jpg", "t_1.jpg", "t_-2.jpg"]))[0][0] == [3, 0, 1, 2]
    assert rows(record(["t_-1.jpg", "t_-2.jpg"]))[0][0] == [0, 1], "a hyphen before every number"
    assert len(rows(record(["a-1.jpg", "a-2.jpg", "a1.jpg", "a2.jpg"]))) == 2


def test_unrelated_images_are_no_motion():
    for images in (
        ["holiday.jpg", "office.jpg"],
        ["000000000139.jpg", "000000000285.jpg", "000000000632.jpg", "000000000724.jpg", "000000000776.jpg"],
        ["img1.jpg", "img1.jpg"],
        ["a1.jpg", "b2.jpg"],
    ):
        assert rows(record(images)) == [([row], [0.0]) for row in range(len(images))]


def test_photographs_with_consecutive_numbers_are_no_motion():
    photographs, alone = [f"trip/IMG_{number:04d}.JPG" for number in (231, 232, 233)], [([0], [0.0]), ([1], [0.0])]
    assert rows(record(photographs)) == [*alone, ([2], [0.0])]
    assert rows(record(photographs, fps=30.0)) == [([0, 1, 2], [0.0, 0.033, 0.067])], "somebody said that they are"
    assert rows(record(photographs, people=["a"] * 3)) == [([0, 1, 2], [0.0, 0.02, 0.04])]
    for first, second in (
        ("PXL_20240131_120501", "PXL_20240131_120502"),
        ("cam1 2024-01-31 12.05.01", "cam1 2024-01-31 12.05.02"),
        ("20240131120501", "20240131120502"),
        ("IMG-20240131-WA0001", "IMG-20240131-WA0002"),
        ("_DSC1234", "_DSC1235"),
    ):
        assert rows(record([f"{first}.jpg", f"{second}.jpg"])) == alone
    for first, second in (("img_0001", "img_0002"), ("VID_20240131_120501_0001", "VID_20240131_120501_0002")):
        assert len(rows(record([f"{first}.jpg", f"{second}.jpg"]))) == 1
    assert (
        rows(replace(record(["1.jpg", "2.jpg"]), image_sizes=torch.tensor([[640.0, 480.0], [480.0, 640.0]]))) == alone
    )


def test_videos_of_one_folder_are_named():
    read = record(["v1_0.jpg", "v2_0.jpg", "v1_1.jpg", "v2_1.jpg"], frames=[0, 0, 1, 1])
    with pytest.raises(InputError, match=r"images 10 and 20 \(v1_0.jpg, v2_0.jpg\) are one frame: give .* a folder"):
        tracks(replace(read, image_ids=["10", "20", "11", "21"]), 50.0)


def test_where_nobody_can_move_that_fast_another_sequence_begins():
    read = record([f"{number}.jpg" for number in range(6)])
    points = read.points.clone()
    points[3:, :, :2] += 0.5 * (points[0, :, :2].amax(dim=0) - points[0, :, :2].amin(dim=0))
    another = replace(read, points=points)
    assert rows(another) == [([0, 1, 2], [0.0, 0.02, 0.04]), ([3, 4, 5], [0.0, 0.02, 0.04])]
    exchanged = replace(another, people=["a"] * 6)
    assert rows(exchanged) == rows(another), "by its tracker"
    assert len(rows(replace(another, fps=5.0))) == 1, "in 0.2 seconds one can"
    points[4, :, 2] = 0.0
    assert [track for track, _ in rows(replace(another, points=points))] == [[0, 1, 2], [3, 4, 5]]


def test_people_whose_image_nobody_names_are_of_one_image(tmp_path):
    entries = [{"image_id": None, "keypoints": pose.ravel().tolist()} for pose in coco_walker(3)]
    (tmp_path / "group.json").write_text(json.dumps(entries))
    read = read_keypoints(tmp_path / "group.json")
    assert read.names == ["group", "group#2", "group#3"] and rows(read) == [([row], [0.0]) for row in range(3)]


def test_cameras_and_videos_are_sequences_of_their_own():
    images = ["cam1/01.jpg", "cam2/01.jpg", "cam1/02.jpg", "cam2/02.jpg"]
    assert rows(record(images)) == [([0, 2], [0.0, 0.02]), ([1, 3], [0.0, 0.02])]
    assert rows(record(images, frames=[5, 5, 6, 6])) == rows(record(images)), "frames count within a folder"


def test_gaps_are_gaps_in_time():
    short, long = [0, 1, 2, 7, 8], [0, 1, 2, 40, 41]
    assert rows(record([f"{t}.jpg" for t in short])) == [([0, 1, 2, 3, 4], [0.0, 0.02, 0.04, 0.14, 0.16])]
    assert rows(record([f"{t}.jpg" for t in long])) == [([0, 1, 2], [0.0, 0.02, 0.04]), ([3, 4], [0.0, 0.02])]
    every_fourth = [f"{t}.jpg" for t in (0, 4, 8, 12, 20)]
    assert rows(record(every_fourth)) == [([0, 1, 2, 3, 4], [0.0, 0.02, 0.04, 0.06, 0.1])], "at the assumed rate"
    stated = [round(t / 30, 3) for t in (0, 4, 8, 12, 20)]
    assert rows(record(every_fourth, fps=30.0)) == [([0, 1, 2, 3, 4], stated)]


@given(fps=st.sampled_from([24.0, 25.0, 29.97, 30.0, 50.0, 60.0, 120.0]), number=st.integers(1, 40))
def test_resampling_keeps_a_steady_motion(fps, number):
    times = [frame / fps for frame in range(number)]
    points = torch.zeros(number, 17, 3)
    points[..., 0] = 100.0 * torch.tensor(times)[:, None]
    points[..., 2] = 0.7
    found = resample(points, times, 50.0)
    assert (
        torch.allclose(found.points[:, 0, 0], torch.arange(len(found.points)) * 2.0, atol=1e-3)
        or number == 1
        or (torch.allclose(found.points[:-1, 0, 0], torch.arange(len(found.points) - 1) * 2.0, atol=1e-3))
    ), "the last frame may lie behind the last pose"
    assert torch.allclose(at_places(found.points, found.places)[..., 0], points[..., 0], atol=2.1)
    assert (found.points[..., 2] > 0).all()


def test_the_frame_rate_of_the_method_changes_nothing():
    points = torch.from_numpy(coco_walker(9)).float()
    found = resample(points, [frame / 50.0 for frame in range(9)], 50.0)
    assert torch.equal(found.points, points) and torch.equal(at_places(found.points, found.places), points)


def test_missing_frames_are_between_their_neighbours_without_confidence():
    points = torch.from_numpy(coco_walker(8)).float()
    kept = [0, 1, 2, 3, 6, 7]
    found = resample(points[kept], [frame / 50.0 for frame in kept], 50.0)
    assert torch.equal(found.points[kept], points[kept]) and (found.points[4:6, :, 2] == 0).all()
    assert torch.allclose(found.points[4, :, :2], (2 * points[3, :, :2] + points[6, :, :2]) / 3, atol=1e-3)
    assert torch.equal(at_places(found.points, found.places), points[kept])
