"""Files of body models, read and checked.

A body file is an npz with SMPL's keys that carries every index of its mesh: `v_template` (V, 3), `shapedirs` (V, 3, at
least 10; the first 10 are used), `weights` (V, K), `J_regressor` (K, V), `kintree_table` (2, K) with parents in the
first row, `f` (T, 3), and optionally `posedirs` (V, 3, 9 * (K - 1)), `J_regressor_h36m` (17, V) in the order of
`h36m_17`, `J_regressor_face` (51, V) landmarks of the face, `expressiondirs` (V, 3, at least 10; the first 10 are
used), `joint_names` (K,), `vertex_id_names` with `vertex_ids`, `model_type` and `gender`.

Shape letters: V vertices, K joints of the kinematic tree, J joints of a regressed skeleton, S shape coefficients, T
faces.
"""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noise2pose.errors import InputError
from noise2pose.files import ASSETS
from noise2pose.limits import check_arrays

FREE_BODY = ASSETS / "free_body.npz"
NUM_BETAS, NUM_EXPRESSIONS = 10, 10
REGRESSOR_KEYS = {"h36m_17": "J_regressor_h36m", "face_51": "J_regressor_face"}
_KEYS = {
    *("v_template", "shapedirs", "weights", "J_regressor", "kintree_table", "f", "posedirs", "joint_names"),
    "expressiondirs",
    *("vertex_id_names", "vertex_ids", "model_type", "gender", *REGRESSOR_KEYS.values()),
}


@dataclass(frozen=True)
class BodyArrays:
    """The arguments of `noise2pose.bodies.BodyModel`, where each is described; float64."""

    template: Tensor
    shape_directions: Tensor
    skinning_weights: Tensor
    joint_regressor: Tensor
    parents: tuple[int, ...]
    faces: Tensor
    pose_directions: Tensor | None
    joint_names: tuple[str, ...]
    vertex_ids: Mapping[str, int]
    regressors: Mapping[str, Tensor]
    model_type: str
    gender: str
    num_expressions: int


def read(path: str | PathLike[str]) -> BodyArrays:
    """Reads a body file.

    Raises:
        InputError: if the file cannot be read or a key is missing, has another shape or impossible values.
    """
    try:
        check_arrays(Path(path))
        with np.load(path, allow_pickle=False) as file:
            entries = {key: file[key] for key in file.files if key in _KEYS}
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file, expected a body model (see `noise2pose prepare body --help`)"
        ) from None
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: found no readable npz file ({error}), expected a body model") from error
    return check(path, entries)


def check(path: str | PathLike[str], entries: Mapping[str, Any]) -> BodyArrays:
    """Checks the entries of a body file.

    Args:
        path: the file, for messages.
        entries: its keys and what they hold; anything that `numpy.asarray` takes.

    Raises:
        InputError: as `read`.
    """
    arrays = Arrays(path, entries)
    vertices, joints = arrays.read("weights", (None, None)).shape
    faces = arrays.read("f", (None, 3)).astype(np.int64)
    if faces.min(initial=0) < 0 or faces.max(initial=0) >= vertices:
        raise InputError(f"{path}: `f` names vertex {faces.max()}, expected numbers below {vertices}")
    shape_directions = arrays.numbers("shapedirs", (vertices, 3, None))
    if shape_directions.shape[-1] < NUM_BETAS:
        raise InputError(f"{path}: `shapedirs` has {shape_directions.shape[-1]} components, expected {NUM_BETAS}")
    shape_directions, expressions = shape_directions[..., :NUM_BETAS], 0
    if "expressiondirs" in arrays:
        expression = arrays.numbers("expressiondirs", (vertices, 3, None))[..., :NUM_EXPRESSIONS]
        shape_directions, expressions = torch.cat((shape_directions, expression), dim=-1), expression.shape[-1]
    vertex_ids = {}
    if "vertex_ids" in arrays:
        numbers = arrays.read("vertex_ids", (None,))
        if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= vertices:
            raise InputError(f"{path}: `vertex_ids` names vertex {numbers.max()}, expected numbers below {vertices}")
        vertex_ids = dict(zip(arrays.read("vertex_id_names", numbers.shape).tolist(), numbers.tolist(), strict=True))
    names = arrays.read("joint_names", (joints,)) if "joint_names" in arrays else ()
    return BodyArrays(
        template=arrays.numbers("v_template", (vertices, 3)),
        shape_directions=shape_directions,
        skinning_weights=arrays.numbers("weights", (vertices, joints)),
        joint_regressor=arrays.numbers("J_regressor", (joints, vertices)),
        parents=_parents(arrays.read("kintree_table", (2, joints))[0], path),
        faces=torch.from_numpy(faces),
        pose_directions=arrays.numbers("posedirs", (vertices, 3, 9 * (joints - 1))) if "posedirs" in arrays else None,
        joint_names=tuple(str(name) for name in names),
        vertex_ids=vertex_ids,
        regressors={
            name: arrays.numbers(key, (int(name.split("_")[-1]), vertices))
            for name, key in REGRESSOR_KEYS.items()
            if key in arrays
        },
        model_type=str(arrays.read("model_type", ())) if "model_type" in arrays else "other",
        gender=str(arrays.read("gender", ())) if "gender" in arrays else "neutral",
        num_expressions=expressions,
    )


class Arrays:
    """The arrays of a file, checked as they are taken out."""

    def __init__(self, path: str | PathLike[str], entries: Mapping[str, Any]) -> None:
        self.path = path
        self.entries = entries

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def read(self, key: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """The array of a key; None in `shape` is any size.

        Raises:
            InputError: if it is missing or has another shape.
        """
        if key not in self.entries:
            raise InputError(f"{self.path}: key `{key}` is missing, found {', '.join(sorted(map(str, self.entries)))}")
        try:
            array = np.asarray(self.entries[key])
        except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise InputError(f"{self.path}: `{key}` is not an array ({error})") from error
        if array.ndim != len(shape) or any(
            want not in (None, have) for want, have in zip(shape, array.shape, strict=True)
        ):
            wanted = str(shape).replace("None", "any")
            raise InputError(f"{self.path}: `{key}` has shape {array.shape}, expected {wanted}")
        return array

    def numbers(self, key: str, shape: tuple[int | None, ...]) -> Tensor:
        """The array of a key as float64.

        Raises:
            InputError: as `read`, and if it holds anything but finite numbers.
        """
        array = self.read(key, shape)
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise InputError(f"{self.path}: `{key}` holds {array.dtype} with values that are not finite numbers")
        return torch.from_numpy(array.astype(np.float64))


def _parents(row: np.ndarray, path: str | PathLike[str]) -> tuple[int, ...]:
    parents = (-1, *(int(parent) for parent in row[1:]))  # files mark the root with -1 or with 2^32 - 1
    if any(not 0 <= parent < joint for joint, parent in enumerate(parents[1:], start=1)):
        raise InputError(f"{path}: `kintree_table` has parents {parents[1:]}, expected each before its children")
    return parents
