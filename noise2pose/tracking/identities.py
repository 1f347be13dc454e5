"""Identities of people over the frames of a video, by their boxes.

Cao et al., "Observation-Centric SORT", CVPR 2023, as the package `trackers` has it: a Kalman filter for each box, with
overlap and direction of motion to assign the boxes of the next frame. It knows no appearance: somebody who was away for
longer than `REMEMBERED` comes back as somebody else.

Shape letters: D detections of a frame, J joints.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from noise2pose.errors import InputError

REMEMBERED = 1.0  # seconds in which somebody who is not seen keeps their identity
_TRACKERS_RATE = 30.0  # frames a second in which the package counts its buffer
_LEAST_OVERLAP = 0.2  # intersection over union of somebody's box with the expected one
_DIRECTION = 0.2  # weight of the direction of motion, as published
_MARGIN = 0.1  # of the box of the joints, on each side: an arm at the side is a narrow box


def check_installed() -> None:
    """Raises an InputError if the package is not installed; it is not imported, which takes seconds."""
    if importlib.util.find_spec("trackers") is None:
        raise InputError("--track (track=True) needs the package trackers: pip install -e '.[tracking]'")


class Identifier:
    """Gives the people of one frame after another their numbers.

    Args:
        fps: frames a second; those of a variable rate on average.

    Raises:
        InputError: if the package is not installed.
    """

    def __init__(self, fps: float) -> None:
        check_installed()
        self._detections: Any = importlib.import_module("supervision").Detections
        self._tracker = importlib.import_module("trackers").OCSORTTracker(
            lost_track_buffer=round(REMEMBERED * _TRACKERS_RATE),
            frame_rate=fps,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=_LEAST_OVERLAP,
            direction_consistency_weight=_DIRECTION,
        )

    def __call__(self, boxes: Float[np.ndarray, "D 4"], time: float) -> list[int]:
        """The numbers of the people of the next frame; -1 for those who are seen for the first time.

        Args:
            boxes: x0, y0, x1, y1 in pixels. Their order does not matter.
            time: seconds, above that of the frame before.
        """
        order = np.lexsort(boxes.T) if len(boxes) else np.zeros(0, dtype=int)
        numbers = [-1] * len(boxes)
        given = self._detections(xyxy=boxes[order].reshape(-1, 4), data={"row": order})
        found = self._tracker.update(given, timestamp=time)
        given_numbers = [] if found.tracker_id is None else found.tracker_id
        for row, number in zip(found.data.get("row", ()), given_numbers, strict=True):
            numbers[int(row)] = int(number)
        return numbers


def identities(
    points: Float[torch.Tensor, "T J 3"], frames: Sequence[Sequence[int]], times: Sequence[float]
) -> list[int]:
    """Numbers of the people of a video.

    Args:
        points: pixels and confidence of all its poses.
        frames: rows of the poses of each frame, in the order of time; frames without anybody may be left out.
        times: seconds of each of these frames, increasing.

    Returns:
        T numbers from 0 in the order in which people appear; -1 for who is seen in one of several frames only.

    Raises:
        InputError: if the package is not installed.
    """
    boxes = boxes_of(points).numpy()
    between = np.diff(times)
    identify = Identifier(1.0 / float(np.median(between)) if len(between) else 1.0)
    numbers = [-1] * len(points)
    before: Sequence[int] = []
    known: set[int] = set()
    for rows, time in zip(frames, times, strict=True):
        for row, number in zip(rows, identify(boxes[list(rows)], time), strict=True):
            numbers[row] = number
        for row in rows:  # the package numbers people from their second frame on
            if numbers[row] >= 0 and numbers[row] not in known:
                known.add(numbers[row])
                first = _same(boxes, row, [other for other in before if numbers[other] < 0])
                if first is not None:
                    numbers[first] = numbers[row]
        before = rows
    if len(frames) == 1:
        numbers = list(range(len(points)))
    return _in_order(numbers, frames, boxes)


def boxes_of(points: Float[torch.Tensor, "T J 3"]) -> Float[torch.Tensor, "T 4"]:
    """x0, y0, x1, y1 of the joints that are seen, with a margin; three joints of each pose are seen."""
    seen = points[..., 2:] > 0
    low = torch.where(seen, points[..., :2], torch.inf).amin(dim=1)
    high = torch.where(seen, points[..., :2], -torch.inf).amax(dim=1)
    margin = _MARGIN * (high - low).amax(dim=-1, keepdim=True)
    return torch.cat((low - margin, high + margin), dim=-1)


def _same(boxes: Float[np.ndarray, "T 4"], row: int, others: Sequence[int]) -> int | None:
    """Which of some boxes overlaps a box most, if one does by enough."""
    shared = {other: _overlap(boxes[row], boxes[other]) for other in others}
    best = max(shared, key=lambda other: shared[other], default=None)
    return best if best is not None and shared[best] >= _LEAST_OVERLAP else None


def _overlap(box: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union."""
    shared = float((np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])).clip(0.0).prod())
    return shared / max(float((box[2:] - box[:2]).prod() + (other[2:] - other[:2]).prod()) - shared, 1e-9)


def _in_order(numbers: Sequence[int], frames: Sequence[Sequence[int]], boxes: np.ndarray) -> list[int]:
    """The same people with numbers by their first frame, then from left to right."""
    first = {}
    for position, rows in enumerate(frames):
        for row in rows:
            first.setdefault(numbers[row], (position, *boxes[row].tolist()))
    order = {number: place for place, number in enumerate(sorted(set(first) - {-1}, key=lambda number: first[number]))}
    return [order.get(number, -1) for number in numbers]
