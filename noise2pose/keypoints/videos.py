"""2-D joints of the people in videos, detected frame by frame and kept as they come.

A file of lines keeps what was detected in a video, so that a killed process goes on where it was. Its first line says
of which video and by which models; then there is a line for each frame, and a last one when the video has ended:

    {"video": "clip.mp4", "sha256": ..., "models": [...], "skeleton": "coco_17", "size": [1280, 720]}
    {"frame": 0, "time": 0.0, "people": [[x, y, confidence, ...], ...], "tiled": false, "left_out": [reason, ...]}
    {"frames": 65, "notes": []}

Shape letters: P people of a frame, J joints.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from noise2pose.errors import InputError
from noise2pose.files import lock, sha256, unwritable
from noise2pose.images.video import Video, VideoReader
from noise2pose.keypoints.arrays import Keypoints, counted
from noise2pose.keypoints.cleaning import usable
from noise2pose.keypoints.detectors.finder import left_out_for
from noise2pose.keypoints.images import person_names
from noise2pose.progress import progress
from noise2pose.timing import stage

LONGEST = 1920  # pixels of the longer side of the frames in which people are sought; larger frames are reduced
FOLDER = "detections"  # in the output folder


# Everybody in an image (H, W, 3) uint8 RGB, sought in tiles too or in the whole image alone: (P, J, 3) joints, pixels
# and confidence, 0 where a joint is not seen; and why others are left out.
Detect = Callable[[np.ndarray, bool], tuple[torch.Tensor, list[str]]]


class Detector(NamedTuple):
    """A detector that is loaded when it is first needed.

    Attributes:
        load: gives it.
        skeleton: of its joints.
        models: hashes of its files, by which what it detected is recognised.
    """

    load: Callable[[], Detect]
    skeleton: str
    models: Sequence[str]


class Detected(NamedTuple):
    """What was detected in a video: for each frame its time in seconds and (P, J, 3) the people; who was left out."""

    times: list[float]
    people: list[Float[np.ndarray, "P J 3"]]
    left_out: list[str]
    notes: list[str]


def detect_in_videos(videos: Sequence[Video], detector: Detector, folder: Path | None = None) -> Keypoints:
    """The people of some videos as one record, in the order of videos and frames, without identities.

    Args:
        videos: whose names differ.
        detector: of people and joints.
        folder: of the files that keep what was detected; None to keep nothing.

    Raises:
        InputError: if nobody is found, a video cannot be read, or the folder cannot be written.
    """
    points, images, frames, times, sizes, notes, reasons = [], [], [], [], [], [], list[str]()
    number = few = 0
    for place, video in enumerate(videos):
        file = None if folder is None else folder / f"{place:02d}_{Path(video.file_name).stem}.jsonl"
        found = detect_in_video(video, detector, file)
        notes += found.notes
        reasons += found.left_out
        number += len(found.times)
        for frame, (shown, people) in enumerate(zip(found.times, found.people, strict=True)):
            kept = usable(torch.from_numpy(people)).numpy() if len(people) else np.zeros(0, dtype=bool)
            few += int((~kept).sum())
            points += list(people[kept])
            images += [video.frame_name(frame)] * int(kept.sum())
            frames += [frame] * int(kept.sum())
            times += [shown] * int(kept.sum())
            sizes += [video.size] * int(kept.sum())
    title = videos[0].file_name if len(videos) == 1 else counted(len(videos), "video")
    if not points:
        raise InputError(f"{title}: nobody was found in {counted(number, 'frame')}")
    shown = f"people in {len(set(images))} of {counted(number, 'frame')}"
    if reasons:
        notes.append(f"left out: {left_out_for(reasons)}")
    if few:
        notes.append(f"{counted(few, 'person', 'people')} left out, of whom fewer than 3 joints are seen")
    return Keypoints(
        torch.from_numpy(np.stack(points)),
        detector.skeleton,
        person_names(images),
        torch.tensor(sizes, dtype=torch.float32),
        source=videos[0].path if len(videos) == 1 else None,
        images=images,
        frames=list(frames),
        fps=videos[0].fps,
        times=times,
        form=f"{title}, detected",
        notes=(shown, *notes),
    )


def detect_in_video(video: Video, detector: Detector, file: Path | None = None) -> Detected:
    """The people of each frame of a video.

    Once a second, people are sought in the whole frame and in tiles of it; until the next time the tiles are used if
    they showed more people, which takes two to three times as long.

    Args:
        video: of `open_video`.
        detector: of people and joints.
        file: keeps what was detected; what it says of another video, or by other models, is not used. None to keep
            nothing.

    Raises:
        InputError: if the video cannot be read, or the file is in use or cannot be written.
    """
    header = {"video": video.file_name, "sha256": sha256(video.path), "models": list(detector.models)}
    header |= {"skeleton": detector.skeleton, "size": list(video.size)}
    with _opened(file, header) as (known, output):
        found, ended = _parsed(known)
        if ended:
            return found
        reader = VideoReader(video, len(found.times), LONGEST)
        detect = detector.load()
        start, people, every = time.perf_counter(), 0, max(1, round(video.fps))
        tiled = bool(known) and bool(known[-1]["tiled"])
        name = Path(video.file_name).name
        total, done = video.num_frames, len(found.times)
        with progress(total=total, initial=done, unit=" frames", desc=f"people in {name}") as bar:
            for frame in reader:
                with stage("detect"):
                    found_joints, left_out = detect(frame.pixels, tiled)
                    if frame.number % every == 0:
                        other_joints, other_left_out = detect(frame.pixels, not tiled)
                        if len(other_joints) > len(found_joints) or (tiled and len(other_joints) == len(found_joints)):
                            found_joints, left_out, tiled = other_joints, other_left_out, not tiled
                joints = found_joints.numpy().astype(np.float64)
                joints[..., :2] /= reader.scale
                line = {"frame": frame.number, "time": round(frame.time, 6), "people": _rounded(joints)}
                line |= {"tiled": tiled, "left_out": left_out}
                _write(output, line)
                _add(found, line)
                people += len(joints)
                bar.set_postfix_str(f"{people / (time.perf_counter() - start):.1f} people/s", refresh=False)
                bar.update()
        found.notes.extend(reader.notes)
        _write(output, {"frames": reader.count, "notes": reader.notes})
    return found


@contextmanager
def _opened(file: Path | None, header: dict[str, Any]) -> Iterator[tuple[list[dict[str, Any]], IO[str] | None]]:
    """The lines of a file after its header, and the file to add others; only one process at a time has it."""
    if file is None:
        yield [], None
        return
    with ExitStack() as stack:
        with _writing(file):
            stack.enter_context(lock(file.parent, "wait for it, or write to another folder"))
            known, length = _lines(file, header)
            output = stack.enter_context(file.open("a", encoding="utf-8"))
            output.truncate(length)
            if not length:
                _write(output, header)
        yield known, output


def _lines(file: Path, header: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a file whose first line is the header, without it, and their length in bytes; a process that
    was killed may have left part of a line at the end."""
    if not file.is_file():
        return [], 0
    lines, length = [], 0
    with file.open("rb") as stream:
        for line in stream:
            try:
                content = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                content = None
            if not isinstance(content, dict):
                break
            lines.append(content)
            length += len(line)
    return (lines[1:], length) if lines and lines[0] == header else ([], 0)


def _parsed(lines: Sequence[dict[str, Any]]) -> tuple[Detected, bool]:
    """What some lines say, and whether the video has ended."""
    found = Detected([], [], [], [])
    for line in lines:
        if "frames" in line:
            found.notes.extend(line["notes"])
            return found, True
        _add(found, line)
    return found, False


def _add(found: Detected, line: dict[str, Any]) -> None:
    people = [np.asarray(person, dtype=np.float32).reshape(-1, 3) for person in line["people"]]
    found.times.append(line["time"])
    found.left_out.extend(line.get("left_out", ()))
    found.people.append(np.stack(people) if people else np.zeros((0, 1, 3), dtype=np.float32))


def _rounded(joints: Float[np.ndarray, "P J 3"]) -> list[list[float]]:
    return [[round(number, 3) for number in person.ravel().tolist()] for person in joints]


def _write(output: IO[str] | None, line: dict[str, Any]) -> None:
    """Adds a line at once, so that a process that is killed loses one frame at most."""
    if output is not None:
        with _writing(Path(output.name)):
            output.write(json.dumps(line, separators=(",", ":")) + "\n")
            output.flush()


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Says in one line why a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(unwritable(error, file) or f"{file} cannot be written ({error})") from error
