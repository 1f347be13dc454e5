"""2-D joints of people in images, by BlazePose.

Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", 2020. Two networks, published under the Apache
License 2.0 inside the package mediapipe, in LiteRT's format: one finds people, one finds 33 landmarks in a rotated
square around each. What happens before and after the networks is written here from their documentation.

Shape letters: A anchors, D detections, L landmarks, S side of a network's input.
"""

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from noise2pose.errors import InputError

MIN_SCORE = 0.5  # of a person
MIN_CONFIDENCE = 0.3  # of a joint; below it the joint counts as not seen
_MAX_OVERLAP = 0.3  # intersection over union of two people's boxes
_STRIDES = (8, 16, 32, 32, 32)  # of the detector's layers; each has two anchors in each cell
_DETECTOR_SIZE, _LANDMARK_SIZE = 224, 256
_MARGIN = 1.25  # of the square for the landmarks, around the circle that the detector draws around a person
_SKIPPED = 3.0  # pixels of the image between two of a network's input
_WINDOW = 7  # cells of the heat-maps around a landmark
# BlazePose's landmarks in COCO's order: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left first.
_COCO = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)


class Region(NamedTuple):
    """A rotated square around a person, in pixels of the image."""

    centre: Tensor  # (2,)
    side: float
    angle: float  # radians, clockwise in the image; 0 is upright


class BlazePose:
    """The two networks.

    Args:
        files: detector and landmark model.

    Raises:
        InputError: if LiteRT is not installed or a file is not one of its models.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        try:
            interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter
        except ImportError as error:
            raise InputError(
                f"the 2-D detector needs ai-edge-litert: pip install -e '.[detection]' ({error})"
            ) from error
        self._models: list[Any] = []
        for file in files:
            try:
                model = interpreter(model_path=str(file), num_threads=1)
                model.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise InputError(f"{file} is not a model that LiteRT reads ({error})") from error
            self._models.append(model)
        self._anchors = anchors()

    def __call__(self, image: np.ndarray) -> Tensor:
        """Everybody in an image, the most certain first.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (P, 17, 3) COCO's joints, pixels and confidence; 0, 0 and 0 where a joint is not seen.
        """
        people = [self._landmarks(image, region) for region in self._regions(image)]
        return torch.stack([torch.zeros(17, 3), *(person for person in people if person is not None)])[1:]

    def _regions(self, image: np.ndarray) -> list[Region]:
        height, width = image.shape[:2]
        side = float(max(height, width))
        whole = Region(torch.tensor([width, height]) / 2.0, side, 0.0)
        square = turned_crop(image, whole, _DETECTOR_SIZE, "zeros")
        boxes, scores = self._run(0, 2.0 * square - 1.0)[:2]
        corner = torch.tensor([width - side, height - side]) / 2.0
        return [region_of(points * side + corner) for points in detections(boxes[0], scores[0, :, 0], self._anchors)]

    def _landmarks(self, image: np.ndarray, region: Region) -> Tensor | None:
        """(17, 3), or None if the network finds no person in the region."""
        values, flag, _, heatmaps = self._run(1, turned_crop(image, region, _LANDMARK_SIZE, "border"))[:4]
        if float(flag) < MIN_SCORE:
            return None
        landmarks = values.view(-1, 5)
        places = refine(landmarks[:, :2] / _LANDMARK_SIZE, heatmaps[0].permute(2, 0, 1))[list(_COCO)]
        confidence = landmarks[list(_COCO), 3:].sigmoid().amin(dim=1)  # of being visible and of being in the square
        pixels = _turn(places - 0.5, region.angle) * region.side + region.centre
        inside = ((pixels >= 0) & (pixels < torch.tensor([image.shape[1], image.shape[0]]))).all(dim=1)
        seen = inside & (confidence >= MIN_CONFIDENCE)
        return torch.cat((pixels, confidence[:, None]), dim=1) * seen[:, None]

    def _run(self, number: int, image: Tensor) -> list[Tensor]:
        model = self._models[number]
        model.set_tensor(model.get_input_details()[0]["index"], image.permute(1, 2, 0)[None].contiguous().numpy())
        model.invoke()
        return [torch.from_numpy(model.get_tensor(output["index"]).copy()) for output in model.get_output_details()]


def anchors() -> Tensor:
    """(A, 2) centres of the detector's anchors in sides of its input; all are as large as the input."""
    found = []
    for stride in dict.fromkeys(_STRIDES):
        cells = _DETECTOR_SIZE // stride
        centres = (torch.arange(cells) + 0.5) / cells
        grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).flatten(0, 1)
        found.append(grid.repeat_interleave(2 * _STRIDES.count(stride), dim=0))
    return torch.cat(found)


