"""BlazePose: people by their faces, and 33 landmarks in a rotated square around each.

Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", 2020. Two networks, published under the Apache
License 2.0 inside the package mediapipe, in LiteRT's format. What happens before and after the networks is written here
from their documentation; that whole images of groups are searched in tiles is ours.

Shape letters: A anchors, D detections, P people, L landmarks.
"""

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from noise2pose.keypoints.detectors.contract import People, Poses, Region, region_of_box, turn
from noise2pose.keypoints.detectors.networks import LiteNetwork
from noise2pose.keypoints.detectors.sampling import part_of, turned_crop
from noise2pose.keypoints.detectors.suppression import overlaps, suppress
from noise2pose.keypoints.detectors.tiles import LEVELS, SMALL, tiles

MIN_SCORE = 0.5  # of a person
MIN_CONFIDENCE = 0.3  # of a joint; below it the joint counts as not seen
_MAX_OVERLAP = 0.3  # intersection over union of the boxes of two people in one input
_NEAR = 0.25  # distance between two detections of the same person in different tiles, in radii of its circle
_SLENDER = 0.55  # half the width of a body, in radii of its circle
_OUTSIDE = 0.15  # taken from the score of somebody whose hips are outside the tile: guessed
_STRIDES = (8, 16, 32, 32, 32)  # of the detector's layers; each has two anchors in each cell
_DETECTOR_SIZE, _LANDMARK_SIZE = 224, 256
_MARGIN = 1.25  # of the square for the landmarks, around the circle that the detector draws around a person
_BOX_MARGIN = 0.1  # of a box that says where a person is, on each side: nothing outside it is looked at
_WINDOW = 7  # cells of the heat-maps around a landmark
_SAME_REGION = 0.75  # intersection over union of the square looked at and that of the landmarks found in it
# BlazePose's landmarks in COCO's order: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left first.
_COCO = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
_CIRCLE = slice(33, 35)  # landmarks after the 33: middle of the hips, and a point of the circle around the person


class Detections(NamedTuple):
    """Of the detector, the most certain first.

    Attributes:
        boxes: (D, 4) x0, y0, x1, y1 of a box at the head and shoulders, always a fifth of the network's input.
        points: (D, 2, 2) middle of the hips, and a point of the circle around the person.
        scores: (D,).
    """

    boxes: Float[Tensor, "D 4"]
    points: Float[Tensor, "D 2 2"]
    scores: Float[Tensor, " D"]


class BlazePeople:
    """The network that finds people.

    It was made for one or two people who fill the image. So the image is also searched in overlapping tiles of half its
    side, and in finer ones as long as the people found are small in them and the tiles are as large as the network's
    input.

    Args:
        file: the model.
        tiled: False to look at the whole image only, as the published pipeline does.

    Raises:
        InputError: if LiteRT is not installed or the file is not its model.
    """

    def __init__(self, file: Path, tiled: bool = True) -> None:
        self._network, self._tiled = LiteNetwork(file), tiled

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> People:
        """The people of an image, the most certain first."""
        height, width = image.shape[:2]
        found: list[tuple[Detections, Tensor]] = []
        for level in range(LEVELS if self._tiled else 1):
            squares = tiles(width, height, level)
            if level > 0 and squares[0].side < _DETECTOR_SIZE:
                break
            found += [self._search(image, square) for square in squares]
            radii = torch.cat([radii_of(each.points) for each, _ in found[-len(squares) :]]) / squares[0].side
            if level > 0 and not (len(radii) and float(radii.median()) < SMALL):
                break
        everybody = Detections(*(torch.cat(parts) for parts in zip(*(each for each, _ in found), strict=True)))
        rows = _different(everybody, torch.cat([rank for _, rank in found]))
        boxes = body_boxes(everybody.points[rows], width, height)
        return People(boxes, everybody.scores[rows], [region_of(points) for points in everybody.points[rows]])

    def _search(self, image: np.ndarray, square: Region) -> tuple[Detections, Tensor]:
        """What is found in a square, in pixels of the image; and how reliable each is."""
        crop = turned_crop(image, square, _DETECTOR_SIZE, "zeros")
        values, logits = self._network((2.0 * crop - 1.0).permute(1, 2, 0)[None].numpy())[:2]
        found = decode(values[0], logits[0, :, 0], anchors())
        outside = ((found.points[:, 0] - 0.5).abs().amax(dim=1) > 0.5).float()
        corner = square.centre - square.side / 2.0
        boxes, points = found.boxes * square.side + corner.repeat(2), found.points * square.side + corner
        return Detections(boxes, points, found.scores), found.scores - _OUTSIDE * outside


