"""Files of 2-D keypoints, as detectors and annotators write them.

Formats:

- `.npz` with `keypoints` (or `keypoints_2d`, or one unnamed array) of shape (T, J, 2 or 3), or (J, 2 or 3) for one
  pose; optional `skeleton` (a name), `image_size` (2,) or (T, 2) and `names` (T,) of the pictures. Files that hold
  pickled objects, as VideoPose3D's do, are refused and never unpickled.
- `.json`: a COCO annotation file, one COCO annotation, a list of annotations or of results (COCO, AlphaPose, Halpe), or
  a plain nested list of shape (T, J, 2 or 3).

A COCO annotation file whose categories name exactly the joints of a skeleton that is known here, as annotations.json of
this project does, is read in that skeleton. Where an annotation has a list `confidence`, one number a joint, it counts.
Otherwise the third number of a joint is a confidence, or COCO's visibility (0 not labelled, 1 hidden, 2 visible); which
one it is shows in the numbers. Two numbers mean a confidence of 1. Shape letters: T poses, J joints.
"""

import json
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints.entries import Entry, floats, image_name

MIN_VISIBLE = 3  # joints; fewer say nothing about a pose
_SKELETON_OF = {17: "coco_17", 26: "halpe_26"}
_ARRAYS = ("keypoints", "keypoints_2d", "arr_0")  # the last is what numpy calls an array without a name
_CONFIDENCE_OF_VISIBILITY = np.array([0.0, 0.5, 1.0])


@dataclass(frozen=True)
class Keypoints:
    """The poses of one file, in the order of their images.

    Attributes:
        points: (T, J, 3) float32, pixels and confidence; no confidence is negative.
        skeleton: name in `noise2pose.skeletons`.
        names: T different names, for example `000000000785`, and `000000000785#2` for a second person in that image.
        image_sizes: (T, 2) width and height in pixels, or None where the file does not say.
    """

    points: Float[Tensor, "T J 3"]
    skeleton: str
    names: list[str]
    image_sizes: Float[Tensor, "T 2"] | None


