"""The images of a camera of the CMU Panoptic Studio: where the toolbox extracted them, or taken from its videos."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from datamodules.sources.common.files import any_case
from datamodules.sources.common.video_frames import extract_frames, frame_name, read_header
from noise2pose.errors import InputError
from noise2pose.files import replacing


def find(sequence: Path, camera: str) -> Path | None:
    """The folder of a camera's images, else its video, else None."""
    folder, video = sequence / "hdImgs" / camera, any_case(sequence / "hdVideos" / f"hd_{camera}.mp4")
    if folder.is_dir() and any(folder.iterdir()):
        return folder
    return video if video.is_file() else None


def name_images(
    source: Path,
    root: Path,
    sequence: str,
    camera: str,
    frames: Iterable[int],
    size: tuple[int, int],
    skipped: list[tuple[str, str]],
) -> dict[int, str]:
    """Names of the images of frames, relative to the root; those that are not below it are written there first.

    Images that were written before, by a run that was interrupted, are kept: their bytes would be the same.

    Args:
        source: folder of `00_16_00000123.jpg` (or png), or a video whose first frame is number 0.
        root: folder that names are relative to. Images that lie outside are written into it.
        sequence, camera: name the folder of written images.
        frames: wanted frames.
        size: width and height of the camera, pixels.
        skipped: frames without an image are added, as one line.

    Returns:
        The name of each frame's image, in order of time.

    Raises:
        InputError: if none of the images is there, or the video is of another size.
    """
    wanted = sorted(frames)
    target = root / sequence / camera
    if not source.is_dir():
        files = _extract(source, wanted, target, size)
    else:
        files = _files(source, camera, wanted)
        if not source.is_relative_to(root):
            target.mkdir(parents=True, exist_ok=True)
            files = {frame: _bring(file, target / file.name) for frame, file in files.items()}
    missing = [frame for frame in wanted if frame not in files]
    if missing and not files:
        raise InputError(f"{source}: none of its {len(missing)} annotated frames is there")
    if missing:
        skipped.append((str(source), f"{len(missing)} annotated frames are not there, first {missing[0]:08d}"))
    return {frame: files[frame].relative_to(root).as_posix() for frame in wanted if frame in files}


def _files(folder: Path, camera: str, wanted: list[int]) -> dict[int, Path]:
    there = set(os.listdir(folder))
    names = ((frame, f"{camera}_{frame:08d}.{kind}") for frame in wanted for kind in ("png", "jpg", "PNG", "JPG"))
    return {frame: folder / name for frame, name in names if name in there}


def _bring(file: Path, target: Path) -> Path:
    """The same image in another place, without taking room twice where possible."""
    there, given = target.stat() if target.exists() else None, file.stat()
    if there is None or (there.st_size, there.st_mtime_ns) != (given.st_size, given.st_mtime_ns):
        with replacing(target) as partial:
            partial.unlink(missing_ok=True)
            try:
                os.link(file, partial)
            except OSError:  # another disk
                shutil.copy2(file, partial)
    return target


def _extract(video: Path, frames: list[int], folder: Path, size: tuple[int, int]) -> dict[int, Path]:
    """Writes frames of a video; returns those that there are."""
    found = read_header(video).size
    if found != size:
        raise InputError(f"{video}: {found[0]} x {found[1]} pixels, but its camera has {size[0]} x {size[1]}")
    extracted = extract_frames(video, frames, folder)
    if not extracted.frames:
        raise InputError(f"{video}: {extracted.reason}")
    return {frame: folder / frame_name(frame) for frame in extracted.frames}
