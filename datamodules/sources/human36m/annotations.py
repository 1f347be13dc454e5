"""What the JSON files of Human3.6M list: pictures, annotations and what is wrong with them."""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from noise2pose.errors import InputError

# The "Directions" of S11 that no paper counts is called its second here: its first camera is missing.
LEFT_OUT = ("S11", 2, 2)


def read_frames(
    content: dict[str, Any], subject: str, faults: "Faults"
) -> dict[tuple[int, int, int], dict[int, tuple[dict, dict]]]:
    """Image and annotation by (action, take, camera) and frame."""
    images: dict[Any, dict] = {}
    for image in content.get("images", []):
        if image.get("id") in images:
            faults.add("pictures of an id that was there before (left out)", image.get("file_name", image.get("id")))
        else:
            images[image.get("id")] = image
    frames: dict[tuple[int, int, int], dict[int, tuple[dict, dict]]] = defaultdict(dict)
    seen = set()
    for annotation in content.get("annotations", []):
        name = f"annotation {annotation.get('id')}"
        image = images.get(annotation.get("image_id"))
        if annotation.get("id") in seen:
            faults.add("annotations of an id that was there before (left out)", name)
        elif image is None:
            faults.add("annotations of no picture (left out)", name)
        else:
            seen.add(annotation.get("id"))
            try:
                key = (int(image["action_idx"]), int(image["subaction_idx"]), int(image["cam_idx"]))
                frame = int(image["frame_idx"])
            except (KeyError, TypeError, ValueError):
                faults.add("pictures without action, take, camera or frame (left out)", image.get("file_name", name))
                continue
            if frame in frames[key]:
                faults.add("annotations of a picture that has one (left out)", name)
            elif (subject, *key[:2]) != LEFT_OUT:
                frames[key][frame] = (image, annotation)
    return {key: found for key, found in frames.items() if found}


class Faults:
    """Faults of a kind, with a number and the first example."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[str, list[Any]] = {}

    def add(self, kind: str, example: Any) -> None:
        self._found.setdefault(kind, []).append(example)

    def lines(self) -> list[tuple[str, str]]:
        return [(self._file, f"{len(found)} {kind}, the first is {found[0]}") for kind, found in self._found.items()]


class Pictures:
    """Which pictures are there; each folder is looked at once."""

    def __init__(self, root: Path | None) -> None:
        self.root = root
        self._folders: dict[str, set[str]] = {}

    def has(self, name: str, faults: Faults) -> bool:
        if self.root is None:
            return False
        folder, _, file = name.rpartition("/")
        if folder not in self._folders:
            try:
                self._folders[folder] = set(os.listdir(self.root / folder))
            except OSError:
                self._folders[folder] = set()
        there = bool(file) and file in self._folders[folder]
        if not there:
            faults.add("picture files are missing (joints are kept)", name)
        return there


def frames_of_take(content: dict[str, Any], action: int, take: int) -> dict[str, Any]:
    """What belongs to a take of an action; nothing if it is not there."""
    takes = content.get(str(action))
    frames = takes.get(str(take)) if isinstance(takes, dict) else None
    return frames if isinstance(frames, dict) else {}


def numbers(value: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """An array of that shape from a list of any nesting; None if it is none."""
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError):
        return None
    return array.reshape(shape) if array.size == int(np.prod(shape)) and array.ndim > 0 else None


def is_finite(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def load_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, expected a dictionary")
    return content


FOLDERS = ("ground_truth_bb", "ground_truth_bs")  # boxes, and silhouettes, whose boxes are tighter


def mask_bounds(path: Path, frames: Sequence[int], keypoint_bounds: np.ndarray) -> np.ndarray:
    """The box of each frame's mask: x0, y0, x1, y1, where x1 and y1 are the pixels' far sides; NaN without a mask.

    MATLAB writes columns first, so a picture of H x W is read as (W, H). Where a file has been written the other way
    round the boxes are mirrored along the diagonal: far from the joints, so they are turned back.

    Args:
        path: `.mat` file with `Masks`, references to a picture for each frame of the video.
        frames: the wanted ones.
        keypoint_bounds: (N, 4) boxes of the joints in the same frames.

    Returns:
        (N, 4) float32.

    Raises:
        InputError: if it is broken or holds something else.
    """
    boxes = np.full((len(frames), 4), np.nan, np.float32)
    try:
        with h5py.File(path) as file:
            masks: Any = file["Masks"]
            stacked = masks.ndim == 3  # (F, W, H): all in one array
            references = masks if stacked else masks[()].reshape(-1)
            for row, frame in enumerate(frames):
                if frame < len(references):
                    reference: Any = references[frame]
                    picture = np.asarray(reference if stacked else file[reference])
                    boxes[row] = _box(picture.T)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise InputError(f"{path}: cannot be read as masks ({error})") from None
    swapped = boxes[:, [1, 0, 3, 2]]
    return swapped if 2.0 * _distance(swapped, keypoint_bounds) < _distance(boxes, keypoint_bounds) else boxes


def _box(mask: np.ndarray) -> np.ndarray:
    """Of a mask (H, W)."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return np.full(4, np.nan, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def _distance(boxes: np.ndarray, others: np.ndarray) -> float:
    return float(np.nansum(np.abs(boxes - others)))
