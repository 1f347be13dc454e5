"""Joints of MPI-INF-3DHP as rows of a prepared folder, and the cameras that the joints themselves tell.

P-STMO and D3DP pass on `data_train_3dhp.npz` and `data_test_3dhp.npz`: the joints of `mpi_inf_3dhp_17` of every frame,
pixels and mm. P-STMO's are `univ_annot3`, D3DP's (`_ori`) are `annot3`; nothing in a file says which.

Shape letters: F frames, J the 17 joints of `mpi_inf_3dhp_17`.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.preparation import Rows, concatenate
from datamodules.sources.common.joints import bounds_of, camera_columns, with_validity
from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.safe_pickle import read_object_npz

JOINTS = skeletons.get("mpi_inf_3dhp_17")
# Where the 17 joints of the test set lie among the 28 of the training set.
OF_28 = [skeletons.get("mpi_inf_3dhp_28").index(joint) for joint in JOINTS.joints]
TRAIN_SIZE = (2048, 2048)
TEST_SIZES = {"TS5": (1920, 1080), "TS6": (1920, 1080)}  # of the others TRAIN_SIZE
# A pinhole explains `annot3` of the published test set to 0.54 pixels of 1920; the universal skeleton it does not.
_EXACT = 0.001  # of the image's width: with a smaller error the fitted camera is taken as the true one
# Standard deviation of x/z and y/z, below which focal length and principal point cannot be told apart.
_MIN_SPREAD = 0.01


class Lens(NamedTuple):
    """A pinhole in pixels, how it is known, and how well it explains the joints.

    Attributes:
        focal: in x and y; NaN if unknown.
        principal_point: x and y; NaN if unknown.
        known_from: "calibration", "joints", "pelvis" or "nothing", for the manifest.
        rms: root mean square distance between annotated and projected joints, pixels; None if there is none.
    """

    focal: tuple[float, float]
    principal_point: tuple[float, float]
    known_from: str
    rms: float | None


class Motion(NamedTuple):
    """One sequence as its files have it.

    Attributes:
        pixels: (F, J, 2); NaN where a joint was not annotated.
        annot3: (F, J, 3) camera frame, mm; None if the files have none.
        univ_annot3: the same of the universal skeleton.
        valid: (F,) bool, the frames that count.
    """

    pixels: np.ndarray
    annot3: np.ndarray | None
    univ_annot3: np.ndarray | None
    valid: np.ndarray


def fit_lens(positions: np.ndarray, pixels: np.ndarray, known_from: str) -> Lens | None:
    """The pinhole that projects joints on their pixels in least squares; linear, since u = f x/z + c on each axis.

    Args:
        positions: (..., 3) camera frame, any unit; those behind the camera or not finite do not count.
        pixels: (..., 2).
        known_from: see `Lens`.

    Returns:
        None where there are too few joints, or they lie too close together, to determine it.
    """
    positions, pixels = positions.reshape(-1, 3).astype(np.float64), pixels.reshape(-1, 2).astype(np.float64)
    usable = np.isfinite(positions).all(axis=1) & np.isfinite(pixels).all(axis=1) & (positions[:, 2] > 0.0)
    if usable.sum() < 6:
        return None
    positions, pixels = positions[usable], pixels[usable]
    rays = positions[:, :2] / positions[:, 2:]
    if rays.std(axis=0).min() < _MIN_SPREAD:
        return None
    focal, centre, squares = [], [], 0.0
    for axis in range(2):
        matrix = np.stack((rays[:, axis], np.ones(len(rays))), axis=1)
        (f, c), *_ = np.linalg.lstsq(matrix, pixels[:, axis], rcond=None)
        squares += float(np.square(matrix @ (f, c) - pixels[:, axis]).mean())
        focal.append(float(f))
        centre.append(float(c))
    if min(focal) <= 0.0:
        return None
    return Lens((focal[0], focal[1]), (centre[0], centre[1]), known_from, float(np.sqrt(squares)))


def lens_of(motion: Motion, width: int) -> Lens:
    """The camera of a sequence without calibration, fitted to its joints where possible.

    `annot3` tells it from all joints. The universal skeleton is scaled about the pelvis, so only that still lies on its
    pixel, and tells it if the person walked about enough.
    """
    positions = motion.annot3 if motion.annot3 is not None else motion.univ_annot3
    if positions is not None:
        chosen = motion.valid if motion.valid.any() else slice(None)
        positions, pixels = positions[chosen], motion.pixels[chosen]
        pelvis = slice(JOINTS.root, JOINTS.root + 1)
        for lens in (
            fit_lens(positions, pixels, "joints"),
            fit_lens(positions[:, pelvis], pixels[:, pelvis], "pelvis"),
        ):
            if lens is not None and lens.rms is not None and lens.rms <= _EXACT * width:
                return lens
    nan = float("nan")
    return Lens((nan, nan), (nan, nan), "nothing", None)


def measured(lens: Lens, motion: Motion) -> Lens:
    """The lens with the distance between the joints as annotated and as it projects `annot3`."""
    if motion.annot3 is None:
        return lens
    in_front = np.where(motion.annot3[..., 2:] > 0.0, motion.annot3, np.nan)
    projected = in_front[..., :2] / in_front[..., 2:] * np.array(lens.focal) + np.array(lens.principal_point)
    squares = np.square(projected - motion.pixels).sum(axis=-1)
    squares = squares[np.isfinite(squares)]
    return lens._replace(rms=float(np.sqrt(squares.mean())) if len(squares) else None)


def assemble(
    motion: Motion, lens: Lens, size: tuple[int, int], images: dict[int, str], facts: dict[str, Any], source: str
) -> Rows:
    """The rows of one sequence.

    Args:
        motion: of all frames.
        lens: pixels.
        size: width and height of the images.
        images: name of each frame's image, as far as there are any.
        facts: of the sequence, to which those of the lens are added as plain values.
        source: file and key, for what is skipped.
    """
    number, split = len(motion.pixels), facts["split"]
    image = np.full(number, -1)
    image[list(images)] = np.arange(len(images))
    keypoints = with_validity(motion.pixels)
    columns = {"keypoints_2d_gt": keypoints}
    seen, positioned = keypoints[..., 2] > 0.0, np.zeros(number, dtype=bool)
    broken = int((~seen).sum())
    for name, positions in (("keypoints_3d", motion.annot3), ("keypoints_3d_univ", motion.univ_annot3)):
        if positions is not None:
            columns[name] = with_validity(positions, scale=0.001)
            known = columns[name][..., 3] > 0.0
            positioned |= known.any(axis=1)
            broken += int((~known).sum())
    bounds = bounds_of(motion.pixels, seen)
    inside = seen.all(axis=1) & (bounds[:, :2] >= 0.0).all(axis=1) & (bounds[:, 2:] < np.array(size)).all(axis=1)
    columns |= {
        "frame": np.arange(1, number + 1),
        "picture": image,
        **camera_columns(lens.focal, lens.principal_point, size, number),
        "bounds": bounds,
        "valid": motion.valid,
    }
    kept = seen.any(axis=1) & positioned
    skipped = []
    if broken:
        skipped.append((source, f"{broken} joints are not finite; they count as absent"))
    if not kept.all():
        where = f"the first is frame {int(np.flatnonzero(~kept)[0]) + 1}"
        skipped.append((source, f"{int((~kept).sum())} frames have no joint at all; {where}"))
    counts = {
        f"{split}: frames": int(kept.sum()),
        f"{split}: valid frames": int((kept & motion.valid).sum()),
        f"{split}: valid frames with all joints in the image": int((kept & motion.valid & inside).sum()),
        f"{split}: joints that are not finite": broken,
    }
    known = lens.known_from != "nothing"
    facts = {
        **facts,
        "camera_known_from": lens.known_from,
        "focal": list(lens.focal) if known else None,
        "principal_point": list(lens.principal_point) if known else None,
        "projection_rms": None if lens.rms is None else round(lens.rms, 4),
    }
    return Rows(
        {name: values[kept] for name, values in columns.items()},
        [facts],
        np.zeros(kept.sum(), np.int32),
        list(images.values()),
        counts,
        skipped,
    )


def read_npz(path: Path, split: str, annotation: str, cameras: Collection[int]) -> Rows:
    """All sequences of one file.

    Args:
        path: of the file.
        split: `train` or `test`.
        annotation: `annot3` or `univ_annot3`, or `unknown`, which is kept as `annot3` would be.
        cameras: which of the training set to read.

    Raises:
        InputError: if the file cannot be read, or has no sequence.
    """
    content = read_object_npz(path, only=["data"])
    data = content.get("data")
    if not isinstance(data, dict) or not data:
        raise InputError(f"{path}: no dictionary data in it, as P-STMO and D3DP write it")
    sequences: list[Rows] = []
    skipped: list[tuple[str, str]] = []
    for sequence, arrays in _train(data, cameras) if split == "train" else _test(data):
        source = f"{path.name}: {sequence['name']}"
        try:
            motion = _motion(arrays, annotation, split)
        except InputError as error:
            skipped.append((source, str(error)))
            continue
        size = TEST_SIZES.get(sequence["name"], TRAIN_SIZE)
        facts = {**sequence, "annotations": [annotation]}
        sequences.append(assemble(motion, lens_of(motion, size[0]), size, {}, facts, source))
    if not sequences:
        reason = f": {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise InputError(f"{path}: no sequence of the {split} set in it{reason}")
    return concatenate(sequences, skipped)


def _train(data: dict[str, Any], cameras: Collection[int]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Facts and arrays of each camera of each recording; an entry is [{camera: arrays}, fps]."""
    for key in sorted(data):
        subject, _, recording = key.partition(" ")
        entry = data[key].tolist() if isinstance(data[key], np.ndarray) else data[key]
        entry = list(entry) if isinstance(entry, list | tuple) else []
        if not recording or not entry or not isinstance(entry[0], dict):
            yield {"name": key}, None
            continue
        fps = np.ravel(entry[1]).tolist()[0] if len(entry) > 1 else None
        numbers = (name for name in entry[0] if str(name).isdigit() and int(name) in cameras)
        for camera in sorted(numbers, key=int):
            sequence = {
                "name": f"{subject}_{recording}_{camera}",
                "split": "train",
                "subject": subject,
                "action": recording,
                "camera": str(camera),
                "fps": fps,
            }
            yield sequence, entry[0][camera]