class BlazeJoints:
    """The network that finds 33 landmarks in a square, of which COCO's 17 are given on.

    Args:
        file: the model.

    Raises:
        InputError: if LiteRT is not installed or the file is not its model.
    """

    skeleton = "coco_17"

    def __init__(self, file: Path) -> None:
        self._network = LiteNetwork(file)

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], people: People) -> Poses:
        """The joints of people; 0, 0 and 0 where a joint is not seen."""
        if people.regions is None:
            found = [self._in_box(image, box) for box in people.boxes]
        else:
            found = [self._landmarks(image, region)[:2] for region in people.regions]
        if not found:
            return Poses(torch.zeros(0, 17, 3), torch.zeros(0))
        joints, seen = zip(*found, strict=True)
        return Poses(torch.stack(joints), torch.tensor(seen))

    def _in_box(self, image: np.ndarray, box: Tensor) -> tuple[Tensor, float]:
        """A box says neither where the hips are nor how the person leans: the landmarks do, as they do in a video."""
        part, corner = part_of(image, box, _BOX_MARGIN)
        region = region_of_box(box - corner.repeat(2), _MARGIN)
        joints, seen, better = self._landmarks(part, region)
        if _overlap(region, better) < _SAME_REGION and better.side > 1.0:
            again = self._landmarks(part, better)
            joints, seen = again[:2] if again[1] >= seen else (joints, seen)
        return torch.cat((joints[:, :2] + corner * (joints[:, 2:] > 0), joints[:, 2:]), dim=1), seen

    def _landmarks(self, image: np.ndarray, region: Region) -> tuple[Tensor, float, Region]:
        """(17, 3), how certain a person is there, and the region that follows from the landmarks."""
        crop = turned_crop(image, region, _LANDMARK_SIZE, "border")
        values, flag, _, heatmaps = self._network(crop.permute(1, 2, 0)[None].contiguous().numpy())[:4]
        landmarks = values.view(-1, 5)
        refined = refine(landmarks[:, :2] / _LANDMARK_SIZE, heatmaps[0].permute(2, 0, 1))
        pixels = turn(refined - 0.5, region.angle) * region.side + region.centre
        confidence = landmarks[list(_COCO), 3:].sigmoid().amin(dim=1)  # of being visible and of being in the square
        joints = pixels[list(_COCO)]
        inside = ((joints >= 0) & (joints < torch.tensor([image.shape[1], image.shape[0]]))).all(dim=1)
        seen = inside & (confidence >= MIN_CONFIDENCE)
        joints = torch.cat((joints, confidence[:, None]), dim=1) * seen[:, None]
        return joints, float(flag), region_of(pixels[_CIRCLE])


@cache
def anchors() -> Float[Tensor, "A 2"]:
    """Centres of the detector's anchors in sides of its input; all are as large as the input."""
    found = []
    for stride in dict.fromkeys(_STRIDES):
        cells = _DETECTOR_SIZE // stride
        centres = (torch.arange(cells) + 0.5) / cells
        grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).flatten(0, 1)
        found.append(grid.repeat_interleave(2 * _STRIDES.count(stride), dim=0))
    return torch.cat(found)


