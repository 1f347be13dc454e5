"""Video files: what they say of themselves, and their frames one after another or by number, in constant memory.

Frames are turned as the file says, and stretched where its pixels are not square; their times are those that the file
shows them at, so a variable frame rate is respected. Frames are numbered from 0 in the order in which they are shown.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from jaxtyping import UInt8

from noise2pose.errors import InputError
from noise2pose.images.photographs import Photograph
from noise2pose.timing import stage

ENDINGS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif")
_DEFAULT_RATE = 25.0  # frames a second, of a file that says neither a rate nor times
_FEWER = 0.98  # of the frames and of the duration that the file states; with less it is taken for cut off
_ERRORS = (av.FFmpegError, OSError, ValueError, IndexError)


@dataclass(frozen=True)
class Video:
    """A video file whose first frame could be decoded.

    Attributes:
        file_name: what outputs call it.
        path: where it is.
        size: width and height in pixels, as it is shown.
        num_frames: as the container counts them, else a guess by its duration; None where it says neither.
        duration: seconds; None where the container does not say it.
        fps: frames a second on average.
    """

    file_name: str
    path: Path
    size: tuple[int, int]
    num_frames: int | None
    duration: float | None
    fps: float

    def frame_name(self, number: int) -> str:
        """What outputs call a frame: different for each frame of each video, in one folder for each video."""
        return f"{self.file_name}/{Path(self.file_name).stem}_{number:06d}"


class Frame(NamedTuple):
    """A frame as it is shown.

    Attributes:
        number: 0 for the first frame.
        time: seconds from the first frame, above that of the frame before.
        pixels: (H, W, 3) RGB.
    """

    number: int
    time: float
    pixels: UInt8[np.ndarray, "H W 3"]


def open_video(path: Path, file_name: str | None = None) -> Video:
    """Reads the header and the first frame.

    Args:
        path: of the file.
        file_name: what outputs call it; None for its name.

    Raises:
        InputError: if the file is missing, no video, empty, incomplete, or without a picture.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if not path.is_file():
        raise InputError(
            f"{path} is no file: a pipe or a device is read once, and a video more than once; save it as a file "
            "first (a camera is `webcam` or `webcam:NUMBER`)"
        )
    if not path.stat().st_size:
        raise InputError(f"{path}: the file is empty")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                kinds = dict.fromkeys(stream.type for stream in container.streams)
                raise InputError(f"{path}: holds no pictures, only {', '.join(kinds) or 'nothing that can be played'}")
            stream = container.streams.video[0]
            first = next(_decoded(container, stream, []), None)
            if first is None:
                raise InputError(f"{path}: no frame of it can be decoded; the file may be incomplete")
            fps = float(stream.average_rate or stream.guessed_rate or _DEFAULT_RATE)
            duration = container.duration / av.time_base if container.duration else None
            number = stream.frames or round((duration or 0.0) * fps) or None
            size = _shown_size(first, stream)
            return Video(file_name or path.name, path, size, number, duration, fps)
    except InputError:
        raise
    except _ERRORS as error:
        reason = "the end of the file is missing" if _lacks_index(path) else _plain(error)
        raise InputError(f"{path}: cannot be read as a video ({reason})") from None


