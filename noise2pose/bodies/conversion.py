"""Published body models, converted into the project's body files.

SMPL (`.pkl` of version 1.0, whose arrays are chumpy's objects, and 1.1), SMPL-H and SMPL-X (`.pkl`, `.npz`) have the
same form, linear blend skinning, and are recognised by their numbers of vertices and joints. SMPL-X lists its shape
components (10 or 300) before its expressions (10 or 100); a body file has the first ten of both. Of SMPL-X it also has
the landmarks of the face, but for its outline, whose vertices depend on the view.

The names of joints and vertices come from the `smplx` package, whose licence, like that of the models, allows
non-commercial use only: neither a model nor a converted file may be passed on.
"""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from noise2pose import safe_pickle
from noise2pose.bodies import files as body_files
from noise2pose.bodies.files import Arrays, BodyArrays
from noise2pose.errors import InputError
from noise2pose.files import write_npz
from noise2pose.limits import check_arrays
from noise2pose.safe_pickle import read_object_npz

GENDERS = ("neutral", "male", "female")
_NEEDED = ("v_template", "shapedirs", "posedirs", "weights", "J_regressor", "kintree_table", "f")
_GENDER_WORDS = {"male": "male", "m": "male", "female": "female", "f": "female", "neutral": "neutral", "n": "neutral"}
# The published regressor of Human3.6M's joints has the left leg first, `h36m_17` has the right leg first.
_PUBLISHED_H36M = (0, 4, 5, 6, 1, 2, 3, *range(7, 17))
_GIVEN = ("h36m_17",)  # skeletons whose matrices are files of their own
_FEWEST_SHAPES, _MOST_SHAPES = 10, 300  # components of SMPL-X's files before those of the expression
_LANDMARKS, _LANDMARK_KEYS = 51, ("lmk_faces_idx", "lmk_bary_coords")
_ROW_SUM = 0.05  # how far the weights of a regressed joint may be from one


class ModelType(NamedTuple):
    """A family of published models: its name in body files and in papers, and the sizes by which it is recognised."""

    key: str
    name: str
    vertices: int
    joints: int


MODEL_TYPES = (
    ModelType("smpl", "SMPL", 6890, 24),
    ModelType("smplh", "SMPL-H", 6890, 52),
    ModelType("smplx", "SMPL-X", 10475, 55),
)


