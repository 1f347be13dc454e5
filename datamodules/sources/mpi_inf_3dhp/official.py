"""The official download of MPI-INF-3DHP: `annot.mat` and videos for training, `annot_data.mat` and images for tests.

Shape letters: F frames.
"""

import itertools
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.preparation import Rows
from datamodules.sources.common.files import image_sizes
from datamodules.sources.common.video_frames import extract_frames, frame_name
from datamodules.sources.mpi_inf_3dhp.rows import (
    JOINTS,
    OF_28,
    TEST_SIZES,
    TRAIN_SIZE,
    Lens,
    Motion,
    assemble,
    lens_of,
    measured,
)
from noise2pose.errors import InputError

_IMAGE = re.compile(r"(?:frame|img)_(\d+)\.(?:jpg|jpeg|png)", re.IGNORECASE)
_TEST_SHAPE = ("frames", "people", "joints", "coordinates")  # in the order that h5py gives; MATLAB's is the reverse


def read_train(
    source: Path,
    recording: Path,
    camera: int,
    calibration: tuple[Lens, tuple[int, int]] | None,
    frames: Path | None,
    video: Path | None,
    fps: int | None,
    stride: int,
    images: Path | None,
) -> Rows:
    """One camera of one training recording.

    Args:
        source: folder that names of images are relative to.
        recording: its folder `S*/Seq*`.
        camera: number of the camera.
        calibration: of the camera; without, the joints tell it.
        frames: folder of the images that are there already.
        video: to extract images from if there are none.
        fps: frames a second.
        stride: every so many frames have an image.
        images: folder of extracted images, in which folders of `source` are linked; None if nothing is extracted.

    Raises:
        InputError: if the annotation cannot be read, or does not have this camera.
    """
    cells = _read_cells(recording / "annot.mat", camera)
    motion = Motion(
        _joints(cells["annot2"], 2)[:, OF_28],
        _joints(cells["annot3"], 3)[:, OF_28],
        _joints(cells["univ_annot3"], 3)[:, OF_28] if "univ_annot3" in cells else None,
        np.ones(len(cells["annot2"]), dtype=bool),
    )
    if calibration is None:
        lens, size = lens_of(motion, TRAIN_SIZE[0]), TRAIN_SIZE
    else:
        lens, size = measured(calibration[0], motion), calibration[1]
    wanted = range(0, len(motion.pixels), stride)
    name = f"{recording.parent.name}/{recording.name}"
    skipped: list[tuple[str, str]] = []
    paths: dict[int, str] = {}
    reason = "their files are missing"
    if frames is not None:
        paths = _listed(frames, source, wanted, first=None)
        link(frames, source, images)
    elif video is not None and images is not None:
        folder = recording.relative_to(source) / "imageFrames" / f"video_{camera}"
        extracted = extract_frames(video, wanted, images / folder)
        paths = {number: (folder / frame_name(number)).as_posix() for number in sorted(extracted.frames)}
        reason = extracted.reason
    if len(paths) < len(wanted) and (frames or video):
        number = len(wanted) - len(paths)
        place = f"{name}/{(frames or video or recording).name}"
        skipped.append((place, f"{number} of {len(wanted)} frames have no image: {reason}"))
    sequence = {
        "name": f"{recording.parent.name}_{recording.name}_{camera}",
        "split": "train",
        "subject": recording.parent.name,
        "action": recording.name,
        "camera": str(camera),
        "fps": fps,
    }
    return _rows(motion, lens, size, paths, sequence, f"{name}/annot.mat: camera {camera}", skipped)


def read_test(source: Path, folder: Path, with_images: bool, images: Path | None) -> Rows:
    """One test sequence.

    Args:
        source: folder that names of images are relative to.
        folder: its folder `TS*`.
        with_images: whether its images are to be used; there are some then.
        images: see `read_train`.

    Raises:
        InputError: if the annotation cannot be read.
    """
    name = folder.name
    motion, order = _read_test_annotation(folder / "annot_data.mat")
    number = len(motion.pixels)
    size = TEST_SIZES.get(name, TRAIN_SIZE)
    skipped: list[tuple[str, str]] = []
    paths: dict[int, str] = {}
    shown = folder / "imageSequence"
    listed = _listed(shown, source, range(number), first=1) if shown.is_dir() else {}
    if listed:  # their size is that of the sequence, used or not
        first = source / listed[min(listed)]
        (found,) = image_sizes([first])
        if found is None:
            reason = "cannot be opened; the size of the publication is taken"
            skipped.append((f"{name}/imageSequence/{first.name}", reason))
        size = found or size
    if with_images:
        paths = listed
        link(shown, source, images)
        if len(paths) < number:
            missing = next(frame for frame in range(number) if frame not in paths) + 1
            reason = f"{number - len(paths)} of {number} frames have no image, the first is img_{missing:06d}.jpg"
            skipped.append((f"{name}/imageSequence", reason))
    lens = lens_of(motion, size[0])
    sequence = {"name": name, "split": "test", "subject": name, "action": name, "array_order": order}
    return _rows(motion, lens, size, paths, sequence, f"{name}/annot_data.mat", skipped)