class VideoReader:
    """The frames of a video in their order; afterwards `notes` says what could not be read.

    Args:
        video: of `open_video`.
        first: number of the first frame that is wanted; those before are decoded and not converted.
        longest: pixels of the longer side at most; larger frames are reduced. None for the size as it is shown.

    Raises:
        InputError: while it is iterated, if the file cannot be opened any more.
    """

    def __init__(self, video: Video, first: int = 0, longest: int | None = None) -> None:
        self.video, self.first = video, first
        self.scale = 1.0 if longest is None else min(1.0, longest / max(video.size))
        self.count = 0
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        problems: list[str] = []
        try:
            with av.open(str(self.video.path)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                frames = _decoded(container, stream, problems)
                start, last = None, -1.0
                while True:
                    with stage("decode"):
                        image = next(frames, None)
                        if image is None:
                            break
                        shown = image.time if image.time is not None else last + 1.0 / self.video.fps
                        start = shown if start is None else start
                        time = shown - start if shown - start > last else last + 1.0 / self.video.fps
                        last, number = time, self.count
                        self.count += 1
                        if number < self.first:
                            continue
                        pixels = self._pixels(image)
                    yield Frame(number, time, pixels)
        except _ERRORS as error:
            raise InputError(f"{self.video.path}: cannot be read as a video ({_plain(error)})") from None
        self.notes += _missing(self.video, self.count, last, problems)

    def _pixels(self, image: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        width, height = (max(1, round(side * self.scale)) for side in self.video.size)
        quarters = _quarter_turns(image)
        if quarters % 2:
            width, height = height, width
        pixels = image.reformat(width=width, height=height, format="rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels


def timed_frames(video: Video) -> Iterator[tuple[float, UInt8[np.ndarray, "H W 3"]]]:
    """Seconds from the first frame, and RGB, of each frame of a video, one after the other."""
    return ((frame.time, frame.pixels) for frame in VideoReader(video))


class FramesByNumber:
    """Frames of a video by number, fast where numbers grow; holds one frame at a time."""

    def __init__(self, video: Video) -> None:
        self.video = video
        self._frames: Iterator[Frame] | None = None
        self._last: Frame | None = None

    def __getitem__(self, number: int) -> UInt8[np.ndarray, "H W 3"]:
        """(H, W, 3) RGB.

        Raises:
            InputError: if the video has no such frame.
        """
        if self._last is None or self._last.number > number:
            self._frames, self._last = iter(VideoReader(self.video, number)), None
        while self._last is None or self._last.number < number:
            assert self._frames is not None
            self._last = next(self._frames, None)
            if self._last is None:
                raise InputError(f"{self.video.file_name} has no frame {number}")
        return self._last.pixels


@dataclass(frozen=True)
class VideoFrame(Photograph):
    """A frame of a video as an image among others; its pixels are decoded when they are asked for.

    Attributes:
        number: of the frame.
        frames: of the video, shared by its frames.
    """

    number: int = 0
    frames: FramesByNumber | None = field(default=None, compare=False, repr=False)

    def pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        """(H, W, 3) RGB, as shown.

        Raises:
            InputError: if it cannot be decoded any more.
        """
        assert self.frames is not None
        return self.frames[self.number]


def frame_of(frames: FramesByNumber, number: int) -> VideoFrame:
    """A frame as an image."""
    video = frames.video
    return VideoFrame(video.frame_name(number), video.path, video.size, None, number=number, frames=frames)


def _lacks_index(path: Path) -> bool:
    """Whether a file is one of MP4's family without its index, which many cameras write last (ISO/IEC 14496-12)."""
    size, place, kinds = path.stat().st_size, 0, list[bytes]()
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            header = file.read(16)
            length = int.from_bytes(header[:4])
            length = int.from_bytes(header[8:16]) if length == 1 else length or size
            kinds.append(header[4:8])
            place += max(length, 8)
    return kinds[:1] == [b"ftyp"] and b"moov" not in kinds


def _decoded(container: Any, stream: Any, problems: list[str]) -> Iterator[av.VideoFrame]:
    """The frames that can be decoded; damaged packets are left out and told in `problems`."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except _ERRORS as error:
            problems.append(_plain(error))
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except _ERRORS as error:
            problems.append(_plain(error))


def _missing(video: Video, count: int, last: float, problems: list[str]) -> list[str]:
    """What is said of a video of which `count` frames could be read, the last one shown at `last` seconds."""
    name, reason = video.file_name, f" ({problems[0]})" if problems else ""
    fewer = video.num_frames is not None and count < _FEWER * video.num_frames
    if fewer and video.duration is not None:  # some containers count frames that they leave out
        lacking, usual = video.duration - last, max(3.0 / video.fps, 0.25 * video.duration)
        fewer = lacking > min(usual, 1.0 + (1.0 - _FEWER) * video.duration)
    if fewer:
        return [f"{name} is cut off or damaged: {count} of {video.num_frames} frames could be read{reason}"]
    return [f"{name} is damaged in {len(problems)} places{reason}"] if problems else []


def _quarter_turns(image: av.VideoFrame) -> int:
    """How often a frame has to be turned counter-clockwise by 90 degrees to be shown."""
    return round(image.rotation / 90) % 4


def _shown_size(image: av.VideoFrame, stream: Any) -> tuple[int, int]:
    """Width and height after stretching and turning."""
    aspect = float(stream.sample_aspect_ratio or 1.0)
    width, height = (round(image.width * aspect) if aspect > 0 else image.width), image.height
    return (height, width) if _quarter_turns(image) % 2 else (width, height)


def _plain(error: BaseException) -> str:
    """What an error of FFmpeg says, without its number and file."""
    said = str(error)
    with contextlib.suppress(AttributeError):
        said = error.strerror or said  # pyright: ignore[reportAttributeAccessIssue]
    return said.strip()
