from dataclasses import replace

import numpy as np
import pytest
import torch

from noise2pose.keypoints.images import person_names
from noise2pose.tracking.gaps import with_identities
from noise2pose.tracking.things import are_things
from tests.noise2pose.tracking.test_gaps import AWAY, LEFT, RIGHT, named, scene

SEED = 4


def poses(width, height, moved=0.0, frames=40, seed=SEED):
    """Poses of a box of this size, which jitter by a tenth of it, and go `moved` sides to the right."""
    rng = np.random.default_rng(seed)
    shape = rng.uniform(0.0, 1.0, (17, 2)) * [width, height]
    points = shape + 0.1 * min(width, height) * rng.normal(size=(frames, 17, 2))
    points[..., 0] += moved * max(width, height) * np.linspace(0.0, 1.0, frames)[:, None]
    return torch.tensor(np.concatenate((points, np.full((frames, 17, 1), 0.9)), axis=2), dtype=torch.float32)


def test_only_what_is_small_and_lies_and_stays_is_a_thing():
    person, thing = poses(100, 300, moved=1.0), poses(60, 35)
    assert are_things([person, thing]) == [False, True]
    assert are_things([thing, person]) == [True, False]
    for other in (poses(35, 60), poses(60, 35, moved=3.0), poses(300, 100)):
        assert are_things([person, other]) == [False, False]
    assert are_things([thing]) == [False], "nobody is larger"
    assert are_things([]) == []


def test_the_foot_of_a_table_gets_no_identity_and_the_people_keep_theirs():
    pytest.importorskip("trackers")
    read, who = scene()
    table = poses(60, 35, frames=120) + torch.tensor([700.0, 900.0, 0.0])
    rows = list(range(len(read.names))) + [0] * 120
    values = read.rows(rows)
    frames = [*read.frames, *range(20, 140)]
    order = sorted(range(len(rows)), key=lambda row: (frames[row], row))
    points = torch.cat((read.points, table))
    images = [f"clip.mp4/clip_{frame:06d}" for frame in frames]
    values |= {
        "points": points[order],
        "images": [images[row] for row in order],
        "names": person_names([images[row] for row in order]),
        "frames": [frames[row] for row in order],
        "times": [frames[row] / 25.0 for row in order],
    }
    tracked = with_identities(replace(read, **values))
    assert "1 identity dropped, small things that lie where they are all the time (120 poses)" in tracked.notes
    alone = with_identities(read)
    assert len(tracked.names) == len(alone.names)
    assert set(named(read, who, tracked)) == {RIGHT, LEFT, AWAY}
    assert {name: len(numbers) for name, numbers in named(read, who, tracked).items()} == {
        name: len(numbers) for name, numbers in named(read, who, alone).items()
    }


def test_who_is_seen_now_and_then_for_a_moment_gets_no_identity():
    pytest.importorskip("trackers")
    gone = {(AWAY, frame) for frame in range(200) if frame >= 60 or (frame >= 10 and frame % 4)}
    tracked = with_identities(scene(missing=gone)[0])
    assert set(tracked.people) == {"1", "2"}
    assert any("1 identity dropped, seen for less than 1 s and half of the time" in note for note in tracked.notes)
