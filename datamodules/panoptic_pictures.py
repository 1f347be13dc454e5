"""The pictures of a camera of the CMU Panoptic Studio: where the toolbox extracted them, or taken from its videos."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import av
from PIL import Image

from noise2pose.errors import InputError

QUALITY = 95  # of the JPEG files taken from videos


class Pictures(NamedTuple):
    """Where the pictures of a camera come from and where their names lead.

    Attributes:
        source: folder of `00_16_00000123.jpg` (or png), or a video whose first frame is number 0.
        root: folder that names are relative to. Pictures that lie outside are written into it.
    """

    source: Path
    root: Path


def find(sequence: Path, camera: str) -> Path | None:
    """The folder of a camera's pictures, else its video, else None."""
    folder, video = sequence / "hdImgs" / camera, sequence / "hdVideos" / f"hd_{camera}.mp4"
    if folder.is_dir() and any(folder.iterdir()):
        return folder
    return video if video.is_file() else None


def name_pictures(
    pictures: Pictures,
    sequence: str,
    camera: str,
    frames: Iterable[int],
    size: tuple[int, int],
    skipped: list[tuple[str, str]],
) -> dict[int, str]:
    """Names of the pictures of frames, relative to the root; those that do not lie there are written first.

    Pictures that were written before, by a run that was interrupted, are kept: their bytes would be the same.

    Args:
        pictures: where they come from.
        sequence, camera: name the folder of written pictures.
        frames: wanted frames.
        size: width and height of the camera, pixels.
        skipped: frames without a picture are added, as one line.

    Returns:
        The name of each frame's picture, in order of time.

    Raises:
        InputError: if there is not one of the pictures, or the video is of another size.
    """
    wanted = sorted(frames)
    target = pictures.root / sequence / camera
    if pictures.source.is_dir():
        files = _files(pictures.source, camera, wanted)
        if not pictures.source.is_relative_to(pictures.root):
            target.mkdir(parents=True, exist_ok=True)
            files = {frame: _copy(file, target / file.name) for frame, file in files.items()}
    else:
        target.mkdir(parents=True, exist_ok=True)
        files = _extract(pictures.source, {frame: target / f"{camera}_{frame:08d}.jpg" for frame in wanted}, size)
    missing = [frame for frame in wanted if frame not in files]
    if missing and not files:
        raise InputError(f"{pictures.source}: none of its {len(missing)} annotated frames is there")
    if missing:
        skipped.append((str(pictures.source), f"{len(missing)} annotated frames are not there, first {missing[0]:08d}"))
    return {frame: files[frame].relative_to(pictures.root).as_posix() for frame in wanted if frame in files}


def _files(folder: Path, camera: str, wanted: list[int]) -> dict[int, Path]:
    there = set(os.listdir(folder))
    names = ((frame, f"{camera}_{frame:08d}.{kind}") for frame in wanted for kind in ("png", "jpg"))
    return {frame: folder / name for frame, name in names if name in there}


def _copy(file: Path, target: Path) -> Path:
    if not target.exists():
        partial = target.with_name(target.name + ".partial")
        shutil.copyfile(file, partial)
        os.replace(partial, target)
    return target


def _extract(video: Path, targets: dict[int, Path], size: tuple[int, int]) -> dict[int, Path]:
    """Writes frames of a video; returns those that there are."""
    missing = {frame: target for frame, target in targets.items() if not target.exists()}
    if missing:
        try:
            with av.open(str(video)) as container:
                stream = container.streams.video[0]
                if (stream.width, stream.height) != size:
                    raise InputError(f"{video}: {stream.width} x {stream.height} pixels, its camera has {size}")
                stream.thread_type = "AUTO"
                for number, frame in enumerate(container.decode(stream)):
                    if number in missing:
                        _write(frame, missing[number])
                    if number >= max(missing):
                        break
        except (av.FFmpegError, OSError, IndexError) as error:
            # What came before the damage is as good as ever.
            if not any(target.exists() for target in targets.values()):
                raise InputError(f"{video}: truncated or no video ({error})") from error
    return {frame: target for frame, target in targets.items() if target.exists()}


def _write(frame: av.VideoFrame, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    Image.fromarray(frame.to_ndarray(format="rgb24")).save(partial, format="JPEG", quality=QUALITY)
    os.replace(partial, target)