class Converted(NamedTuple):
    """What `convert` has written.

    Attributes:
        model: the family.
        body: the arrays of the file.
        notes: what was done to the regressors, in words.
    """

    model: ModelType
    body: BodyArrays
    notes: tuple[str, ...]


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    regressors: Mapping[str, str | PathLike[str]] | None = None,
    gender: str | None = None,
) -> Converted:
    """Writes the body file of a published model, whole or not at all.

    Args:
        source: `.pkl` or `.npz` of SMPL, SMPL-H or SMPL-X, as published.
        target: npz file to write; `noise2pose.bodies.files` describes it.
        regressors: `.npy` files of further skeletons; "h36m_17" is known, as a (17, V) matrix with either leg first.
        gender: "neutral", "male" or "female"; by default what the file says, else what its name says, else "neutral".

    Raises:
        InputError: if a file cannot be read, is of another model, or has a key of another shape.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".npz":
        raise InputError(f"{target}: expected a file name that ends in .npz")
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target} is the source: give another file to write")
    if gender not in (None, *GENDERS):
        raise InputError(f"gender {gender} is not one of {', '.join(GENDERS)}")
    entries = _read_entries(source)
    model = _recognise(source, entries)
    needed = {key: entries[key] for key in _NEEDED if key in entries}
    if model.key == "smplx":
        needed |= _face(source, entries)
    Arrays(source, needed).read("posedirs", (model.vertices, 3, 9 * (model.joints - 1)))
    body = body_files.check(source, needed)
    matrices, notes = {}, []
    for name, path in (regressors or {}).items():
        matrices[name], note = read_regressor(path, name, body.template)
        notes.append(note)
    names, vertex_ids = _names(model)
    body = replace(
        body,
        joint_names=names,
        vertex_ids=vertex_ids,
        regressors={**body.regressors, **matrices},
        model_type=model.key,
        gender=gender or _gender(source, entries),
    )
    write_npz(target, **_arrays_of(body))
    return Converted(model, body, tuple(notes))


def read_regressor(path: str | PathLike[str], name: str, template: Tensor) -> tuple[Tensor, str]:
    """Reads the regressor of a skeleton and brings its rows into the project's order.

    Which leg is first shows in the geometry: +x is the body's left.

    Args:
        path: `.npy` of shape (17, V).
        name: of the skeleton; "h36m_17" is known.
        template: (V, 3) vertices of the mean body that it belongs to.

    Returns:
        (17, V) in the order of the skeleton, and which order was found, in words.

    Raises:
        InputError: if the file cannot be read, has another shape, or its joints fit neither order.
    """
    if name not in _GIVEN:
        raise InputError(f"no regressor of {name} is known, expected {', '.join(_GIVEN)}")
    try:
        check_arrays(Path(path))
        loaded = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as an npy file ({error})") from error
    if not isinstance(loaded, np.ndarray):
        raise InputError(f"{path} is an npz file, expected an npy file with one matrix")
    matrix = Arrays(path, {name: loaded}).numbers(name, (17, len(template)))
    sums = matrix.sum(dim=1)
    if (sums - 1.0).abs().max() > _ROW_SUM:
        raise InputError(f"{path}: rows add up to between {sums.min():.3f} and {sums.max():.3f}, expected 1")
    x, y, _ = (matrix @ template).unbind(dim=-1)
    upright = y[10] > y[8] > y[0] > max(float(y[3]), float(y[6]))
    arms = bool((x[11:14] > x[14:17]).all())
    if upright and arms and bool((x[1:4] > x[4:7]).all()):
        return matrix[list(_PUBLISHED_H36M)], f"{name}: {path} has the left leg first as published; legs exchanged"
    if upright and arms and bool((x[1:4] < x[4:7]).all()):
        return matrix, f"{name}: {path} has the right leg first already; left as it is"
    raise InputError(
        f"{path}: its joints do not lie on this body as Human3.6M's do (pelvis, one leg, the other, spine, neck, jaw, "
        "head top, left arm, right arm); is it the regressor of another body?"
    )


def _read_entries(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".npz":
        return read_object_npz(path, only={*_NEEDED, *_LANDMARK_KEYS, "gender", "vertex_ids"})
    if path.suffix != ".pkl":
        raise InputError(f"{path}: expected a .pkl or .npz file of SMPL, SMPL-H or SMPL-X")
    entries = safe_pickle.load(path)
    if not isinstance(entries, dict):
        raise InputError(f"{path}: found a {type(entries).__name__}, expected a dictionary with `v_template`")
    return entries


def _recognise(path: Path, entries: Mapping[str, Any]) -> ModelType:
    if "vertex_ids" in entries:
        raise InputError(f"{path} is a body file already; it can be used as it is")
    arrays = Arrays(path, entries)
    vertices = arrays.read("v_template", (None, 3)).shape[0]
    joints = arrays.read("weights", (None, None)).shape[1]
    for model in MODEL_TYPES:
        if (vertices, joints) == (model.vertices, model.joints):
            return model
    known = ", ".join(f"{model.name} ({model.vertices} and {model.joints})" for model in MODEL_TYPES)
    raise InputError(f"{path}: found {vertices} vertices and {joints} joints, expected those of {known}")


def _face(path: Path, entries: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Expressions and landmarks of SMPL-X, as keys of a body file, as far as the model has them."""
    arrays, found = Arrays(path, entries), {}
    directions = arrays.read("shapedirs", (None, 3, None))
    start = _MOST_SHAPES if directions.shape[-1] > _MOST_SHAPES else _FEWEST_SHAPES
    if directions.shape[-1] > start:
        found["expressiondirs"] = directions[..., start:]
    if all(key in arrays for key in _LANDMARK_KEYS):
        faces = arrays.read("f", (None, 3)).astype(np.int64)
        numbers = arrays.read("lmk_faces_idx", (_LANDMARKS,)).astype(np.int64)
        if numbers.min() < 0 or numbers.max() >= len(faces):
            raise InputError(f"{path}: `lmk_faces_idx` names face {numbers.max()}, expected numbers below {len(faces)}")
        matrix = np.zeros((_LANDMARKS, len(directions)))
        corners = (np.arange(_LANDMARKS)[:, None], faces[numbers])
        np.add.at(matrix, corners, arrays.numbers("lmk_bary_coords", (_LANDMARKS, 3)).numpy())
        found["J_regressor_face"] = matrix
    return found


def _gender(path: Path, entries: Mapping[str, Any]) -> str:
    said = str(np.asarray(entries["gender"])) if "gender" in entries else ""
    # `SMPL_MALE`, `basicmodel_f_lbs_10_207_0_v1.1.0`, or AMASS's folders `smplh/male/model.npz`
    for text in (said, path.stem, path.parent.name):
        for word in re.split("[^a-z]+", text.lower()):
            if word in _GENDER_WORDS:
                return _GENDER_WORDS[word]
    return "neutral"


def _names(model: ModelType) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names of the joints of the tree, and named vertices."""
    from smplx import joint_names
    from smplx.vertex_ids import vertex_ids

    if model.key == "smplx":
        return tuple(joint_names.JOINT_NAMES[: model.joints]), dict(vertex_ids["smplx"])
    names = joint_names.SMPLH_JOINT_NAMES[: model.joints]
    if model.key == "smpl":
        names = (*names[:22], "left_hand", "right_hand")
    return tuple(names), dict(vertex_ids["smplh"])


def _arrays_of(body: BodyArrays) -> dict[str, np.ndarray]:
    """The keys of a body file."""

    def single(tensor: Tensor) -> np.ndarray:
        return tensor.to(torch.float32).numpy()

    arrays = {
        "v_template": single(body.template),
        "shapedirs": single(body.shape_directions[..., : body_files.NUM_BETAS]),
        "weights": single(body.skinning_weights),
        "J_regressor": single(body.joint_regressor),
        "f": body.faces.numpy().astype(np.uint32),
        "kintree_table": np.array([body.parents, range(len(body.parents))], dtype=np.int64),
        "joint_names": np.array(body.joint_names),
        "vertex_id_names": np.array(list(body.vertex_ids)),
        "vertex_ids": np.array(list(body.vertex_ids.values()), dtype=np.int64),
        "model_type": np.array(body.model_type),
        "gender": np.array(body.gender),
        **{body_files.REGRESSOR_KEYS[name]: single(matrix) for name, matrix in body.regressors.items()},
    }
    if body.num_expressions:
        arrays["expressiondirs"] = single(body.shape_directions[..., body_files.NUM_BETAS :])
    if body.pose_directions is not None:
        arrays["posedirs"] = single(body.pose_directions)
    return arrays
