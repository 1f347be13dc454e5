"""What a detector answers: a detector of people gives boxes, a detector of joints gives the joints in each box.

Pixels count from the corner of the image, so the centre of the first pixel is (0.5, 0.5).

Shape letters: H, W image; P people; J joints.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor


class Region(NamedTuple):
    """A rotated square around a person, in pixels of the image."""

    centre: Float[Tensor, "2"]
    side: float
    angle: float  # radians, clockwise in the image; 0 is upright


class People(NamedTuple):
    """The people of an image, the most certain first.

    Attributes:
        boxes: (P, 4) x0, y0, x1, y1 in pixels; they may reach over the border of the image.
        scores: (P,) in [0, 1].
        regions: where a joint detector that follows the person's direction looks; None where only boxes are known.
    """

    boxes: Float[Tensor, "P 4"]
    scores: Float[Tensor, " P"]
    regions: list[Region] | None = None

    def chosen(self, rows: Tensor) -> "People":
        """Some of them: row numbers, or a mask."""
        numbers = torch.arange(len(self.scores))[rows].tolist()
        regions = None if self.regions is None else [self.regions[number] for number in numbers]
        return People(self.boxes[numbers], self.scores[numbers], regions)


class Poses(NamedTuple):
    """Joints of people.

    Attributes:
        joints: (P, J, 3) pixels and confidence in [0, 1].
        seen: (P,) how certain the joint detector is that there is a person at all, in [0, 1].
    """

    joints: Float[Tensor, "P J 3"]
    seen: Float[Tensor, " P"]


class PeopleDetector(Protocol):
    """Finds people."""

    def __call__(self, image: UInt8[ndarray, "H W 3"]) -> People: ...


class JointDetector(Protocol):
    """Finds the joints of people whose places are known."""

    skeleton: str

    def __call__(self, image: UInt8[ndarray, "H W 3"], people: People) -> Poses: ...


class PoseDetector(Protocol):
    """Finds people and their joints at once."""

    skeleton: str

    def __call__(self, image: UInt8[ndarray, "H W 3"]) -> tuple[People, Poses]: ...


def joined(groups: Sequence[People]) -> People:
    """Several groups as one, without their regions."""
    return People(torch.cat([group.boxes for group in groups]), torch.cat([group.scores for group in groups]))


def region_of_box(box: Float[Tensor, "4"], margin: float = 1.0) -> Region:
    """The upright square around a box, its side the longer one of the box times a margin."""
    return Region((box[:2] + box[2:]) / 2.0, margin * float((box[2:] - box[:2]).max()), 0.0)


def turn(points: Float[Tensor, "*batch 2"], angle: float) -> Float[Tensor, "*batch 2"]:
    """Points rotated clockwise by an angle in radians, x right and y down."""
    sine, cosine = math.sin(angle), math.cos(angle)
    return points @ torch.tensor([[cosine, sine], [-sine, cosine]], dtype=points.dtype)
