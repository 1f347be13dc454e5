"""The frames of a sequence of the CMU Panoptic Studio: its people, and the images of its cameras.

The people of a frame are in `body3DScene_00000123.json`: `bodies`, each with `id` and `joints19` ("coco19") or, in
older files, `joints15` ("mpi15"): x, y, z in centimetres and a confidence, joint after joint.
"""

import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.sources.common.files import any_case
from datamodules.sources.common.video_frames import extract_frames, frame_name, read_header
from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.files import replacing

SKELETON = "panoptic_19"
FOLDERS = ("hdPose3d_stage1_coco19", "hdPose3d_stage1")  # the first that there is; 160422_mafia2 has the second only
MIN_CONFIDENCE = 0.1  # of a joint that counts, Jiang et al. (2020); joints that were not found have -1
_MOST_BYTES = 64 << 20  # of the poses of one frame, which have a few kilobytes
_SCENE = re.compile(r"body3DScene_(\d+)\.json$")
_JOINTS = skeletons.get(SKELETON).num_joints
# Where the joints of "mpi15" are in "coco19": the same but for the top of the head, which takes the nose's place.
_OF_15 = (0, *range(2, 15))


class Body(NamedTuple):
    """A person in a frame.

    Attributes:
        person: number of the publisher; negative for what it takes for an outlier.
        joints: (19, 4) centimetres in the world, and 1 or 0 for a joint that counts or not; then the rest is 0.
        has_nan: some joint was not a number, and is taken for not found.
    """

    person: int
    joints: np.ndarray
    has_nan: bool


def annotation(sequence: Path) -> list[Path]:
    """Where the frames of a sequence are: a folder, the archive of the same, both or nothing."""
    for name in FOLDERS:
        folder, archive = sequence / name, sequence / f"{name}.tar"
        found = [folder] if folder.is_dir() and any(folder.iterdir()) else []
        found += [archive] if archive.is_file() else []
        if found:
            return found
    return []


def read_frames(sources: list[Path], skipped: list[tuple[str, str]]) -> Iterator[tuple[int, list[Body]]]:
    """Frames with the people in them, in order.

    Args:
        sources: as `annotation` finds them. What both hold is taken from the archive, since it may have been extracted
            in part only.
        skipped: files that cannot be read, and bodies that are no bodies, are added with the reason.

    Raises:
        InputError: if there is no frame at all.
    """
    texts: dict[int, Path | bytes] = {}
    for source in sources:
        texts |= _from_folder(source) if source.is_dir() else _from_archive(source, skipped)
    if not texts and skipped:
        raise InputError("{}: {}".format(*skipped[0]))
    if not texts:
        raise InputError(f"{' and '.join(map(str, sources))}: no body3DScene_NNNNNNNN.json in it")
    for frame in sorted(texts):
        name, text = f"{sources[0]}: body3DScene_{frame:08d}.json", texts[frame]
        try:
            listed = json.loads(text.read_bytes() if isinstance(text, Path) else text)["bodies"]
            bodies = list(_bodies(listed, name, skipped))
        except (OSError, ValueError, KeyError, TypeError) as error:
            skipped.append((name, f"truncated, or no frame of the Panoptic Studio ({type(error).__name__})"))
        else:
            yield frame, bodies


def _from_folder(folder: Path) -> dict[int, Path]:
    found = {}
    for path in sorted(folder.iterdir()):
        match = _SCENE.search(path.name)
        if match:
            found.setdefault(int(match[1]), path)
    return found


def _from_archive(archive: Path, skipped: list[tuple[str, str]]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                match = _SCENE.search(member.name)
                if match and member.size > _MOST_BYTES:
                    skipped.append((f"{archive}: {member.name}", f"{member.size} bytes are no poses of one frame"))
                    continue
                file = opened.extractfile(member) if match and member.isfile() else None
                if match and file is not None:
                    found.setdefault(int(match[1]), file.read())
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        reason = (str(error).splitlines() or [""])[0].rstrip(":")  # tarfile lists every compression that it tried
        skipped.append((str(archive), f"truncated or no archive ({reason}); frames up to there: {len(found)}"))
    return found


def _bodies(listed: Any, name: str, skipped: list[tuple[str, str]]) -> Iterator[Body]:
    taken: set[int] = set()
    for body in listed:
        person = int(body["id"])
        if person in taken:
            skipped.append((name, f"id {person} twice; the first one counts"))
            continue
        taken.add(person)
        numbers = body.get("joints19", body.get("joints15"))
        values = np.asarray([] if numbers is None else numbers, dtype=np.float64).reshape(-1)
        if len(values) not in (4 * _JOINTS, 60):
            skipped.append((name, f"body {person} without joints19 or joints15"))
            continue
        yield Body(person, *_joints(values.reshape(-1, 4)))


def _joints(given: np.ndarray) -> tuple[np.ndarray, bool]:
    joints = np.zeros((_JOINTS, 4))
    if len(given) == _JOINTS:
        joints[:] = given
    else:
        joints[list(range(15))] = np.insert(given[list(_OF_15)], 1, 0.0, axis=0)
    finite = np.isfinite(joints).all(axis=1)
    counts = finite & (np.where(finite, joints[:, 3], 0.0) > MIN_CONFIDENCE)
    joints[:, 3] = counts
    joints[~counts] = 0.0
    return joints, not finite.all()


def find_images(sequence: Path, camera: str) -> Path | None:
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