def detections(values: Tensor, logits: Tensor, centres: Tensor) -> list[Tensor]:
    """Decodes the detector's output and merges what overlaps, weighted by score.

    Args:
        values: (A, 12) box centre, box size and four points, in pixels of the input relative to the anchor.
        logits: (A,) of scores.
        centres: (A, 2) of `anchors`.

    Returns:
        For each person, the most certain first: (2, 2) middle of the hips, and a point of the circle around the person,
        in sides of the input.
    """
    scores = logits.clamp(-100.0, 100.0).sigmoid()
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= MIN_SCORE]
    decoded = values[order].view(-1, 6, 2) / _DETECTOR_SIZE
    size = decoded[:, 1]
    decoded = decoded + centres[order, None]
    low, high = decoded[:, 0] - size / 2.0, decoded[:, 0] + size / 2.0
    left, people = torch.ones(len(order), dtype=torch.bool), []
    for first in range(len(order)):
        if not left[first]:
            continue
        shared = (torch.minimum(high, high[first]) - torch.maximum(low, low[first])).clamp_min(0.0).prod(dim=1)
        union = size.prod(dim=1) + size[first].prod() - shared
        same = left & (shared > _MAX_OVERLAP * union)
        same[first] = True
        weights = scores[order][same]
        people.append((decoded[same, 2:4] * weights[:, None, None]).sum(dim=0) / weights.sum())
        left &= ~same
    return people


def region_of(points: Tensor) -> Region:
    """The region of a person from (2, 2) the middle of the hips and a point above the head, on the circle around."""
    along = points[1] - points[0]
    radius, angle = float(along.norm()), math.atan2(float(along[0]), -float(along[1]))
    return Region(points[0], 2.0 * _MARGIN * radius, angle)


def turned_crop(image: np.ndarray, region: Region, size: int, outside: str) -> Tensor:
    """The region of an image, upright, sampled as the published pipeline does: at corners of cells, not at centres.

    Args:
        image: (H, W, 3) uint8.
        region: to cut out.
        size: S.
        outside: `zeros` for black outside the image, `border` for its nearest pixel.

    Returns:
        (3, S, S) in [0, 1].
    """
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255.0
    width_height = torch.tensor([pixels.shape[3], pixels.shape[2]])
    # Averaged first where sampling would skip most of the pixels, unlike in the published pipeline.
    step = max(1, int(region.side / size / _SKIPPED))
    if step > 1:
        pixels = avg_pool2d(pixels, step, ceil_mode=True, count_include_pad=False)
        width_height = step * torch.tensor([pixels.shape[3], pixels.shape[2]])
    places = torch.arange(size) / size - 0.5
    grid = torch.stack(torch.meshgrid(places, places, indexing="xy"), dim=-1).flatten(0, 1)
    grid = _turn(grid, region.angle) * region.side + region.centre + 0.5
    grid = (2.0 * grid / width_height - 1.0).view(1, size, size, 2)
    return grid_sample(pixels, grid, padding_mode=outside, align_corners=False)[0]


def refine(places: Tensor, heatmaps: Tensor) -> Tensor:
    """Moves each landmark to the mean of the heat-map around it, where the heat-map is confident.

    Args:
        places: (L, 2) in sides of the input.
        heatmaps: (L, h, w) logits.
    """
    height, width = heatmaps.shape[1:]
    refined = places.clone()
    for landmark, (x, y) in enumerate((places * torch.tensor([width, height])).floor().long().tolist()):
        if not (0 <= x < width and 0 <= y < height):
            continue
        left, top = max(0, x - _WINDOW // 2), max(0, y - _WINDOW // 2)
        part = heatmaps[landmark, top : y + _WINDOW // 2 + 1, left : x + _WINDOW // 2 + 1].sigmoid()
        if part.max() < 0.5:
            continue
        rows, columns = torch.arange(part.shape[0]) + top, torch.arange(part.shape[1]) + left
        mean = torch.stack(((part.sum(dim=0) * columns).sum(), (part.sum(dim=1) * rows).sum())) / part.sum()
        refined[landmark] = mean / torch.tensor([width, height])
    return refined


def _turn(points: Tensor, angle: float) -> Tensor:
    """(..., 2) points rotated clockwise, x right and y down."""
    sine, cosine = math.sin(angle), math.cos(angle)
    return points @ torch.tensor([[cosine, sine], [-sine, cosine]], dtype=points.dtype)