def link(folder: Path, source: Path, images: Path | None) -> None:
    """Makes a folder of images reachable below `images` by a symbolic link, so that one root serves all images."""
    if images is None:
        return
    place = images / folder.relative_to(source)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink() and place.resolve() != folder.resolve():
        place.unlink()  # the source was somewhere else before
    if not place.exists():
        os.symlink(folder.absolute(), place, target_is_directory=True)


def _rows(
    motion: Motion,
    lens: Lens,
    size: tuple[int, int],
    paths: dict[int, str],
    sequence: dict[str, Any],
    source: str,
    skipped: list[tuple[str, str]],
) -> Rows:
    """Rows of one sequence whose frames have the images `paths`."""
    annotations = ["annot3"] + (["univ_annot3"] if motion.univ_annot3 is not None else [])
    rows = assemble(motion, lens, size, paths, {**sequence, "annotations": annotations}, source)
    return rows._replace(
        counts={**rows.counts, f"{sequence['split']}: images": len(paths)}, skipped=skipped + rows.skipped
    )


def _read_cells(path: Path, camera: int) -> dict[str, np.ndarray]:
    """The arrays (F, ...) of one camera in `annot.mat`, by name."""
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["annot2", "annot3", "univ_annot3"])
    except Exception as error:  # the reader raises anything on a truncated file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as a MATLAB file, version 5 ({reason})") from error
    cells = {}
    for key, columns in (("annot2", 56), ("annot3", 84), ("univ_annot3", 84)):
        if key not in content:
            if key == "univ_annot3":
                continue
            raise InputError(f"{path}: {key} is missing")
        values = np.asarray(content[key]).ravel()
        if camera >= len(values) or not np.size(values[camera]):
            raise InputError(f"{path}: {key} has nothing of camera {camera}")
        array = np.asarray(values[camera])
        if array.ndim == 2 and array.shape[1] != columns and array.shape[0] == columns:
            array = array.T
        if array.ndim != 2 or array.shape[1] != columns or array.dtype.kind not in "fiu":
            raise InputError(
                f"{path}: {key} of camera {camera} is {array.shape} of {array.dtype}, expected (F, {columns})"
            )
        cells[key] = array
    if len({len(array) for array in cells.values()}) > 1:
        lengths = ", ".join(f"{key} {len(array)}" for key, array in cells.items())
        raise InputError(f"{path}: camera {camera} has different numbers of frames ({lengths})")
    return cells


def _joints(flat: np.ndarray, coordinates: int) -> np.ndarray:
    return flat.reshape(len(flat), 28, coordinates).astype(np.float64)


def _read_test_annotation(path: Path) -> tuple[Motion, str]:
    """A test sequence, and in which order its arrays were found to be."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            arrays = {
                key: np.asarray(file[key])
                for key in ("annot2", "annot3", "univ_annot3", "valid_frame")
                if isinstance(file.get(key), h5py.Dataset)
            }
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a MATLAB file, version 7.3 ({error})") from error
    missing = [key for key in ("annot2", "annot3", "valid_frame") if key not in arrays]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} is missing")
    valid = arrays.pop("valid_frame").ravel()
    orders = [_orders(array, 2 if key == "annot2" else 3, len(valid)) for key, array in arrays.items()]
    common = [order for order in orders[0] if all(order in others for others in orders)]
    if not common:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
        raise InputError(f"{path}: found {shapes} and {len(valid)} frames in valid_frame, expected (F, 1, 17, 2 or 3)")
    order = common[0]
    ordered = {key: _ordered(array, order) for key, array in arrays.items()}
    note = " x ".join(order) + (f"; ambiguous, {len(common)} orders fit" if len(common) > 1 else "")
    motion = Motion(ordered["annot2"], ordered["annot3"], ordered.get("univ_annot3"), np.nan_to_num(valid) > 0)
    return motion, note


def _orders(array: np.ndarray, coordinates: int, frames: int) -> list[tuple[str, ...]]:
    """The orders of axes that the shape allows: as h5py gives it, then MATLAB's, then others."""
    names = [name for name in _TEST_SHAPE if array.ndim == 4 or name != "people"]
    sizes = {"frames": frames, "people": 1, "joints": JOINTS.num_joints, "coordinates": coordinates}
    straight, others = tuple(names), list(itertools.permutations(names))
    tried = dict.fromkeys([straight, straight[::-1], *others])
    return [order for order in tried if tuple(sizes[name] for name in order) == array.shape]


def _ordered(array: np.ndarray, order: tuple[str, ...]) -> np.ndarray:
    """The array as (F, 17, coordinates)."""
    axes = [order.index(name) for name in _TEST_SHAPE if name in order]
    array = array.transpose(axes).astype(np.float64)
    return array[:, 0] if array.ndim == 4 else array


def _listed(folder: Path, source: Path, wanted: Collection[int], first: int | None) -> dict[int, str]:
    """Images in a folder of the wanted frames (counted from 0), named relative to `source`.

    Args:
        folder: of the images.
        source: folder that names are relative to.
        wanted: frames.
        first: number of the first frame's image; None for 0 if there is an image of that number, else 1.
    """
    numbered = {}
    for name in sorted(os.listdir(folder)):
        match = _IMAGE.fullmatch(name)
        if match:
            numbered.setdefault(int(match[1]), name)
    if first is None:
        first = 0 if 0 in numbered else 1
    place = folder.relative_to(source)
    return {n: (place / numbered[n + first]).as_posix() for n in wanted if n + first in numbered}
