"""A camera of this computer, recorded into a file that is read like any other video."""

import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from noise2pose.errors import InputError
from noise2pose.files import replacing

_FORMAT, _DEVICE = "v4l2", "/dev/video{}"  # of Video4Linux
_TICKS = 1000  # a second, of the times in the file
_BIT_RATE = 8_000_000


def record(number: int, output: Path, seconds: float | None = None) -> Path:
    """Records a camera until Ctrl-C is pressed or the time is over.

    Args:
        number: of the camera: 1 for /dev/video1.
        output: folder of the file, webcam_NUMBER.mkv. A file that is there already is not recorded again.
        seconds: at most; None for no limit.

    Returns:
        The file.

    Raises:
        InputError: if there is no such camera, it gives no pictures, or the file cannot be written.
    """
    path = output / f"webcam_{number}.mkv"
    if path.is_file():
        print(f"{path} is there already: it is used instead of the camera", file=sys.stderr)
        return path
    device = Path(_DEVICE.format(number))
    if not device.exists():
        found = sorted(place.name.removeprefix("video") for place in Path("/dev").glob("video[0-9]*"))
        raise InputError(f"webcam:{number}: there is no camera {device}; found: {', '.join(found) or 'none'}")
    try:
        with av.open(str(device), format=_FORMAT) as camera, replacing(path) as partial:
            print(f"recording {device} into {path}; Ctrl-C ends it", file=sys.stderr)
            if not _copy(camera, partial, seconds):
                raise InputError(f"webcam:{number}: {device} gives no pictures")
    except InputError:
        raise
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise InputError(f"webcam:{number}: {device} cannot be read as a camera ({error})") from error
    return path


def _copy(camera: Any, path: Path, seconds: float | None) -> int:
    """Writes the frames of a camera; returns how many."""
    start, number, last = time.monotonic(), 0, -1
    stream = None
    with av.open(str(path), "w", format="matroska") as file:
        try:
            for image in camera.decode(video=0):
                passed = time.monotonic() - start
                if seconds is not None and passed > seconds:
                    break
                if stream is None:
                    stream = file.add_stream("mpeg4", rate=30)
                    stream.width, stream.height, stream.pix_fmt = image.width, image.height, "yuv420p"
                    stream.bit_rate = _BIT_RATE
                    stream.codec_context.time_base = Fraction(1, _TICKS)
                frame = image.reformat(format="yuv420p")
                last = max(round(passed * _TICKS), last + 1)
                frame.pts, frame.time_base = last, Fraction(1, _TICKS)
                file.mux(stream.encode(frame))
                number += 1
        except KeyboardInterrupt:
            print("recorded", file=sys.stderr)
        if stream is not None:
            file.mux(stream.encode())
    return number
