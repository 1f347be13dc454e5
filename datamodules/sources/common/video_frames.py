"""Frames of videos, decoded once into JPEG files."""

import json
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

from noise2pose.errors import InputError
from noise2pose.files import replacing, sha256, write_text

QUALITY = 95
BYTES_PER_PIXEL = 0.4  # of such a JPEG of a room with a person, rather too many than too few
_ABOUT = "video.json"


class Header(NamedTuple):
    """What a video says of itself; the number of frames is a guess where the container does not count them."""

    num_frames: int
    size: tuple[int, int]


class Extracted(NamedTuple):
    """What became of a video.

    Attributes:
        frames: numbers of the frames that have an image now.
        size: width and height.
        reason: why others have none; empty if all have one.
    """

    frames: frozenset[int]
    size: tuple[int, int] | None
    reason: str


def read_header(video: Path) -> Header:
    """Number of frames and size, without decoding.

    Raises:
        InputError: if it is no video.
    """
    try:
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            number = stream.frames
            if not number and container.duration and stream.average_rate:
                number = int(container.duration / av.time_base * stream.average_rate)
            return Header(number, (stream.width, stream.height))
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        raise InputError(f"{video}: cannot be read as a video ({error})") from None


def check_room(videos: Iterable[tuple[Header, Path]], stride: int, output: Path) -> None:
    """Says how many images there are to extract and how much room they take.

    Args:
        videos: header of each, and the folder of its images; what an earlier run has written there is not counted.
        stride: every so many frames become an image.
        output: folder to write, on whose disk the images go.

    Raises:
        InputError: if the disk has less room.
    """
    number, need = 0, 0.0
    for header, folder in videos:
        missing = max(-(-header.num_frames // stride) - sum(1 for _ in folder.glob("*.jpg")), 0)
        number += missing
        need += missing * header.size[0] * header.size[1] * BYTES_PER_PIXEL / 1e9
    if number:
        place = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.exists())
        free = shutil.disk_usage(place).free / 1e9
        print(f"{number:,} images to extract, every {stride} frames, about {need:.1f} GB", file=sys.stderr)
        if need > free:
            what = f"{number:,} images need about {need:.1f} GB and {free:.1f} GB are free"
            raise InputError(f"--output: {place}: {what}; raise --stride or leave them out with --no_images")


def frame_name(frame: int) -> str:
    """File name of a frame; the first one is 0."""
    return f"{frame:06d}.jpg"


def extract_frames(video: Path, frames: Collection[int], folder: Path) -> Extracted:
    """Writes frames of a video into a folder.

    Frames are counted as they are shown, whatever their time stamps begin with. What a killed run has written is kept,
    so the video is decoded again but nothing is encoded twice; a folder made from another video is emptied first.

    Args:
        video: file.
        frames: numbers of the wanted frames.
        folder: gets `frame_name` files, and a note about the video.
    """
    checksum = sha256(video)
    note = _read_note(folder, checksum)
    if note is None:
        for stale in folder.glob("*.jpg"):
            stale.unlink()
        write_text(folder / _ABOUT, json.dumps({"sha256": checksum}) + "\n")
    missing = {frame for frame in frames if not (folder / frame_name(frame)).is_file()}
    if note is not None and not missing and note.get("size"):
        return Extracted(frozenset(frames), tuple(note["size"]), "")
    size, reason = None, ""
    try:
        for number, image in _decode(video, missing):
            size = (image.width, image.height)
            _write_jpeg(folder / frame_name(number), image.to_ndarray(format="rgb24"))
            missing.discard(number)
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        reason = f"cannot be decoded any further ({error})"
    if missing and not reason:
        reason = f"ends before frame {min(missing)}"
    present = frozenset(frame for frame in frames if frame not in missing)
    if size is None and present:
        with Image.open(folder / frame_name(min(present))) as first:
            size = first.size
    write_text(folder / _ABOUT, json.dumps({"sha256": checksum, "size": size}) + "\n")
    return Extracted(present, size, reason)


def _decode(video: Path, wanted: set[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """The wanted frames in order, no further than the last."""
    last = max(wanted, default=-1)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for number, image in enumerate(container.decode(stream)):
            if number > last:
                return
            if number in wanted:
                yield number, image


def _write_jpeg(path: Path, pixels: np.ndarray) -> None:
    with replacing(path) as partial:
        Image.fromarray(pixels).save(partial, "JPEG", quality=QUALITY)


def _read_note(folder: Path, checksum: str) -> dict | None:
    """What an earlier run noted, if it was about the same video."""
    try:
        note = json.loads((folder / _ABOUT).read_text())
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) and note.get("sha256") == checksum else None
