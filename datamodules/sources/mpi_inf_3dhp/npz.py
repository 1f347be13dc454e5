"""MPI-INF-3DHP as P-STMO and D3DP pass it on: `data_train_3dhp.npz` and `data_test_3dhp.npz`.

Both hold the joints of `mpi_inf_3dhp_17` of every frame, pixels and mm. P-STMO's are `univ_annot3`, D3DP's (`_ori`) are
`annot3`; nothing in a file says which.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.preparation import Rows, concatenate
from datamodules.sources.mpi_inf_3dhp.rows import JOINTS, TEST_SIZES, TRAIN_SIZE, Motion, assemble, lens_of
from noise2pose.errors import InputError
from noise2pose.safe_pickle import read_object_npz


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