def decode(values: Float[Tensor, "A 12"], logits: Float[Tensor, " A"], centres: Float[Tensor, "A 2"]) -> Detections:
    """The detector's output, merged where it overlaps, in sides of the input.

    Args:
        values: (A, 12) the box's centre and size and four points, in pixels of the input relative to the anchor.
        logits: (A,) of scores.
        centres: (A, 2) of `anchors`.
    """
    scores = logits.clamp(-100.0, 100.0).sigmoid()
    rows = scores >= MIN_SCORE
    points = values[rows].view(-1, 6, 2) / _DETECTOR_SIZE
    size = points[:, 1]
    points = points + centres[rows, None]
    boxes = torch.cat((points[:, 0] - size / 2.0, points[:, 0] + size / 2.0), dim=1)
    return merge(Detections(boxes, points[:, 2:4], scores[rows]))


def merge(found: Detections) -> Detections:
    """One detection for each person of an input: the mean of those whose boxes overlap, weighted by score."""
    order = found.scores.argsort(descending=True, stable=True)
    boxes, points, scores = (values[order] for values in found)
    similar = overlaps(boxes, boxes) > _MAX_OVERLAP
    left, kept, means = torch.ones(len(order), dtype=torch.bool), [], [points.new_zeros(2, 2)]
    for first in range(len(order)):
        if not left[first]:
            continue
        same = left & similar[first]
        same[first] = True
        weights = scores[same]
        means.append((points[same] * weights[:, None, None]).sum(dim=0) / weights.sum())
        kept.append(first)
        left &= ~same
    return Detections(boxes[kept], torch.stack(means)[1:], scores[kept])


def _different(found: Detections, rank: Float[Tensor, " D"]) -> Tensor:
    """Rows of one detection for each person, of those found in different tiles: the one of the highest rank."""
    places, radii = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2.0, radii_of(found.points)
    return suppress(torch.cdist(places, places) < _NEAR * torch.minimum(radii[:, None], radii), rank)


def body_boxes(points: Float[Tensor, "D 2 2"], width: int, height: int) -> Float[Tensor, "D 4"]:
    """Boxes around the bodies, as far as they are in the image: the circle is much wider than a person is.

    Args:
        points: of `Detections`, in pixels.
        width: of the image.
        height: of the image.
    """
    along = (points[:, 1] - points[:, 0]).abs()
    half = along + _SLENDER * along.flip(1)
    boxes = torch.cat((points[:, 0] - half, points[:, 0] + half), dim=1)
    return boxes.clamp_min(0.0).minimum(torch.tensor([width, height] * 2).float())


def radii_of(points: Float[Tensor, "D 2 2"]) -> Float[Tensor, " D"]:
    """Radii of the circles around people."""
    return (points[:, 1] - points[:, 0]).norm(dim=1)


def region_of(points: Float[Tensor, "2 2"]) -> Region:
    """The region of a person from the middle of the hips and a point above the head, on the circle around."""
    along = points[1] - points[0]
    radius, angle = float(along.norm()), math.atan2(float(along[0]), -float(along[1]))
    return Region(points[0], 2.0 * _MARGIN * radius, angle)


def refine(places: Float[Tensor, "L 2"], heatmaps: Float[Tensor, "L h w"]) -> Float[Tensor, "L 2"]:
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


def _overlap(region: Region, other: Region) -> float:
    """Intersection over union of two squares, as if both were upright."""
    boxes = [torch.cat((each.centre - each.side / 2.0, each.centre + each.side / 2.0)) for each in (region, other)]
    return float(overlaps(boxes[0][None], boxes[1][None]))


def is_blazepose(file: Path) -> bool:
    """Whether a file is one of BlazePose's two networks, by the shapes of its outputs."""
    if file.suffix.lower() != ".tflite" or not file.is_file():
        return False
    shapes = [port.shape for port in LiteNetwork(file).outputs]
    return (1, len(anchors()), 12) in shapes or (1, 195) in shapes
