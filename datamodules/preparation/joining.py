"""Parts of a data set on disk, and how they become the columns of a prepared folder without being in memory together.

A part is an npz file: `about` (JSON), `of` (N,) the sequence of each row, and its columns.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.prepared.folder import COLUMNS, INDEX, encode_names
from noise2pose.errors import InputError
from noise2pose.files import replacing, write_npz

_PREFIX = "column_"


class Rows(NamedTuple):
    """What reading one part gives.

    Attributes:
        arrays: columns of N rows, named as in `COLUMNS`; the rows of a sequence lie together, in order of time.
        sequences: name, split and other plain facts (subject, action, camera, ...) of each sequence, in that order.
        of: (N,) which of the sequences each row belongs to.
        images: names relative to the image root that `arrays["picture"]` counts, without backslashes.
        counts: added up over all parts by name.
        skipped: (file, or file and key; reason in a few words).
    """

    arrays: dict[str, np.ndarray]
    sequences: list[dict[str, Any]]
    of: np.ndarray
    images: list[str]
    counts: dict[str, int]
    skipped: list[tuple[str, str]]


class Joined(NamedTuple):
    """What the parts hold together.

    Attributes:
        rows: their number.
        columns: type and shape of a row of each column.
        sequences: facts of each, with its first row and the one behind its last.
        images: their number.
        counts: added up.
        skipped: file and reason.
    """

    rows: int
    columns: dict[str, Any]
    sequences: list[dict[str, Any]]
    images: int
    counts: dict[str, int]
    skipped: list[tuple[str, str]]


class _First(NamedTuple):
    """Numbers of a part's first row, sequence and image."""

    row: int
    sequence: int
    image: int


def concatenate(sequences: Sequence[Rows], skipped: list[tuple[str, str]]) -> Rows:
    """The rows of several sequences as those of one part.

    Args:
        sequences: rows with the same columns, of one sequence each.
        skipped: what is named before what the sequences skipped.
    """
    names = sequences[0].arrays if sequences else {}
    arrays = {name: np.concatenate([rows.arrays[name] for rows in sequences]) for name in names}
    of = np.repeat(np.arange(len(sequences)), np.array([len(rows.of) for rows in sequences], dtype=int))
    if "picture" in arrays:
        before = np.cumsum([0, *(len(rows.images) for rows in sequences)])
        arrays["picture"] = np.where(arrays["picture"] >= 0, arrays["picture"] + before[of], -1)
    counts: Counter[str] = Counter()
    for rows in sequences:
        counts.update(rows.counts)
    return Rows(
        arrays,
        [facts for rows in sequences for facts in rows.sequences],
        of,
        [name for rows in sequences for name in rows.images],
        dict(counts),
        [*skipped, *(fault for rows in sequences for fault in rows.skipped)],
    )


def write_part(path: Path, rows: Rows) -> None:
    """Writes a part, whole or not at all."""
    columns = {_PREFIX + name: np.asarray(array, dtype=COLUMNS[name].dtype) for name, array in rows.arrays.items()}
    about = {"sequences": rows.sequences, "images": rows.images, "counts": rows.counts, "skipped": rows.skipped}
    text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    write_npz(path, about=text, of=rows.of.astype(np.int32), **columns)


def join(files: list[Path], output: Path) -> Joined:
    """Writes the columns and the names of the images, one part in memory at a time.

    Raises:
        InputError: if parts have columns of different shapes.
    """
    sequences: list[dict[str, Any]] = []
    images: list[str] = []
    counts: Counter[str] = Counter()
    skipped: list[tuple[str, str]] = []
    shapes: dict[str, tuple[int, ...]] = {}
    firsts: list[_First] = []
    number = 0
    for file in files:
        with np.load(file) as arrays:
            about, of = json.loads(arrays["about"].tobytes()), arrays["of"]
            for name in [key.removeprefix(_PREFIX) for key in arrays.files if key.startswith(_PREFIX)]:
                shape = arrays[_PREFIX + name].shape[1:]
                if shapes.setdefault(name, shape) != shape:
                    raise InputError(f"{file.stem}: {name} is {shape}, but {shapes[name]} in the other parts")
        firsts.append(_First(number, len(sequences), len(images)))
        for sequence in np.unique(of):  # sequences without a row are left out
            start, stop = np.searchsorted(of, [sequence, sequence + 1]) + number
            sequences.append({**about["sequences"][sequence], "start": int(start), "stop": int(stop)})
        images += about["images"]
        skipped += [(name, reason) for name, reason in about["skipped"]]
        counts.update(about["counts"])
        number += len(of)
    if number:
        for name, shape in {**shapes, "sequence": ()}.items():
            _write_column(output, name, (number, *shape), files, firsts)
        text, ends = encode_names(images)
        write_npz(output / INDEX, text=text, ends=ends)
    columns = {name: [COLUMNS[name].dtype, list(shape)] for name, shape in sorted(shapes.items())}
    return Joined(number, columns, sequences, len(images), dict(counts), skipped)


def _write_column(output: Path, name: str, shape: tuple[int, ...], files: list[Path], firsts: list[_First]) -> None:
    """Writes one column whole or not at all; parts that do not have it get its default."""
    column = COLUMNS[name]
    with replacing(output / f"{name}.npy") as partial:
        values = np.lib.format.open_memmap(partial, mode="w+", dtype=column.dtype, shape=shape)
        for file, first in zip(files, firsts, strict=True):
            with np.load(file) as arrays:
                of = arrays["of"]
                if name == "sequence":
                    part = first.sequence + np.searchsorted(np.unique(of), of)
                else:
                    part = arrays[_PREFIX + name] if _PREFIX + name in arrays.files else column.default
                if name == "picture":
                    part = np.where(np.asarray(part) >= 0, part + first.image, -1)
            values[first.row : first.row + len(of)] = part
        values.flush()
        del values
