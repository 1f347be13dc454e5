"""Which poses of a source are frames of one person's motion, and when they were taken.

Shape letters: T poses, F frames, J joints.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose.errors import InputError
from noise2pose.keypoints.arrays import Keypoints
from noise2pose.keypoints.images import frame_number, without_ending

LONGEST_GAP = 0.25  # seconds without the person that are filled; a longer gap begins another sequence
# Sizes of a person that joints move on average between two poses of a motion: noise of a detector, and in a second.
# A sprinter runs 5 or 6 sizes in a second; between unrelated images it is 0.3 and more.
_MOST_MOVED, _FASTEST = 0.15, 5.0
# As cameras count photographs (IMG_0231, DSC01234, P1010231), or name them by the time (IMG_20240131_120501).
_PHOTOGRAPH = re.compile(
    r"(_?(IMG|MG|DSC|DSCN|DSCF|CIMG|SAM|PICT|IMGP|HPIM|GOPR|DJI)_?|P\d{3})\d{4,5}"
    r"|(.*\D)?(19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d[-_ T]*(WA\d{4}|[0-2]\d[-_.]?[0-5]\d[-_.]?[0-5]\d\d{0,3})",
    re.ASCII,
)


class Track(NamedTuple):
    """Poses of one person in the order of time; a single pose where nothing says what it follows.

    Attributes:
        rows: positions in the record.
        times: seconds, of each.
    """

    rows: list[int]
    times: list[float]


def tracks(read: Keypoints, fps: float) -> list[Track]:
    """The tracks of a record.

    People are told apart by their identities. Without identities all poses of a video are of one person, if they are of
    different frames. Where somebody moves faster than anybody can, another sequence begins, because trackers and
    columns of arrays exchange people. Frames are numbered by the source, or by the last number in the names of the
    images; what stands around that number tells videos apart. The poses of images that are not numbered regularly, or
    differ in size, stand alone; so do those of images that are called like photographs, where no frame rate says that
    they are a video.

    Args:
        read: the poses.
        fps: frames in a second where the source does not say; one frame is then the usual distance of two poses.

    Raises:
        InputError: if frames of a video show several people without identities, or an identity twice.
    """
    videos, alone = frames_of_videos(read)
    found = [Track([row], [0.0]) for row in alone]
    for frames in videos.values():
        people: dict[str | None, list[tuple[int, int]]] = {}
        for frame, row in sorted(frames):
            people.setdefault(read.people[row], []).append((frame, row))
        if len(people) > 1:  # who has no number among others that have one is nobody's next frame
            found += [Track([row], [0.0]) for _, row in people.pop(None, [])]
        for person in people.values():
            _check_one_person(read, person)
            found += _unbroken(read, person, fps)
    return sorted(found, key=lambda track: track.rows[0])


def frames_of_videos(read: Keypoints) -> tuple[dict[str, list[tuple[int, int]]], list[int]]:
    """Number and row of the poses of each video, and the rows of poses that are in none, as `tracks` describes it."""
    videos: dict[str, list[tuple[int, int]]] = {}
    alone: list[int] = []
    for row, (image, frame) in enumerate(zip(read.images, read.frames, strict=True)):
        video, number = (str(PurePosixPath(image).parent), frame) if frame is not None else frame_number(image)
        if frame is None and read.fps is None and read.people[row] is None and is_photograph(image):
            number = None
        if number is None:
            alone.append(row)
        else:
            videos.setdefault(video, []).append((number, row))
    regular: dict[str, list[tuple[int, int]]] = {}
    for video, frames in _with_negative(videos).items():
        rows = [row for _, row in frames]
        if (read.times or _is_regular([frame for frame, _ in frames])) and _sizes(read, rows) == 1:
            regular[video] = frames
        else:
            alone += rows
    return regular, alone


def _with_negative(videos: dict[str, list[tuple[int, int]]]) -> dict[str, list[tuple[int, int]]]:
    """The frames of some videos, where `t_-3` comes before `t_0`: a sign counts where there are names without it."""
    merged = {video: list(frames) for video, frames in videos.items()}
    for video, frames in videos.items():
        before, end, after = video.rpartition("\0")
        positive = before.removesuffix("-") + end + after
        if positive in videos and before.endswith("-") and not before[-2:-1].isalnum():
            merged[positive] += [(-number, row) for number, row in frames]
            del merged[video]
    return merged


def _check_one_person(read: Keypoints, frames: Sequence[tuple[int, int]]) -> None:
    source = str(read.source or "keypoints")
    for (frame, row), (following_frame, following) in pairwise(frames):
        if frame == following_frame and read.people[row] is not None:
            raise InputError(f"{source}: person {read.people[row]} is twice in frame {frame}: {read.names[following]}")
        ids = {read.image_ids[row], read.image_ids[following]} if read.image_ids else set()
        if frame == following_frame and len(ids) > 1:
            images = dict.fromkeys((read.images[row], read.images[following]))
            same = f"are both called {read.images[row]}" if len(images) == 1 else f"({', '.join(images)}) are one frame"
            raise InputError(
                f"{source}: images {' and '.join(sorted(ids))} {same}: give the images of each camera, or video, a "
                "folder in their file_name"
            )
        if frame == following_frame:
            raise InputError(
                f"{source}: {read.names[row]} and {read.names[following]} are of one frame, and no identities "
                "(track_id, idx or person_id) say who is who: say --track (track=True) to find out, or use a model for "
                "single frames"
            )


def times_of(read: Keypoints, frames: Sequence[tuple[int, int]], assumed: float) -> tuple[list[float], float]:
    """Seconds of some frames of a video, and the usual time between two.

    Args:
        read: the poses.
        frames: number and row of each, in the order of the numbers.
        assumed: usual distances of two frames in a second, where the source says no rate.
    """
    step = step_of([frame for frame, _ in frames])
    rate = assumed * step if read.fps is None else read.fps
    if not read.times:
        return [frame / rate for frame, _ in frames], step / rate
    times = [read.times[row] for _, row in frames]
    between = sorted(later - earlier for earlier, later in pairwise(times) if later > earlier)
    return times, between[len(between) // 2] if between else step / rate


def _unbroken(read: Keypoints, frames: Sequence[tuple[int, int]], assumed: float) -> list[Track]:
    """The frames and rows of one person, cut at long gaps and at leaps."""
    times, usual = times_of(read, frames, assumed)
    longest_gap = LONGEST_GAP if read.longest_gap is None else read.longest_gap
    parts: list[Track] = []
    start = last = 0.0
    for (_, row), time in zip(frames, times, strict=True):
        away = time - last
        if (
            not parts
            or away - usual > longest_gap
            or _moved(read, parts[-1].rows[-1], row) > _MOST_MOVED + _FASTEST * away
        ):
            parts.append(Track([], []))
            start = time
        parts[-1].rows.append(row)
        parts[-1].times.append(time - start)
        last = time
    return parts


def _moved(read: Keypoints, first: int, second: int) -> float:
    """How far the joints that are seen in two poses are apart on average, in sizes of the larger one."""
    pair = read.points[[first, second]]
    seen = pair[..., 2] > 0
    both = seen.all(dim=0)
    if not both.any():
        return 0.0
    sizes = [points[of, :2].aminmax(dim=0) for points, of in zip(pair, seen, strict=True)]
    size = max(float((highest - lowest).norm()) for lowest, highest in sizes)
    return float((pair[0, both, :2] - pair[1, both, :2]).norm(dim=-1).mean()) / max(size, 1e-9)


def _sizes(read: Keypoints, rows: Sequence[int]) -> int:
    """How many sizes some images have; frames of a video have one."""
    return 1 if read.image_sizes is None else len(read.image_sizes[list(rows)].unique(dim=0))


def is_photograph(image: str) -> bool:
    """Whether an image is called as cameras call photographs, and not like a frame of a video."""
    return _PHOTOGRAPH.fullmatch(PurePosixPath(without_ending(image)).name) is not None


def _is_regular(frames: Sequence[int]) -> bool:
    """Whether numbers of images count frames; photographs of a data set have numbers too, at no regular distance."""
    distinct = sorted(set(frames))
    step = step_of(distinct)
    usual = sum(later - earlier == step for earlier, later in pairwise(distinct))
    return len(distinct) > 1 and (step == 1 or (len(distinct) > 3 and 2 * usual >= len(distinct) - 1))


def step_of(frames: Sequence[int]) -> int:
    """The usual distance of two frames, the smallest of several."""
    steps = Counter(later - earlier for earlier, later in pairwise(sorted(set(frames))))
    return min(steps, key=lambda step: (-steps[step], step), default=1) or 1


class Resampled(NamedTuple):
    """A sequence at the frame rate of a method.

    Attributes:
        points: (F, J, 3); between two frames of the source the mean by distance in time.
        places: (T,) position of each pose of the source among these frames, a whole number where it is one of them.
    """

    points: Float[Tensor, "F J 3"]
    places: Float[Tensor, " T"]


def resample(points: Float[Tensor, "T J 3"], times: Sequence[float], fps: float) -> Resampled:
    """A sequence with a frame at each 1 / fps seconds; where frames are missing, joints have no confidence.

    Args:
        points: (T, J, 3) pixels and confidence, every joint at a place.
        times: of the poses in seconds, increasing from 0.
        fps: wanted frame rate.
    """
    places = torch.tensor(times, dtype=torch.float64) * fps
    places = torch.where((places - places.round()).abs() < 1e-3, places.round(), places)
    grid = torch.arange(int(places[-1].ceil()) + 1, dtype=torch.float64)
    later = torch.searchsorted(places, grid).clamp(max=len(places) - 1)
    earlier = torch.where(places[later] > grid, later - 1, later).clamp_min(0)
    distance = places[later] - places[earlier]
    weight = torch.where(distance > 0, (grid - places[earlier]) / distance.clamp_min(1e-9), 0.0)
    weight = weight.to(points)[:, None, None]
    mixed = torch.where(weight == 0, points[earlier], (1 - weight) * points[earlier] + weight * points[later])
    confidence = torch.minimum(points[earlier, :, 2], torch.where(weight[..., 0] == 0, torch.inf, points[later, :, 2]))
    usual = places.diff().median() if len(places) > 1 else torch.ones(())
    missing = (distance > 1.5 * usual) & (weight[:, 0, 0] > 0)
    confidence = torch.where(missing[:, None], 0.0, confidence)
    return Resampled(torch.cat((mixed[..., :2], confidence[..., None]), dim=-1), places)


def at_places(values: Tensor, places: Float[Tensor, " T"]) -> Tensor:
    """Values of the frames of `resample` at the poses of the source: (F, ...) to (T, ...)."""
    earlier = places.floor().long().clamp(max=len(values) - 1)
    later = places.ceil().long().clamp(max=len(values) - 1)
    weight = (places - places.floor()).to(values).reshape(-1, *(1,) * (values.ndim - 1))
    return torch.where(weight == 0, values[earlier], (1 - weight) * values[earlier] + weight * values[later])
