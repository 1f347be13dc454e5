"""One person of a JSON file of 2-D keypoints, in the form that the readers of all formats share.

Shape letters: J joints.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noise2pose.errors import InputError
from noise2pose.keypoints.arrays import regular
from noise2pose.keypoints.images import image_path

# How trackers and annotation tools call the number of a person.
PERSON = ("track_id", "idx", "tracking_id", "trackid", "person_id", "instance_id", "id_track", "pid")
# How they call the list of the confidences, or visibilities, of the joints of a person.
CONFIDENCES = (
    *("keypoint_scores", "confidence", "keypoints_scores", "keypoint_score", "keypoints_score", "scores", "conf"),
    *("keypoints_visible", "visibility", "visible"),
)
FRAME = ("frame_id", "frame", "frame_index", "frame_idx", "frame_num")


@dataclass(frozen=True)
class Entry:
    """One annotation or result.

    Attributes:
        title: what messages call it.
        points: (J, 2 or 3) float64, pixels and confidence or visibility; NaN where a number is null.
        image: path of its image.
        image_id: number of its image; empty where images have names only.
        labelled: made by an annotator, so that third numbers may be COCO's visibility.
        image_size: width and height in pixels, where known.
        person: identity over the frames of a video, where a tracker gave one.
        frame: position in a video, where the file says so.
        confidence: (J,) float64 that replaces the third numbers, where the entry has one.
        joints: for each joint of the skeleton its position in `points`, -1 if it is missing; None for all in order.
        skeleton: of the joints, where the file names them.
    """

    title: str
    points: np.ndarray
    image: str
    image_id: str = ""
    labelled: bool = False
    image_size: tuple[float, float] | None = None
    person: str | None = None
    frame: int | None = None
    confidence: np.ndarray | None = None
    joints: list[int] | None = None
    skeleton: str | None = None

    def ordered(self) -> np.ndarray:
        """(J, 3) points in the order of the skeleton; joints that the file lacks are zeros."""
        points = self.points
        if points.shape[1] == 2:
            points = np.concatenate((points, np.ones_like(points[:, :1])), axis=1)
        if self.confidence is not None:
            points = np.concatenate((points[:, :2], self.confidence[:, None]), axis=1)
        if self.joints is None:
            return points
        return np.concatenate((points, np.zeros((1, 3))))[self.joints]


def read_entry(title: str, number: int, entry: Any, **more: Any) -> Entry:
    """A person from a JSON object with `keypoints`, and what else the object says of it.

    Args:
        title: of the file.
        number: position in the file, for messages.
        entry: the object. Its `keypoints` are 3 or 2 numbers for each joint, in one list or in a list a joint.
        **more: attributes of `Entry` that the file says elsewhere; `image` is that of the entry if it is not given.

    Raises:
        InputError: if numbers are missing or are none.
    """
    identity = _plain(entry.get("image_id"))
    about = f"{title}: entry {number}" + (f" (image {identity})" if identity is not None else "")
    values = regular(about, entry["keypoints"])
    if values.ndim == 1 and values.size:
        columns = 3 if values.size % 3 == 0 else 2
        if values.size % columns:
            raise InputError(f"{about}: keypoints have {values.size} numbers, expected 3 or 2 for each joint")
        values = values.reshape(-1, columns)
    if values.ndim != 2 or values.shape[1] not in (2, 3) or not len(values):
        raise InputError(f"{about}: keypoints have shape {values.shape}, expected 3 numbers for each joint")
    found: dict[str, Any] = {
        "image": image_path(identity or f"{number}"),
        "image_id": "" if identity is None else identity,
        "labelled": "num_keypoints" in entry or "area" in entry,
        "person": first_of(entry, PERSON) or first_of(_attributes(entry), PERSON),
        "frame": whole_number(first_of(entry, FRAME)),
    }
    found |= {key: value for key, value in more.items() if value is not None}
    lists = [listed for key in CONFIDENCES if isinstance(listed := entry.get(key), list)]
    stated = next((listed for listed in lists if len(listed) == len(values)), lists[0] if lists else None)
    confidence = found.pop("confidence", None) if "confidence" in found else confidences(about, stated, len(values))
    return Entry(about, values, confidence=confidence, **found)


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """Without entries that repeat another one: the same joints of the same image."""
    seen: dict[Any, Entry] = {}
    for entry in entries:
        about = (entry.image, entry.image_id, entry.frame, entry.person)
        seen.setdefault((*about, entry.points.shape, entry.points.tobytes()), entry)
    return list(seen.values())


def of_usual_length(entries: Sequence[Entry]) -> tuple[list[Entry], Counter[str]]:
    """Without entries of other numbers of joints than most, where joints have no names; and how many by the reason."""
    numbers = Counter(len(entry.points) for entry in entries if entry.skeleton is None)
    usual, count = max(numbers.items(), key=lambda item: item[1], default=(0, 0))
    if 2 * count <= numbers.total():
        return list(entries), Counter()
    kept = [entry for entry in entries if entry.skeleton is not None or len(entry.points) == usual]
    others = {number: count for number, count in numbers.items() if number != usual}
    reasons = {f"of {number} joints, where most have {usual}": count for number, count in others.items()}
    return kept, Counter(reasons)


def _attributes(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """What CVAT writes apart from COCO's keys, such as the number of a track."""
    attributes = entry.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def confidences(title: str, values: Any, joints: int) -> np.ndarray | None:
    """A confidence of each joint; only a list is read, because some detectors give one number for the whole person.

    Raises:
        InputError: if there is not one finite number for each joint.
    """
    if not isinstance(values, list | tuple):
        return None
    confidence = regular(title, values, "confidence")
    if confidence.ndim != 1 or not (np.abs(confidence) <= 1e9).all():
        raise InputError(f"{title}: confidence is not a list of finite numbers")
    if len(confidence) != joints:
        raise InputError(f"{title} has {len(confidence)} confidences, expected {joints}")
    return confidence.clip(0.0)


def first_of(entry: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """The first of some values that is there, as a name: `3`, `3.0`, `"3"` and `[3]` are the same."""
    return next((plain for key in keys if (plain := _plain(entry.get(key))) is not None), None)


def whole_number(text: str | None) -> int | None:
    """The number that a text is, if it is one."""
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None


def image_size(image: Mapping[str, Any]) -> tuple[float, float] | None:
    """The size of an image of a COCO file, if both sides are known."""
    width, height = image.get("width"), image.get("height")
    if not isinstance(width, int | float) or not isinstance(height, int | float) or not (width > 0 and height > 0):
        return None
    return float(width), float(height)


def _plain(value: Any) -> str | None:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or value in ("", -1, "-1"):
        return None  # OpenPose writes -1 where it does not track
    return str(value)