def _test(data: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    for key in sorted(data):
        yield {"name": key, "split": "test", "subject": key, "action": key}, data[key]


def _motion(arrays: Any, annotation: str, split: str) -> Motion:
    wanted = ["data_2d", "data_3d"] + (["valid"] if split == "test" else [])
    if not isinstance(arrays, dict):
        raise InputError("is laid out in another way than P-STMO and D3DP do")
    for key in wanted:
        if key not in arrays:
            raise InputError(f"{key} is missing")
    pixels, positions = (np.asarray(arrays[key]) for key in ("data_2d", "data_3d"))
    number = len(positions) if positions.ndim else 0
    for key, values, coordinates in (("data_2d", pixels, 2), ("data_3d", positions, 3)):
        if values.shape != (number, JOINTS.num_joints, coordinates) or values.dtype.kind not in "fiu":
            raise InputError(f"{key} is {values.shape} of {values.dtype}, expected ({number}, 17, {coordinates})")
    valid = np.asarray(arrays["valid"]).ravel() > 0 if split == "test" else np.ones(number, dtype=bool)
    if len(valid) != number:
        raise InputError(f"valid has {len(valid)} frames, expected {number}")
    pixels, positions = pixels.astype(np.float64), positions.astype(np.float64)
    if annotation == "univ_annot3":
        return Motion(pixels, None, positions, valid)
    return Motion(pixels, positions, None, valid)