def read_keypoints(path: Path, skeleton: str | None = None) -> Keypoints:
    """Reads a file of any format of this module.

    Args:
        path: an `.npz` or `.json` file.
        skeleton: of the file; None for what an npz file or the categories of a COCO file say themselves, else by the
            number of joints (17 is taken for COCO's, 26 for Halpe's).

    Raises:
        InputError: if the file is missing, broken, empty or of another kind, or if a pose has the wrong number of
            joints or a number that is not finite; it names the file and the entry. Also if no pose, or not every pose
            of an npz file, has three visible joints; such poses of a JSON file are skipped with a note.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    if path.suffix == ".npz":
        found = _read_npz(path, skeleton)
    elif path.suffix == ".json":
        found = _read_json(path, skeleton)
    else:
        raise InputError(f"{path}: keypoints are read from .npz and .json files")
    enough = (found.points[..., 2] > 0).sum(dim=1) >= MIN_VISIBLE
    if enough.all():
        return found
    few = [name for name, kept in zip(found.names, enough.tolist(), strict=True) if not kept]
    about = f"{len(few)} of {len(found.names)} poses have fewer than {MIN_VISIBLE} visible joints, {few[0]} the first"
    if path.suffix == ".npz" or len(few) == len(
        found.names
    ):  # a clip would no longer be one without some of its frames
        raise InputError(f"{path}: {about}; remove them")
    print(f"{path}: skipped: {about}", file=sys.stderr)
    return Keypoints(
        found.points[enough],
        found.skeleton,
        [name for name, kept in zip(found.names, enough.tolist(), strict=True) if kept],
        None if found.image_sizes is None else found.image_sizes[enough],
    )


def _read_npz(path: Path, skeleton: str | None) -> Keypoints:
    expected = "expected an array `keypoints` of shape (poses, joints, 2 or 3)"
    try:
        with np.load(path, allow_pickle=False) as file:
            if "positions_2d" in file.files:
                raise InputError(
                    f"{path}: a file of VideoPose3D holds many views as pickled Python objects, which are not read "
                    f"here; {expected}: save one camera of one action as such"
                )
            key = next((key for key in _ARRAYS if key in file.files), None)
            if key is None:
                raise InputError(f"{path}: {expected}, found {', '.join(file.files) or 'nothing'}")
            values = file[key]
            stated = str(file["skeleton"]) if "skeleton" in file.files else None
            size = file["image_size"] if "image_size" in file.files else None
            names = file["names"] if "names" in file.files else None
    except InputError:
        raise
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise InputError(f"{path}: holds pickled Python objects, which are not read; {expected}") from error
        raise InputError(f"{path} cannot be read as an npz file ({error}); {expected}") from error
    points = _array(path, values)
    sizes = None if size is None else _image_sizes(path, size, len(points))
    read = _from_array(path, points, skeleton or stated, sizes)
    if names is None:
        return read
    if names.shape != (len(points),):
        raise InputError(f"{path}: names has shape {names.shape}, expected ({len(points)},)")
    return replace(read, names=_numbered([image_name(str(name)) for name in names]))


def _read_json(path: Path, skeleton: str | None) -> Keypoints:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    images: dict[Any, dict[str, Any]] = {}
    if isinstance(content, dict) and "annotations" in content:
        listed = content.get("images", [])
        if not isinstance(listed, list) or not all(
            isinstance(image, dict) and isinstance(image.get("id"), int | str) for image in listed
        ):
            raise InputError(f"{path}: images must be a list of objects with an id")
        images = {image["id"]: image for image in listed}
        skeleton = skeleton or _named_joints(content.get("categories"))
        content = content["annotations"]
    elif isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise InputError(f"{path}: holds {type(content).__name__}, expected a list of poses")
    if not content:
        raise InputError(f"{path}: holds no poses")
    if isinstance(content[0], list):
        return _from_array(path, _array(path, content), skeleton, None)
    return _from_entries(path, content, images, skeleton)


def _named_joints(categories: Any) -> str | None:
    """The skeleton whose joints the categories name, in its order; None where they name others, or none."""
    named = [category.get("keypoints") for category in categories or [] if isinstance(category, dict)]
    lists = [joints for joints in named if isinstance(joints, list)]
    if not lists or any(joints != lists[0] for joints in lists):
        return None
    return next((name for name, skeleton in skeletons.SKELETONS.items() if list(skeleton.joints) == lists[0]), None)


def _from_array(path: Path, points: np.ndarray, skeleton: str | None, sizes: Float[Tensor, "T 2"] | None) -> Keypoints:
    name = _skeleton_of(path, "keypoints", points.shape[1], skeleton)
    _check_finite(path, [f"pose {number}" for number in range(len(points))], points, name)
    names = [f"{path.stem}_{number:05d}" for number in range(len(points))]
    return Keypoints(_with_confidence(points, labelled=False), name, names, sizes)


def _from_entries(path: Path, entries: list[Any], images: dict[Any, dict[str, Any]], skeleton: str | None) -> Keypoints:
    """Annotations or results, sorted by image, then by person where a tracker numbered them."""
    known = [Entry.read(path, number, entry, images) for number, entry in enumerate(entries)]
    nobody = [entry for entry in known if not entry.values.any()]
    if nobody:
        print(f"{path}: skipped {len(nobody)} of {len(known)} poses without any keypoint", file=sys.stderr)
    known = sorted((entry for entry in known if entry.values.any()), key=lambda entry: entry.order)
    if not known:
        raise InputError(f"{path}: no pose has any keypoint")
    name = _skeleton_of(path, known[0].title, known[0].values.size // 3, skeleton)
    joints = skeletons.get(name).num_joints
    for entry in known:
        if entry.values.size != 3 * joints:
            raise InputError(
                f"{path}: {entry.title} has {entry.values.size} numbers in keypoints, expected {3 * joints} for {name}"
            )
    points = np.stack([entry.values.reshape(joints, 3) for entry in known])
    _check_finite(path, [entry.title for entry in known], points, name)
    sizes = [entry.image_size for entry in known]
    read = _with_confidence(points, any(entry.labelled for entry in known))
    for row, entry in enumerate(known):
        if entry.confidence is not None:
            if entry.confidence.shape != (joints,):
                raise InputError(f"{path}: {entry.title} has {entry.confidence.size} confidences, expected {joints}")
            read[row, :, 2] = torch.as_tensor(entry.confidence)
    return Keypoints(
        read,
        name,
        _numbered([entry.image for entry in known]),
        torch.tensor(sizes, dtype=torch.float32) if all(size is not None for size in sizes) else None,
    )


def _numbered(images: Sequence[str]) -> list[str]:
    """A name for each person: that of the image, with a number from the second person on."""
    people: Counter[str] = Counter()
    names = []
    for image in images:
        people[image] += 1
        names.append(image if people[image] == 1 else f"{image}#{people[image]}")
    return names


def _array(path: Path, values: Any) -> np.ndarray:
    """(T, J, 2 or 3) float64 of a plain array; a single pose gets its leading dimension."""
    points = floats(path, "keypoints", values)
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[-1] not in (2, 3):
        raise InputError(
            f"{path}: keypoints have shape {points.shape}, expected (poses, joints, 2 or 3) or (joints, 2 or 3)"
        )
    if not len(points):
        raise InputError(f"{path}: holds no poses")
    return points


def _image_sizes(path: Path, values: np.ndarray, number: int) -> Float[Tensor, "T 2"]:
    if values.dtype.kind not in "iuf" or values.shape not in ((2,), (number, 2)) or not (values > 0).all():
        raise InputError(
            f"{path}: image_size has shape {values.shape} and type {values.dtype}, expected positive width and height "
            f"of shape (2,) or ({number}, 2)"
        )
    return torch.as_tensor(values.astype(np.float32)).expand(number, 2)


def _skeleton_of(path: Path, title: str, joints: int, stated: str | None) -> str:
    if stated is None and joints not in _SKELETON_OF:
        known = " or ".join(f"{number} ({name})" for number, name in _SKELETON_OF.items())
        raise InputError(f"{path}: {title} has {joints} joints, expected {known}, or name the skeleton")
    try:
        expected = skeletons.get(stated or _SKELETON_OF[joints])
    except InputError as error:
        raise InputError(f"{path}: skeleton: {error}") from error
    if joints != expected.num_joints:
        raise InputError(f"{path}: {title} has {joints} joints, but {expected.name} has {expected.num_joints}")
    return expected.name


def _check_finite(path: Path, titles: Sequence[str], points: np.ndarray, skeleton: str) -> None:
    wrong = np.argwhere(~(np.abs(points) <= 1e9).all(axis=-1))  # far from any image, and NaN
    if len(wrong):
        pose, joint = wrong[0]
        raise InputError(
            f"{path}: {titles[pose]}: {skeletons.get(skeleton).joints[joint]} is {points[pose, joint].tolist()}, "
            "expected finite pixels"
        )


def _with_confidence(points: np.ndarray, labelled: bool) -> Float[Tensor, "T J 3"]:
    """Adds a confidence where there is none, and turns COCO's visibility into one."""
    if points.shape[-1] == 2:
        points = np.concatenate((points, np.ones_like(points[..., :1])), axis=-1)
    third = points[..., 2]
    if np.isin(third, (0, 1, 2)).all() and (labelled or (third == 2).any()):
        third = _CONFIDENCE_OF_VISIBILITY[third.astype(int)]
    # Some detectors mark a joint that they did not find by -1.
    return torch.as_tensor(np.concatenate((points[..., :2], third[..., None].clip(0.0)), axis=-1), dtype=torch.float32)
