"""People of an annotation file in COCO's layout: `images`, `annotations`, `categories`, in one JSON file.

COCO, Halpe, CrowdPose and MuCo share the layout and its faults: annotations of images that are not there, without
keypoints, or twice under one number. What can be used is kept in the file's order; the rest is named.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.preparation import Rows
from datamodules.sources.common.files import Faults, image_sizes, leads_out, missing_files, read_json
from datamodules.sources.common.joints import bounds_of
from noise2pose.errors import InputError

# Lists of numbers, which take a tenth of the memory as arrays. COCO's outlines of people are left out at once.
_NUMBERS = frozenset(
    ("bbox", "keypoints", "keypoints_cam", "keypoints_img", "keypoints_vis")  # of annotations
    + ("f", "c", "focal", "princpt", "pose", "shape", "trans")  # of cameras and bodies
)
_LARGEST_ID = 2**63 - 1  # of the column that holds it


class People(NamedTuple):
    """Usable annotations of one file, in its order."""

    annotations: list[dict[str, Any]]  # as published, lists of numbers as float32 arrays
    images: list[dict[str, Any]]  # of each annotation: the entry of its image
    numbers: np.ndarray  # (N,) int64: of the annotations
    image: np.ndarray  # (N,) int32: numbers of `names`
    names: list[str]  # of the images with usable annotations, relative to the root
    sizes: np.ndarray  # (N, 2) float32: width and height of each annotation's image
    counts: dict[str, int]  # without the name of the split
    faults: Faults

    def columns(self) -> dict[str, np.ndarray]:
        """What every prepared folder of this kind has; the frame is the image's id if that is a number."""
        ids = [_key(image["id"]) for image in self.images]
        frames = [int(text) if text.isdigit() and int(text) < 2**31 else 0 for text in ids]
        return {
            "frame": np.array(frames, np.int32),
            "person": self.numbers,
            "picture": self.image,
            "image_size": self.sizes,
        }

    def rows(self, arrays: dict[str, np.ndarray], split: str, skipped: list[tuple[str, str]]) -> Rows:
        """The part of a prepared folder that one file becomes, one sequence named as the split."""
        return Rows(
            arrays,
            [{"name": split, "split": split}],
            np.zeros(len(self.annotations), np.int32),
            self.names,
            {f"{split}: {what}": count for what, count in self.counts.items() if count},
            skipped,
        )


def read_compact(path: Path) -> Any:
    """The content of a JSON file with its lists of numbers as float32 arrays; None among them is NaN.

    Raises:
        InputError: as `files.read_json`.
    """
    return read_json(path, object_hook=_compact)


def read_people(path: Path, root: Path, folder: str, check: Callable[[dict[str, Any]], str | None]) -> People:
    """The annotations of one file that can be used.

    The header of every image with such annotations is read: whether it is there and can be opened, and which of its
    sides is the width, because in some files they are swapped.

    Args:
        path: annotation file.
        root: folder that the names of images will be relative to.
        folder: where the file's images are, relative to `root`; "" for the root.
        check: says why an annotation has no usable keypoints, "" if none is labelled, None if it is fine.

    Raises:
        InputError: if the file cannot be read or is not in COCO's layout.
    """
    content = read_compact(path)
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"{path}: no list of {key}, expected COCO's layout")
    faults = Faults(path.name)
    images = _images(content["images"], faults)
    chosen, counts = _annotations(content["annotations"], images, check, faults)
    sizes = _sizes({key: images[key] for _, key, _ in chosen}, root, folder, faults, counts)
    chosen = [entry for entry in chosen if entry[1] in sizes]
    order = {key: place for place, key in enumerate(dict.fromkeys(key for _, key, _ in chosen))}
    return People(
        annotations=[annotation for annotation, _, _ in chosen],
        images=[images[key] for _, key, _ in chosen],
        numbers=np.array([number for _, _, number in chosen], np.int64),
        image=np.array([order[key] for _, key, _ in chosen], np.int32),
        names=[_name(folder, images[key]["file_name"]) for key in order],
        sizes=np.array([sizes[key] for _, key, _ in chosen], np.float32).reshape(-1, 2),
        counts={**counts, "people": len(chosen), "images": len(order)},
        faults=faults,
    )


def check_keypoints(annotation: dict[str, Any], *lengths: int) -> str | None:
    """Why the flat list `keypoints` (x, y and v of every joint) cannot be used; for `read_people`.

    Args:
        annotation: of the file.
        lengths: numbers of joints that the list may have.
    """
    values = annotation.get("keypoints")
    if values is None:
        return "it has no keypoints"
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        return "its keypoints are no list of numbers"
    if values.size not in [3 * length for length in lengths]:
        expected = " or ".join(str(3 * length) for length in lengths)
        return f"its list of keypoints has the wrong length, expected {expected}"
    points = values.reshape(-1, 3)
    points = points[points[:, 2] > 0]
    if not len(points):
        return ""
    points = points[np.isfinite(points[:, :2]).all(axis=1), :2]
    if not len(points):
        return "none of its joints is a number"
    if _box(annotation) is None and not np.ptp(points, axis=0).any():
        return "it has no box and only one joint"
    return None


