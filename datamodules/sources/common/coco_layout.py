"""People of an annotation file in COCO's layout: `images`, `annotations`, `categories`, in one JSON file.

COCO, Halpe, CrowdPose and MuCo share the layout and its faults: annotations of pictures that are not there, without
key-points, or twice under one number. What can be used is kept in the file's order; the rest is named.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.preparation.engine import Rows
from datamodules.sources.common.files import missing_files, picture_sizes
from noise2pose.errors import InputError

# Lists of numbers, which take a tenth of the memory as arrays. COCO's outlines of people are left out at once.
_NUMBERS = frozenset(
    ("bbox", "keypoints", "keypoints_cam", "keypoints_img", "keypoints_vis")  # of annotations
    + ("f", "c", "focal", "princpt", "pose", "shape", "trans")  # of cameras and bodies
)
_LARGEST_ID = 2**63 - 1  # of the column that holds it


class Findings:
    """What was left out and why; like things become one line with their number and the first of them."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[str, list[Any]] = {}

    def add(self, what: str, reason: str) -> None:
        """`what` is left out, or a part of it, for a `reason` that is the same for all like it."""
        entry = self._found.setdefault(reason, [what, 0])
        entry[1] += 1

    def lines(self) -> list[tuple[str, str]]:
        """(where, reason) of each kind."""
        return [
            (f"{self._file}: {first}", reason + (f", and {number - 1} more like it" if number > 1 else ""))
            for reason, (first, number) in self._found.items()
        ]


class People(NamedTuple):
    """Usable annotations of one file, in its order."""

    annotations: list[dict[str, Any]]  # as published, lists of numbers as float32 arrays
    images: list[dict[str, Any]]  # of each annotation: the picture's entry
    numbers: np.ndarray  # (N,) int64: of the annotations
    picture: np.ndarray  # (N,) int32: numbers of `pictures`
    pictures: list[str]  # relative to the root, those with usable annotations
    sizes: np.ndarray  # (N, 2) float32: width and height of each annotation's picture
    counts: dict[str, int]  # without the name of the split
    findings: Findings

    def columns(self) -> dict[str, np.ndarray]:
        """What every prepared folder of this kind has; a frame is known by its picture's id if that is a number."""
        ids = [_key(image["id"]) for image in self.images]
        frames = [int(text) if text.isdigit() and int(text) < 2**31 else 0 for text in ids]
        return {
            "frame": np.array(frames, np.int32),
            "person": self.numbers,
            "picture": self.picture,
            "image_size": self.sizes,
        }

    def rows(self, arrays: dict[str, np.ndarray], split: str, skipped: list[tuple[str, str]]) -> Rows:
        """The part of a prepared folder that one file becomes, one sequence named as the split."""
        return Rows(
            arrays,
            [{"name": split, "split": split}],
            np.zeros(len(self.annotations), np.int32),
            self.pictures,
            {f"{split}: {what}": count for what, count in self.counts.items() if count},
            skipped,
        )


def load_json(path: Path) -> Any:
    """Reads a JSON file with its lists of numbers as float32 arrays; None among them is NaN.

    Raises:
        InputError: if the file cannot be read or is no whole JSON.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file, object_hook=_compact)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no whole JSON file ({error})") from None


def read_people(path: Path, root: Path, folder: str, check: Callable[[dict[str, Any]], str | None]) -> People:
    """The annotations of one file that can be used.

    The header of every picture with such annotations is read: whether it is there and a picture, and which of its sizes
    is the width, because in some files they are swapped.

    Args:
        path: annotation file.
        root: folder that the names of pictures will be relative to.
        folder: where the file's pictures are, relative to `root`; "" for the root.
        check: says why an annotation has no usable key-points, "" if none is labelled, None if it is fine.

    Raises:
        InputError: if the file cannot be read or is not in COCO's layout.
    """
    content = load_json(path)
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"{path}: no list of {key}, expected COCO's layout")
    findings = Findings(path.name)
    images = _images(content["images"], findings)
    chosen, counts = _annotations(content["annotations"], images, check, findings)
    sizes = _sizes({key: images[key] for _, key, _ in chosen}, root, folder, findings, counts)
    chosen = [entry for entry in chosen if entry[1] in sizes]
    order = {key: place for place, key in enumerate(dict.fromkeys(key for _, key, _ in chosen))}
    return People(
        annotations=[annotation for annotation, _, _ in chosen],
        images=[images[key] for _, key, _ in chosen],
        numbers=np.array([number for _, _, number in chosen], np.int64),
        picture=np.array([order[key] for _, key, _ in chosen], np.int32),
        pictures=[_name(folder, images[key]["file_name"]) for key in order],
        sizes=np.array([sizes[key] for _, key, _ in chosen], np.float32).reshape(-1, 2),
        counts={**counts, "people": len(chosen), "pictures": len(order)},
        findings=findings,
    )


def check_keypoints(annotation: dict[str, Any], *lengths: int) -> str | None:
    """Why the flat list `keypoints` (x, y and v of every joint) cannot be used; for `read_people`.

    Args:
        annotation: of the file.
        lengths: numbers of joints that the list may have.
    """
    values = annotation.get("keypoints")
    if values is None:
        return "it has no key-points"
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        return "its key-points are no list of numbers"
    if values.size not in [3 * length for length in lengths]:
        expected = " or ".join(str(3 * length) for length in lengths)
        return f"its list of key-points has the wrong length, expected {expected}"
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
    """Key-points of checked annotations, and what the publisher says of their visibility.

    A joint without a visibility above 0, or with a coordinate that is no number, gets zeros. Coordinates outside the
    picture stay as they are, counted.

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
        people.findings.add(f"{joints[joint]} of annotation {people.numbers[person]}", "the joint is no number")
    visibility[broken] = 0.0
    labelled = visibility > 0
    places = np.where(labelled[..., None], values[..., :2], 0.0)
    outside = labelled & ((places < 0) | (places > people.sizes[:, None])).any(axis=-1)
    people.counts["joints outside the picture"] = int(outside.sum())
    return np.concatenate((places, labelled[..., None]), axis=-1, dtype=np.float32), visibility


