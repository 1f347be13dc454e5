"""One person of a JSON file of 2-D keypoints: an annotation or a detector's result, in COCO's form."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from noise2pose.errors import InputError
from noise2pose.keypoints.arrays import regular

_IMAGE = re.compile(r"\.(jpe?g|png|bmp|webp|tiff?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One annotation or result.

    Attributes:
        title: what messages call it.
        values: (3 J,) float64.
        confidence: (J,) float64, not negative; None where the entry has none.
        image: name of its image.
        order: by which poses are sorted.
        labelled: has a key that annotations have and results have not.
        image_size: width and height in pixels, where known.
    """

    title: str
    values: np.ndarray
    confidence: np.ndarray | None
    image: str
    order: tuple[Any, float]
    labelled: bool
    image_size: tuple[float, float] | None

    @classmethod
    def read(cls, path: Path, number: int, entry: Any, images: dict[Any, dict[str, Any]]) -> "Entry":
        title = f"entry {number}"
        if not isinstance(entry, dict):
            raise InputError(f"{path}: {title} is {type(entry).__name__}, expected an object with keypoints")
        identity = entry.get("image_id", number)
        if not isinstance(identity, int | str):
            raise InputError(f"{path}: {title}: image_id is {type(identity).__name__}, expected a number or a name")
        title = f"{title} (image {identity})"
        if "keypoints" not in entry:
            raise InputError(f"{path}: {title} has no keypoints, only {', '.join(map(str, entry)) or 'nothing'}")
        values = regular(f"{path}: {title}", entry["keypoints"])
        if values.ndim != 1 or values.size == 0 or values.size % 3:
            raise InputError(f"{path}: {title}: keypoints have shape {values.shape}, expected 3 numbers for each joint")
        image = images.get(identity, {})
        index, size = entry.get("idx"), _size(image.get("width"), image.get("height"))
        order = (_natural(str(identity)), float(index) if isinstance(index, int | float) else 0.0)
        file_name = image.get("file_name", identity)
        labelled = "num_keypoints" in entry or "area" in entry
        return cls(
            title,
            values,
            _confidences(path, title, entry.get("confidence")),
            image_name(str(file_name)),
            order,
            labelled,
            size,
        )


def _confidences(path: Path, title: str, values: Any) -> np.ndarray | None:
    """Only a list is read: some detectors give one confidence for the whole person."""
    if not isinstance(values, list):
        return None
    confidence = regular(f"{path}: {title}", values, "confidence")
    if confidence.ndim != 1 or not (np.abs(confidence) <= 1e9).all():
        raise InputError(f"{path}: {title}: confidence is not a list of finite numbers")
    return confidence.clip(0.0)


def _size(width: Any, height: Any) -> tuple[float, float] | None:
    known = isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0
    return (float(width), float(height)) if known else None


def _natural(name: str) -> list[str | int]:
    """Sorts `frame_10` after `frame_9`."""
    return [int(part) if position % 2 else part for position, part in enumerate(re.split(r"([0-9]+)", name))]


def image_name(file_name: str) -> str:
    """The name of an image file without folder and ending."""
    return _IMAGE.sub("", PurePosixPath(file_name.replace("\\", "/")).name) or "image"