def keypoints_2d(people: People, joints: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of checked annotations, and what the publisher says of their visibility.

    A joint without a visibility above 0, or with a coordinate that is no number, gets zeros. Coordinates outside the
    image stay as they are and are counted.

    Args:
        people: the last of whose columns is the visibility.
        joints: names of the first joints of each list; further ones are left out.

    Returns:
        (N, J, 3) pixels and the confidence, 1 for each labelled joint, and (N, J) the visibility.
    """
    count = len(joints)
    values = np.zeros((len(people.annotations), count, 3), np.float32)
    for row, annotation in zip(values, people.annotations, strict=True):
        row[:] = annotation["keypoints"].reshape(-1, 3)[:count]
    visibility = np.nan_to_num(values[..., 2], nan=0.0).clip(min=0.0)
    broken = (visibility > 0) & ~np.isfinite(values[..., :2]).all(axis=-1)
    for person, joint in zip(*np.nonzero(broken), strict=True):
        people.faults.add(f"{joints[joint]} of annotation {people.numbers[person]}", "the joint is no number")
    visibility[broken] = 0.0
    labelled = visibility > 0
    places = np.where(labelled[..., None], values[..., :2], 0.0)
    outside = labelled & ((places < 0) | (places > people.sizes[:, None])).any(axis=-1)
    people.counts["joints outside the image"] = int(outside.sum())
    return np.concatenate((places, labelled[..., None]), axis=-1, dtype=np.float32), visibility


def bounds(people: People, keypoints: np.ndarray) -> np.ndarray:
    """(N, 4) x0, y0, x1, y1 of the annotated box, or of the labelled joints (N, J, 3) where it has no area.

    The annotated box is what SPIN and 3DCrowdNet take: it also holds what has no joints, as hair and shoes.
    """
    boxes = bounds_of(keypoints[..., :2], keypoints[..., 2] > 0).astype(np.float32)
    replaced = 0
    for row, annotation in zip(boxes, people.annotations, strict=True):
        box = _box(annotation)
        if box is None:
            replaced += 1
        else:
            row[:] = box[0], box[1], box[0] + box[2], box[1] + box[3]
    people.counts["boxes taken from the joints"] = replaced
    return boxes


def _box(annotation: dict[str, Any]) -> np.ndarray | None:
    """x, y, width and height, if they make a box."""
    box = annotation.get("bbox")
    if isinstance(box, np.ndarray) and box.shape == (4,) and np.isfinite(box).all() and (box[2:] > 0).all():
        return box
    return None


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    for key, value in entry.items():
        if type(value) is list and key in _NUMBERS:
            with suppress(TypeError, ValueError, OverflowError):  # anything but a list of numbers is named later
                entry[key] = np.array(value, dtype=np.float32)
    return entry


def _images(entries: list[Any], faults: Faults) -> dict[str, dict[str, Any]]:
    images: dict[str, dict[str, Any]] = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("file_name"), str):
            faults.add(f"entry {place} of images", "it has no id or no file_name")
        elif leads_out(entry["file_name"]):
            faults.add(f"image {_key(entry['id'])}", "its file_name leads out of the folder; its people are left out")
        elif _key(entry["id"]) in images:
            faults.add(f"image {_key(entry['id'])}", "an image of this id was there before")
        else:
            images[_key(entry["id"])] = entry
    return images


def _key(number: Any) -> str:
    """An id as text; tables that went through pandas have 17.0 for 17."""
    return str(int(number) if isinstance(number, float) and number.is_integer() else number)


def _annotations(
    entries: list[Any],
    images: dict[str, dict[str, Any]],
    check: Callable[[dict[str, Any]], str | None],
    faults: Faults,
) -> tuple[list[tuple[dict[str, Any], str, int]], dict[str, int]]:
    """(annotation, key of its image, number) of those to be used."""
    chosen, seen, annotated, crowds, unlabelled = [], set(), set(), 0, 0
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or not _key(entry.get("id")).isdecimal() or int(_key(entry["id"])) > _LARGEST_ID:
            faults.add(f"entry {place} of annotations", "it has no id that is a number")
            continue
        number, key = int(_key(entry["id"])), _key(entry.get("image_id"))
        name = f"annotation {number}"
        if number in seen:
            faults.add(name, "an annotation of this id was there before")
            continue
        seen.add(number)
        annotated.add(key)
        if key not in images:
            faults.add(name, "its image_id is not among the images")
        elif entry.get("iscrowd"):
            crowds += 1
        elif (reason := check(entry)) is None:
            chosen.append((entry, key, number))
        elif reason:
            faults.add(name, reason)
        else:
            unlabelled += 1
    counts = {
        "images listed": len(images),
        "images with annotations": len(annotated & images.keys()),
        "annotations": len(seen),
        "annotations of crowds, left out": crowds,
        "annotations without labelled joints, left out": unlabelled,
    }
    return chosen, counts


def _sizes(
    images: dict[str, dict[str, Any]], root: Path, folder: str, faults: Faults, counts: dict[str, int]
) -> dict[str, tuple[int, int]]:
    """Width and height of the images that are there, can be opened, and have the size that is annotated."""
    names = {key: _name(folder, image["file_name"]) for key, image in images.items()}
    missing = missing_files(root, names.values())
    present = {key: name for key, name in names.items() if name not in missing}
    for name in names.values():
        if name in missing:
            faults.add(f"image {name}", "the image is missing; its people are left out")
    sizes, swapped = {}, 0
    found = image_sizes([root / name for name in present.values()])
    for (key, name), size in zip(present.items(), found, strict=True):
        annotated = (images[key].get("width"), images[key].get("height"))
        if size is None:
            faults.add(f"image {name}", "it is no image that can be read; its people are left out")
        elif None in annotated or annotated in (size, size[::-1]):
            sizes[key] = size
            swapped += None not in annotated and annotated != size
        else:
            faults.add(f"image {name}", "it has another size than is annotated; its people are left out")
    counts["images with width and height swapped, put right"] = swapped
    return sizes


def _name(folder: str, file: str) -> str:
    """Of an image, relative to the root; some files repeat the folder's name."""
    file = file.replace("\\", "/")
    last = folder.rpartition("/")[2]
    if last and file.startswith(last + "/"):
        file = file[len(last) + 1 :]
    return f"{folder}/{file}" if folder else file
