from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from noise2pose.errors import InputError
from noise2pose.keypoints.arrays import Keypoints
from noise2pose.keypoints.images import person_names
from noise2pose.keypoints.tracks import tracks
from noise2pose.tracking.gaps import with_identities
from tests.noise2pose.keypoints.walker import coco_walker

pytestmark = pytest.mark.skipif(find_spec("trackers") is None, reason="needs the package trackers")
FPS, SECONDS = 25.0, 8
RIGHT, LEFT, AWAY = "walks to the right", "walks to the left", "goes away and returns"


def scene(seed=None, missing=(), fps=FPS, decimals=3):
    """Two people of different heights who cross, and one who leaves at the border and comes back after 0.6 s.

    Returns the record, the poses of each frame in a random order where there is a seed, and who each pose is of.
    """
    frames = int(fps * SECONDS)
    body = np.asarray(coco_walker(frames))[:, :, :2]
    body = body - body.mean(axis=(0, 1))
    rng = None if seed is None else np.random.default_rng(seed)
    points, numbers, who = [], [], []
    for frame in range(frames):
        share = frame / frames
        places = {RIGHT: (200 + 900 * share, 400), LEFT: (1100 - 900 * share, 430), AWAY: (1500.0, 420)}
        if 4.0 <= frame / fps < 4.6:
            del places[AWAY]
        shown = [(name, place) for name, place in places.items() if (name, frame) not in missing]
        for name, place in shown if rng is None else [shown[i] for i in rng.permutation(len(shown))]:
            size = 1.2 if name == LEFT else 1.0
            pose = size * body[frame] * [1.0 if name == RIGHT else -1.0, 1.0] + place
            points.append(np.concatenate((pose, np.full((17, 1), 0.9)), axis=1))
            numbers.append(frame)
            who.append(name)
    images = [f"clip.mp4/clip_{frame:06d}" for frame in numbers]
    record = Keypoints(
        torch.tensor(np.round(points, decimals), dtype=torch.float32),
        "coco_17",
        person_names(images),
        torch.tensor([[1920.0, 1080.0]]).expand(len(points), 2),
        images=images,
        frames=numbers,
        fps=fps,
        times=[frame / fps for frame in numbers],
    )
    return record, who


def named(read, who, tracked):
    """Which identities the poses of each person have, by the joints."""
    known = {points.numpy().tobytes(): name for points, name in zip(read.points, who, strict=True)}
    found = {}
    for points, person, filled in zip(tracked.points, tracked.people, tracked.filled, strict=True):
        if not filled:
            found.setdefault(known[points.numpy().tobytes()], set()).add(person)
    return found


@pytest.mark.parametrize("fps", [10.0, 25.0, 60.0])
def test_people_who_cross_or_come_back_keep_their_numbers(fps):
    read, who = scene(fps=fps)
    tracked = with_identities(read)
    assert named(read, who, tracked) == {RIGHT: {"1"}, LEFT: {"2"}, AWAY: {"3"}}
    assert tracked.notes == ("3 identities by OC-SORT", "1 longer gap not filled: another clip begins")
    assert len(tracked.names) == len(set(tracked.names)) == len(read.names) and not any(tracked.filled)
    clips = tracks(tracked, 50.0)
    lengths = sorted((tracked.people[clip.rows[0]], len(clip.rows)) for clip in clips)
    assert [person for person, _ in lengths] == ["1", "2", "3", "3"] and lengths[0][1] == fps * SECONDS


def test_the_order_of_people_in_a_frame_changes_nothing():
    tracked = with_identities(scene()[0])
    for seed in range(3):
        other = with_identities(scene(seed)[0])
        assert torch.equal(other.points, tracked.points) and other.people == tracked.people
        assert other.names == tracked.names and other.times == tracked.times


def test_gaps_are_filled_and_longer_ones_end_a_clip():
    missing = {(RIGHT, frame) for frame in (10, 11, 12, *range(50, 60))}
    read, who = scene(missing=missing)
    whole, _ = scene()
    tracked = with_identities(read, max_gap=0.3)
    assert sum(tracked.filled) == 3 and "3 poses filled in gaps of up to 0.3 s" in tracked.notes
    assert "2 longer gaps not filled: another clip begins" in tracked.notes
    rows = [row for row, filled in enumerate(tracked.filled) if filled]
    assert [tracked.frames[row] for row in rows] == [10, 11, 12] and {tracked.people[row] for row in rows} == {"1"}
    assert [tracked.images[row] for row in rows] == [f"clip.mp4/clip_{frame:06d}" for frame in (10, 11, 12)]
    assert [tracked.times[row] for row in rows] == pytest.approx([0.4, 0.44, 0.48])
    ends = (tracked.points[rows[0]], tracked.points[rows[2]])
    assert torch.allclose(tracked.points[rows[1]], (ends[0] + ends[1]) / 2, atol=1e-3), "a straight line"
    true = whole.points[[row for row, frame in enumerate(whole.frames) if frame == 11]][0]
    assert (tracked.points[rows[1]] - true).abs().max() < 12, "near to where the joints were"
    assert [len(clip.rows) for clip in tracks(tracked, 50.0) if tracked.people[clip.rows[0]] == "1"] == [50, 140]
    assert sum(with_identities(read, max_gap=0.4).filled) == 13
    split = with_identities(read, max_gap=0.1)
    assert not any(split.filled)
    assert len([clip for clip in tracks(split, 50.0) if split.people[clip.rows[0]] == "1"]) == 3


def test_short_appearances_are_dropped_and_said():
    kept = {0: RIGHT, 1: RIGHT, 2: RIGHT, 7: LEFT}
    missing = {(name, frame) for name in (RIGHT, LEFT) for frame in range(200) if kept.get(frame) != name}
    tracked = with_identities(scene(missing=missing)[0])
    assert set(tracked.people) == {"2"}, "numbers of those who were dropped are not given again"
    assert "1 identity dropped, seen for less than 0.5 s (3 poses)" in tracked.notes
    assert "1 pose dropped, in one frame only" in tracked.notes


def test_identities_of_the_source_are_kept():
    read, who = scene()
    tracked = with_identities(replace(read, people=who))
    assert set(tracked.people) == set(who) and "3 identities as the source gives" in tracked.notes


def test_a_single_frame_has_as_many_identities_as_people():
    read, _ = scene()
    first = replace(read, **read.rows([0, 1, 2]))
    assert with_identities(first).people == ["1", "2", "3"]


def test_what_cannot_be_tracked_is_refused():
    read, _ = scene()
    with pytest.raises(InputError, match="max_gap is -1"):
        with_identities(read, max_gap=-1.0)
    images = ["IMG_20240131_120501.jpg", "IMG_20240131_120502.jpg"]
    photographs = Keypoints(read.points[:2], "coco_17", images, None)
    with pytest.raises(InputError, match="these images do not count any"):
        with_identities(photographs)
