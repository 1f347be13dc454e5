"""Poses of a record as clips of people: identities given, short ones left out, gaps filled or left as an end.

Shape letters: T poses, J joints.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float

from noise2pose.errors import InputError
from noise2pose.keypoints.arrays import Keypoints, counted
from noise2pose.keypoints.images import frame_number, natural, person_names, without_ending
from noise2pose.keypoints.tracks import LONGEST_GAP, frames_of_videos, step_of, times_of
from noise2pose.tracking.identities import identities
from noise2pose.tracking.things import are_things

MAX_GAP = 0.5  # seconds without detection that are filled by default
SHORTEST = 0.5  # seconds that somebody must be seen in all, in a video of at least five times that
_LAST_NUMBER = re.compile(r"[0-9]+(?=[^0-9]*$)")


class _Pose(NamedTuple):
    """A pose of the record, or one between two of them."""

    video: int
    frame: int
    person: str | None
    row: int
    later: int | None = None  # row of the second of two
    weight: float = 0.0  # of that second one


def with_identities(read: Keypoints, max_gap: float = MAX_GAP, fps: float = 50.0) -> Keypoints:
    """The same poses with the identity of each person, and with those between that were not detected.

    A gap of at most `max_gap` is filled: its poses are interpolated and marked as `filled`. A longer one ends a clip,
    and the person keeps the number if they are found again within `identities.REMEMBERED`. Who is seen too
    shortly is left out, and so are things (`noise2pose.tracking.things`); the notes say how many. Identities
    that the source gives are kept.

    Args:
        read: the poses; those that are no frames of a video stay as they are, without identities, and come last.
        max_gap: seconds.
        fps: usual distances of two frames in a second, where the source does not say it.

    Returns:
        The poses in the order of videos, frames and people.

    Raises:
        InputError: if the package for tracking is missing, the gap is negative, or nobody is left.
    """
    if not 0.0 <= max_gap < float("inf"):
        raise InputError(f"max_gap is {max_gap}, expected seconds from 0 on")
    videos, alone = frames_of_videos(read)
    source = str(read.source or "keypoints")
    if not videos:
        raise InputError(f"{source}: --track (track=True) needs frames of a video; these images do not count any")
    poses: list[_Pose] = []
    said: Counter[str] = Counter()
    for video, unsorted in enumerate(videos.values()):
        frames = sorted(unsorted)
        people = [read.people[row] for _, row in frames]
        times, _ = times_of(read, frames, fps)
        if not any(people):
            numbers = _found(read, frames, times)
            people = [None if number < 0 else str(said["found"] + number + 1) for number in numbers]
            said["found"] += max(numbers) + 1
        poses += _clips(read, video, frames, people, max_gap, fps, said)
    if not poses:
        raise InputError(f"{source}: nobody can be tracked ({'; '.join(_notes(0, said, max_gap))})")
    named = {(pose.video, pose.person) for pose in poses if pose.person is not None}
    poses += [_Pose(len(videos), 0, None, row) for row in alone]
    tracked = _joined(read, sorted(poses, key=lambda pose: (pose.video, pose.frame, natural(pose.person or ""))))
    notes = (*read.notes, *_notes(len(named), said, max_gap))
    return replace(tracked, longest_gap=min(max_gap, LONGEST_GAP), notes=notes)


def _found(read: Keypoints, frames: Sequence[tuple[int, int]], times: Sequence[float]) -> list[int]:
    """The number of each pose of a video, -1 for those that no other follows."""
    shown: dict[int, list[int]] = {}
    clock: dict[int, float] = {}
    for position, ((frame, _), time) in enumerate(zip(frames, times, strict=True)):
        shown.setdefault(frame, []).append(position)
        clock[frame] = time
    return identities(read.points[[row for _, row in frames]], list(shown.values()), list(clock.values()))


def _clips(
    read: Keypoints,
    video: int,
    frames: Sequence[tuple[int, int]],
    people: Sequence[str | None],
    max_gap: float,
    fps: float,
    said: Counter[str],
) -> list[_Pose]:
    """The poses of a video that are kept, and those that are filled in; `said` counts what happened."""
    times, usual = times_of(read, frames, fps)
    step = step_of([frame for frame, _ in frames])
    given = any(read.people[row] is not None for _, row in frames)
    shortest = 0.0 if given or times[-1] - times[0] < 5.0 * SHORTEST else SHORTEST
    of_person: dict[str | None, list[tuple[int, int, float]]] = {}
    for (frame, row), person, time in zip(frames, people, times, strict=True):
        of_person.setdefault(person, []).append((frame, row, time))
    nobody = of_person.pop(None, [])
    poses = [_Pose(video, frame, None, row) for frame, row, _ in nobody] if given else []
    said["single"] += len(nobody) - len(poses)
    things = are_things([read.points[[row for _, row, _ in shown]] for shown in of_person.values()])
    for (person, shown), thing in zip(of_person.items(), things, strict=True):
        if thing and not given:
            said["things"] += 1
            said["thing poses"] += len(shown)
            continue
        if len(shown) * usual < shortest - 1e-6:
            said["short"] += 1
            said["short poses"] += len(shown)
            continue
        lasted = shown[-1][2] - shown[0][2] + usual
        if len(shown) * usual < min(2.0 * shortest, lasted / 2.0):
            said["now and then"] += 1
            said["now and then poses"] += len(shown)
            continue
        poses += [_Pose(video, frame, person, row) for frame, row, _ in shown]
        for (frame, row, time), (following, later, then) in pairwise(shown):
            between = range(frame + step, following, step)
            if not between:
                continue
            if then - time - usual > max_gap + 1e-6:
                said["longer"] += 1
                continue
            said["filled"] += len(between)
            weights = [(each - frame) / (following - frame) for each in between]
            poses += [
                _Pose(video, each, person, row, later, weight) for each, weight in zip(between, weights, strict=True)
            ]
    return poses


def _notes(number: int, said: Counter[str], max_gap: float) -> list[str]:
    """What happened, in words."""
    notes = [f"{counted(number, 'identity', 'identities')} {'by OC-SORT' if said['found'] else 'as the source gives'}"]
    if said["short"]:
        who = counted(said["short"], "identity", "identities")
        notes.append(f"{who} dropped, seen for less than {SHORTEST:g} s ({counted(said['short poses'], 'pose')})")
    if said["now and then"]:
        who, poses = counted(said["now and then"], "identity", "identities"), said["now and then poses"]
        notes.append(
            f"{who} dropped, seen for less than {2 * SHORTEST:g} s and half of the time ({counted(poses, 'pose')})"
        )
    if said["things"]:
        who = counted(said["things"], "identity", "identities")
        notes.append(
            f"{who} dropped, small things that lie where they are all the time ({counted(said['thing poses'], 'pose')})"
        )
    if said["single"]:
        notes.append(f"{counted(said['single'], 'pose')} dropped, in one frame only")
    if said["filled"]:
        notes.append(f"{counted(said['filled'], 'pose')} filled in gaps of up to {max_gap:g} s")
    if said["longer"]:
        notes.append(f"{counted(said['longer'], 'longer gap')} not filled: another clip begins")
    return notes


def _joined(read: Keypoints, poses: Sequence[_Pose]) -> Keypoints:
    """The record of some poses, in their order."""
    values = read.rows([pose.row for pose in poses])
    known = {(pose.video, pose.frame): read.images[pose.row] for pose in poses if pose.later is None}
    images, frames, times, points = values["images"], values["frames"], values["times"], values["points"].clone()
    for row, pose in enumerate(poses):
        if pose.later is None:
            continue
        images[row] = known.get((pose.video, pose.frame)) or _image_between(read, pose)
        frames[row] = None if frames[row] is None else pose.frame
        points[row] = _between(read.points[pose.row], read.points[pose.later], pose.weight)
        if times:
            times[row] = (1.0 - pose.weight) * read.times[pose.row] + pose.weight * read.times[pose.later]
    filled = [pose.later is not None for pose in poses]
    values |= {"points": points, "people": [pose.person for pose in poses], "names": person_names(images)}
    return replace(read, **{**values, "filled": filled})


def _between(first: Float[torch.Tensor, "J 3"], last: Float[torch.Tensor, "J 3"], weight: float) -> torch.Tensor:
    """(J, 3) joints on the straight line between two; those that are seen on one side only are where they are there."""
    seen = torch.stack((first[:, 2], last[:, 2])) > 0
    share = torch.where(seen.all(dim=0), weight, torch.where(seen[1], 1.0, 0.0))[:, None]
    mixed = torch.lerp(first, last, share)
    mixed[:, 2] = torch.where(seen.all(dim=0), torch.minimum(first[:, 2], last[:, 2]), mixed[:, 2])
    return mixed


def _image_between(read: Keypoints, pose: _Pose) -> str:
    """The image of a frame in which nobody was detected: numbered as that of the pose before."""
    earlier = read.images[pose.row]
    stem, said = without_ending(earlier), read.frames[pose.row]
    if said is not None and frame_number(earlier)[1] != said:
        return f"{stem}+{pose.frame}"
    return _LAST_NUMBER.sub(lambda found: str(pose.frame).zfill(len(found[0])), stem) + earlier[len(stem) :]
