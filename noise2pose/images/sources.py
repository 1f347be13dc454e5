"""What a user names as input: images, folders, patterns, videos, a camera, or a keypoint file."""

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from noise2pose.errors import InputError
from noise2pose.files import sha256
from noise2pose.images import photographs, webcam
from noise2pose.images.video import ENDINGS as VIDEO_ENDINGS
from noise2pose.images.video import Video, open_video, timed_frames
from noise2pose.keypoints.arrays import counted
from noise2pose.keypoints.files import is_keypoint_file
from noise2pose.keypoints.images import KEYPOINT_ENDINGS, instead, natural

_WEBCAM = re.compile(r"webcam(:[0-9]+)?")
_PATTERN = re.compile(r"[*?\[]")


class Sources(NamedTuple):
    """What was named: one of the three.

    Attributes:
        images: name and path of each.
        videos: whose names differ.
        keypoints: a file, or a folder of such files.
        notes: what was left out, in words.
    """

    images: list[tuple[str, Path]]
    videos: list[Video]
    keypoints: Path | None
    notes: tuple[str, ...] = ()

    def frames_of(self, name: str) -> Iterator[tuple[float, UInt8[np.ndarray, "H W 3"]]] | None:
        """Seconds and RGB of each frame of the video that outputs call so; None where there is none."""
        return next((timed_frames(video) for video in self.videos if video.file_name == name), None)

    def images_of(self, name: str) -> Iterator[tuple[float, UInt8[np.ndarray, "H W 3"]]] | None:
        """As `frames_of`; of an image its only frame, None also where it cannot be read any more."""
        path = next((path for known, path in self.images if known == name), None)
        if path is None:
            return self.frames_of(name)
        try:
            return iter([(0.0, photographs.read_image(path))])
        except InputError:
            return None


def find_sources(given: Sequence[str | Path], output: Path | None = None, seconds: float | None = None) -> Sources:
    """Finds the files that are meant.

    Args:
        given: paths of images, videos, folders of them or of keypoint files; patterns such as `photos/*.jpg`; or
            `webcam`, `webcam:1` and so on for a camera, which is recorded until Ctrl-C is pressed.
        output: folder of that recording; one that is there already is taken instead of the camera.
        seconds: of the recording at most.

    Returns:
        In the order of the inputs; a folder's videos are taken where it holds no images. GIFs are videos.

    Raises:
        InputError: if an input is missing or of no kind that is read, images and videos are mixed, or there is no
            camera.
    """
    if len(given) == 1 and _WEBCAM.fullmatch(str(given[0])) and not Path(given[0]).exists():
        if output is None:
            raise InputError(f"{given[0]}: a camera is recorded first: say a folder to write to with --output")
        number = int(str(given[0]).partition(":")[2] or 0)
        return Sources([], [open_video(webcam.record(number, output, seconds))], None)
    if seconds is not None:
        raise InputError("--seconds is for `webcam`; files are read to their end")
    paths = [path for each in given for path in _matching(str(each))]
    if len(paths) == 1 and is_keypoint_file(paths[0]):
        return Sources([], [], paths[0])
    images, videos, notes = [], dict[Path, str](), []
    for path in paths:
        inside = _videos_in(path)
        if path.is_dir() and not (inside and not _has_images(path)):
            images.append(path)
            if inside:
                notes.append(
                    f"{path}: {counted(len(inside), 'video')} in it not read beside images: give them in another call"
                )
        elif path.is_dir():
            videos |= {video: video.relative_to(path).as_posix() for video in inside}
        elif path.suffix.lower() in VIDEO_ENDINGS or (path.exists() and not path.is_file()):
            videos[path] = path.name
        else:
            _check(path)
            images.append(path)
    if images and videos:
        raise InputError(
            f"{images[0]} is an image or a folder of images and {next(iter(videos))} a video: give them in two calls"
        )
    if videos:
        opened, broken = _opened(photographs.told_apart(videos), strict=paths)
        return Sources([], opened, None, (*notes, *broken))
    return Sources(photographs.find_images(images), [], None, tuple(notes))


def fingerprints(videos: Sequence[Video]) -> list[tuple[str, str]]:
    """Name and hash of each video."""
    return [(video.file_name, sha256(video.path)) for video in videos]


def _matching(given: str) -> list[Path]:
    """The path, or those that a pattern matches, in the order of the numbers in their names."""
    if Path(given).exists() or not _PATTERN.search(given):
        return [Path(given)]
    found = sorted(glob.glob(given, recursive=True), key=natural)
    if not found:
        raise InputError(f"{given}: no file is called like this")
    return [Path(path) for path in found]


def _opened(videos: Sequence[tuple[str, Path]], strict: Sequence[Path]) -> tuple[list[Video], list[str]]:
    """The videos that can be read, and why others of a folder cannot; one that was given itself must be readable."""
    opened, broken = [], []
    for name, path in videos:
        try:
            opened.append(open_video(path, name))
        except InputError as error:
            if path in strict:
                raise
            broken.append(f"skipped {error}")
    if not opened:
        raise InputError(broken[0].removeprefix("skipped "))
    return opened, broken


def _check(path: Path) -> None:
    """Refuses files that are missing, or neither images nor videos nor keypoints."""
    if not path.exists():
        raise InputError(f"{path} does not exist")
    endings = (*photographs.ENDINGS, *photographs.OTHER_ENDINGS)
    if path.suffix.lower() not in (*endings, *KEYPOINT_ENDINGS):
        raise InputError(
            f"{path}: neither keypoints ({', '.join(KEYPOINT_ENDINGS)}) nor an image "
            f"({', '.join(photographs.ENDINGS)}) nor a video ({', '.join(VIDEO_ENDINGS)}){instead(path)}"
        )


def _videos_in(path: Path) -> list[Path]:
    """The videos in a folder, none where the path is a file; a GIF among images may be a drawing."""
    if not path.is_dir():
        return []
    found = [inside for inside in path.rglob("*") if inside.suffix.lower() in VIDEO_ENDINGS and inside.is_file()]
    moving = [inside for inside in found if inside.suffix.lower() != ".gif"]
    return sorted(moving or found, key=lambda inside: natural(inside.as_posix()))


def _has_images(path: Path) -> bool:
    return any(inside.suffix.lower() in photographs.ENDINGS for inside in path.rglob("*"))
