"""A prepared folder: the columns that `datamodules.preparation` writes, opened without reading them.

Shape letters: N rows, J joints.
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from noise2pose.errors import InputError

MANIFEST = "dataset.json"
INDEX = "index.npz"
GENDERS = ("neutral", "male", "female")


class Column(NamedTuple):
    """What a column of numbers is.

    Attributes:
        dtype: of NumPy.
        shape: of one row; J for the joints of the publisher's skeleton, which the manifest names.
        default: of rows of parts that do not have the column.
        what: for documents.
    """

    dtype: str
    shape: tuple[int | str, ...]
    default: float
    what: str


_NAN = float("nan")
COLUMNS: dict[str, Column] = {
    "sequence": Column("int32", (), -1, "its sequence in the manifest"),
    "frame": Column("int32", (), 0, "number in its sequence as the publisher counts"),
    "person": Column("int64", (), 0, "number in its sequence, or annotation id"),
    "picture": Column("int32", (), -1, "its image in index.npz; -1 without"),
    "keypoints_2d_gt": Column("float32", ("J", 3), 0, "annotated joints, pixels of the whole image, confidence"),
    "keypoints_2d_detected": Column("float32", ("J", 3), 0, "joints of a detector, pixels, confidence"),
    "keypoints_3d": Column("float32", ("J", 4), 0, "metres in the camera frame, validity"),
    "keypoints_3d_univ": Column("float32", ("J", 4), 0, "the same of a skeleton of universal proportions"),
    "joints_world": Column("float32", ("J", 3), 0, "metres in a world with z up, where there is no camera"),
    "joints_sensor": Column("float32", ("J", 3), 0, "those of joints_world as a depth sensor measured them"),
    "smpl_joints": Column("float32", (24, 4), 0, "SMPL's joints, metres in the camera frame, validity"),
    "poses": Column("float32", (24, 3), 0, "SMPL's rotations, axis-angle, the root's in the camera frame"),
    "betas": Column("float32", (10,), 0, "SMPL's shape"),
    "translation": Column("float32", (3,), 0, "SMPL's translation in the camera frame, metres"),
    "translation_world": Column("float32", (3,), 0, "SMPL's translation in the world, metres"),
    "extrinsics": Column("float32", (3, 4), 0, "world to camera: rotation and translation in metres"),
    "gender": Column("uint8", (), 0, "0 neutral, 1 male, 2 female"),
    "has_smpl": Column("bool", (), 0, "whether there are body parameters"),
    "focal": Column("float32", (2,), _NAN, "pixels; NaN where unknown"),
    "principal_point": Column("float32", (2,), _NAN, "pixels; NaN where unknown"),
    "image_size": Column("float32", (2,), _NAN, "width and height, pixels"),
    "bounds": Column("float32", (4,), _NAN, "tight box x0, y0, x1, y1, pixels, before any scale"),
    "valid": Column("bool", (), 1, "whether the publisher counts the frame"),
    "visibility": Column("float32", ("J",), 0, "of keypoints_2d_gt, the value that is published"),
    "crowd_index": Column("float32", (), _NAN, "of the image: how much its people overlap, 0 to 1"),
    "score": Column("float32", (), _NAN, "of the annotation, as the manifest explains it"),
}


class PreparedFolder:
    """The manifest and the columns of a folder, mapped from their files.

    Args:
        root: the folder.
        dataset: which data set it must hold.

    Raises:
        InputError: if the folder has not been prepared, holds another data set, or is damaged.
    """

    def __init__(self, root: Path, dataset: str) -> None:
        self.root = root
        self.manifest = read_manifest(root, dataset)
        if self.manifest["dataset"] != dataset:
            raise InputError(f"data.root: {root} holds {self.manifest['dataset']}, expected {dataset}")
        self.facts: dict[str, Any] = self.manifest["facts"]
        self.sequences: list[dict[str, Any]] = self.manifest["sequences"]
        self.num_rows = int(self.manifest["rows"])

    def __contains__(self, column: str) -> bool:
        return column in self.manifest["columns"]

    def column(self, name: str) -> np.ndarray:
        """A column (N, ...), mapped from its file; what is written to it stays in memory.

        Raises:
            InputError: if the data set has no such column, or its file is damaged.
        """
        if name != "sequence" and name not in self:
            known = ", ".join(self.manifest["columns"])
            raise InputError(f"{self.root}: {self.manifest['dataset']} has no {name} here; it has {known}")
        dtype, shape = ("int32", []) if name == "sequence" else self.manifest["columns"][name]
        path = self.root / f"{name}.npy"
        try:
            values = np.load(path, mmap_mode="c")
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: cannot be read ({error}); prepare the data set again") from error
        if values.dtype != dtype or values.shape != (self.num_rows, *shape):
            raise InputError(
                f"{path}: found {values.shape} of {values.dtype}, expected {(self.num_rows, *shape)} of {dtype}; "
                "prepare the data set again"
            )
        return values

    def skeleton(self, column: str) -> str:
        """Joint order of a column, a name in `noise2pose.skeletons`."""
        return self.facts["skeletons"][column]

    def images(self) -> "Names":
        """Names of the images, relative to `image_root`."""
        path = self.root / INDEX
        try:
            with np.load(path) as arrays:
                return Names(arrays["text"], arrays["ends"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: cannot be read ({error}); prepare the data set again") from error

    def image_root(self, moved: str | None = None) -> Path:
        """Folder of the images.

        Args:
            moved: where they are now, if not where they were when the data set was prepared.

        Raises:
            InputError: if the data set has no images, or their folder is gone.
        """
        written = self.manifest["picture_root"]
        if written is None:
            raise InputError(f"{self.root}: {self.manifest['dataset']} was prepared without images")
        root = Path(moved) if moved is not None else self.root / written
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; say with data.picture_root where the images are")
        return root


class Names(Sequence[str]):
    """Many strings in two arrays, read as they are asked for.

    Args:
        text: all of them in UTF-8, one after the other, bytes.
        ends: where each ends in it.
    """

    def __init__(self, text: np.ndarray, ends: np.ndarray) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"name {index} of {len(self)}")
        start = int(self._ends[index - 1]) if index else 0
        return self._text[start : int(self._ends[index])].tobytes().decode()


def encode_names(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays of `Names`."""
    encoded = [name.encode() for name in names]
    ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), ends


def read_manifest(root: Path, dataset: str | None = None) -> dict[str, Any]:
    """What `dataset.json` says.

    Args:
        root: the folder.
        dataset: for the message: what should be there.

    Raises:
        InputError: if there is none, or it cannot be read.
    """
    path = root / MANIFEST
    if not path.is_file():
        command = f"noise2pose prepare {dataset} --source FOLDER --output {root}"
        raise InputError(f"data.root: {path} does not exist; prepare it with `{command}`")
    try:
        manifest = json.loads(path.read_text())
        for key in ("dataset", "rows", "columns", "facts", "sequences", "parts", "sources", "picture_root"):
            manifest[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete it and prepare the data set again") from error
    return manifest