def bounds(people: People, keypoints: np.ndarray) -> np.ndarray:
    """(N, 4) x0, y0, x1, y1 of the annotated box, or of the labelled joints (N, J, 3) where that is none.

    The annotated box is what SPIN and 3DCrowdNet take: it also holds what has no joints, as hair and shoes.
    """
    seen = keypoints[..., 2:] > 0
    low = np.where(seen, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(seen, keypoints[..., :2], -np.inf).max(axis=1)
    boxes = np.concatenate((low, high), axis=-1).astype(np.float32)
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
            with suppress(TypeError, ValueError, OverflowError):  # what is no list of numbers is named later
                entry[key] = np.array(value, dtype=np.float32)
    return entry


def _images(entries: list[Any], findings: Findings) -> dict[str, dict[str, Any]]:
    images: dict[str, dict[str, Any]] = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("file_name"), str):
            findings.add(f"entry {place} of images", "it has no id or no file_name")
        elif _key(entry["id"]) in images:
            findings.add(f"image {_key(entry['id'])}", "an image of this id was there before")
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
    findings: Findings,
) -> tuple[list[tuple[dict[str, Any], str, int]], dict[str, int]]:
    """(annotation, key of its image, number) of those to be used."""
    chosen, seen, pictures, crowds, unlabelled = [], set(), set(), 0, 0
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or not _key(entry.get("id")).isdecimal() or int(_key(entry["id"])) > _LARGEST_ID:
            findings.add(f"entry {place} of annotations", "it has no id that is a number")
            continue
        number, key = int(_key(entry["id"])), _key(entry.get("image_id"))
        name = f"annotation {number}"
        if number in seen:
            findings.add(name, "an annotation of this id was there before")
            continue
        seen.add(number)
        pictures.add(key)
        if key not in images:
            findings.add(name, "its image_id is not among the images")
        elif entry.get("iscrowd"):
            crowds += 1
        elif (reason := check(entry)) is None:
            chosen.append((entry, key, number))
        elif reason:
            findings.add(name, reason)
        else:
            unlabelled += 1
    counts = {
        "pictures listed": len(images),
        "pictures with annotations": len(pictures & images.keys()),
        "annotations": len(seen),
        "annotations of crowds, left out": crowds,
        "annotations without labelled joints, left out": unlabelled,
    }
    return chosen, counts


def _sizes(
    images: dict[str, dict[str, Any]], root: Path, folder: str, findings: Findings, counts: dict[str, int]
) -> dict[str, tuple[int, int]]:
    """Width and height of the pictures that are there, are pictures, and have the size that is annotated."""
    names = {key: _name(folder, image["file_name"]) for key, image in images.items()}
    missing = missing_files(root, names.values())
    present = {key: name for key, name in names.items() if name not in missing}
    for name in names.values():
        if name in missing:
            findings.add(f"picture {name}", "the picture is missing; its people are left out")
    sizes, swapped = {}, 0
    found = picture_sizes([root / name for name in present.values()])
    for (key, name), size in zip(present.items(), found, strict=True):
        annotated = (images[key].get("width"), images[key].get("height"))
        if size is None:
            findings.add(f"picture {name}", "it is no picture that can be read; its people are left out")
        elif None in annotated or annotated in (size, size[::-1]):
            sizes[key] = size
            swapped += None not in annotated and annotated != size
        else:
            findings.add(f"picture {name}", "it has another size than is annotated; its people are left out")
    counts["pictures with width and height swapped, put right"] = swapped
    return sizes


def _name(folder: str, file: str) -> str:
    """Of a picture, relative to the root; some files repeat the folder's name."""
    file = file.replace("\\", "/")
    last = folder.rpartition("/")[2]
    if last and file.startswith(last + "/"):
        file = file[len(last) + 1 :]
    return f"{folder}/{file}" if folder else file
