"""Files of 2-D keypoints, as detectors and annotators write them.

Formats:

- `.npz` with `keypoints` (or `keypoints_2d`, or one unnamed array) of shape (T, J, 2 or 3), or (J, 2 or 3) for one
  pose; optional `skeleton` (a name), `image_size` (2,) or (T, 2) and `names` (T,) of the images. Files that hold
  pickled objects, as VideoPose3D's do, are refused and never unpickled.
- `.json`: a COCO annotation file, one COCO annotation, a list of annotations or of results (COCO, AlphaPose, Halpe), or
  a plain nested list of shape (T, J, 2 or 3).

A COCO annotation file whose categories name exactly the joints of a skeleton of this project, as annotations.json does,
is read in that skeleton. Where an annotation has a list `confidence`, one number for each joint, that list is used.
Otherwise the third number of a joint is a confidence, or COCO's visibility (0 not labelled, 1 hidden, 2 visible); which
one it is shows in the numbers. Two numbers mean a confidence of 1. Shape letters: T poses, J joints.
"""

import json
import sys
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints import arrays
from noise2pose.keypoints.arrays import Keypoints
from noise2pose.keypoints.entries import Entry, image_name

ENDINGS = (".npz", ".json")
MIN_VISIBLE = 3  # joints; fewer say nothing about a pose
_ARRAYS = ("keypoints", "keypoints_2d", "arr_0")  # the last is what numpy calls an array without a name


def as_keypoints(given: Any, skeleton: str | None = None, image_size: Any = None, names: Any = None) -> Keypoints:
    """Keypoints from a file, an array or a record, checked.

    Args:
        given: path of a keypoint file; array (T, J, 2 or 3) or (J, 2 or 3), pixels and confidence; or a record.
        skeleton: of a file or an array, as in `read_keypoints`.
        image_size: (2,) or (T, 2) width and height in pixels; replaces what a file says.
        names: T names of the poses; replaces what a file says.

    Raises:
        InputError: as `read_keypoints`, or if a record has another skeleton.
    """
    if not isinstance(given, str | Path | Keypoints):
        found = arrays.from_array("array", given, skeleton, image_size, names)
        return _with_visible("array", found)
    found = given if isinstance(given, Keypoints) else read_keypoints(Path(given), skeleton)
    title = str(found.source or "keypoints")
    if skeleton not in (None, found.skeleton):
        raise InputError(f"{title}: skeleton is {skeleton}, but the record says {found.skeleton}")
    number = len(found.points)
    if image_size is not None:
        found = replace(found, image_sizes=arrays.image_sizes(title, image_size, number))
    return found if names is None else replace(found, names=arrays.pose_names(title, names, number))


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
    if path.suffix not in ENDINGS:
        raise InputError(f"{path}: keypoints are read from .npz and .json files")
    found = _read_npz(path, skeleton) if path.suffix == ".npz" else _read_json(path, skeleton)
    return _with_visible(str(path), replace(found, source=path))


def _with_visible(title: str, found: Keypoints) -> Keypoints:
    """The poses with enough visible joints; of a clip every pose must be one, because its frames follow each other."""
    enough = (found.points[..., 2] > 0).sum(dim=1) >= MIN_VISIBLE
    if enough.all():
        return found
    few = [name for name, kept in zip(found.names, enough.tolist(), strict=True) if not kept]
    about = f"{len(few)} of {len(found.names)} poses have fewer than {MIN_VISIBLE} visible joints, {few[0]} the first"
    if found.is_clip or len(few) == len(found.names):
        raise InputError(f"{title}: {about}; remove them")
    print(f"{title}: skipped: {about}", file=sys.stderr)
    return replace(
        found,
        points=found.points[enough],
        names=[name for name, kept in zip(found.names, enough.tolist(), strict=True) if kept],
        image_sizes=None if found.image_sizes is None else found.image_sizes[enough],
    )


def _read_npz(path: Path, skeleton: str | None) -> Keypoints:
    expected = "expected an array `keypoints` of shape (poses, joints, 2 or 3)"
    try:
        with np.load(path, allow_pickle=False) as file:
            if "positions_2d" in file.files:
                raise InputError(
                    f"{path}: a file of VideoPose3D holds many views as pickled Python objects, which are not read "
                    f"here; {expected}: save one camera of one action in this form"
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
    if names is not None:
        names = np.array([image_name(str(name)) for name in names]) if names.ndim == 1 else names
    return arrays.from_array(str(path), values, skeleton or stated, size, names, path.stem)


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
        return arrays.from_array(str(path), content, skeleton, stem=path.stem)
    return _from_entries(path, content, images, skeleton)


def _named_joints(categories: Any) -> str | None:
    """The skeleton whose joints the categories name, in its order; None where they name others, or none."""
    named = [category.get("keypoints") for category in categories or [] if isinstance(category, dict)]
    lists = [joints for joints in named if isinstance(joints, list)]
    if not lists or any(joints != lists[0] for joints in lists):
        return None
    return next((name for name, skeleton in skeletons.SKELETONS.items() if list(skeleton.joints) == lists[0]), None)


def _from_entries(path: Path, entries: list[Any], images: dict[Any, dict[str, Any]], skeleton: str | None) -> Keypoints:
    """Annotations or results, sorted by image, then by person where a tracker numbered them."""
    known = [Entry.read(path, number, entry, images) for number, entry in enumerate(entries)]
    empty = [entry for entry in known if not entry.values.any()]
    if empty:
        print(f"{path}: skipped {len(empty)} of {len(known)} poses without any keypoint", file=sys.stderr)
    known = sorted((entry for entry in known if entry.values.any()), key=lambda entry: entry.order)
    if not known:
        raise InputError(f"{path}: no pose has any keypoint")
    name = arrays.skeleton_of(str(path), known[0].title, known[0].values.size // 3, skeleton)
    joints = skeletons.get(name).num_joints
    for entry in known:
        if entry.values.size != 3 * joints:
            raise InputError(
                f"{path}: {entry.title} has {entry.values.size} numbers in keypoints, expected {3 * joints} for {name}"
            )
    points = np.stack([entry.values.reshape(joints, 3) for entry in known])
    arrays.check_finite(str(path), [entry.title for entry in known], points, name)
    sizes = [entry.image_size for entry in known]
    read = arrays.with_confidence(points, any(entry.labelled for entry in known))
    for row, entry in enumerate(known):
        if entry.confidence is not None:
            if entry.confidence.shape != (joints,):
                raise InputError(f"{path}: {entry.title} has {entry.confidence.size} confidences, expected {joints}")
            read[row, :, 2] = torch.as_tensor(entry.confidence)
    return Keypoints(
        read,
        name,
        arrays.numbered([entry.image for entry in known]),
        torch.tensor(sizes, dtype=torch.float32) if all(size is not None for size in sizes) else None,
    )
