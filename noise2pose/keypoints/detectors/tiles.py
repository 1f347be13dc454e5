"""Squares at several scales that cover an image, for a detector that sees only people who are large in its input.

Shape letters: P people.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from noise2pose.keypoints.detectors.contract import Region

LEVELS = 4  # the whole image and three finer ones, at most
SMALL = 0.35  # sides of a square, of people for whom finer squares are searched too
_OVERLAP = 0.4  # of a square's side, with its neighbour
_NEAR_BORDER = 0.02  # sides of a square
_FINER = 0.5  # side of the squares of a level, in those of the level before


def tiles(width: int, height: int, level: int) -> list[Region]:
    """Overlapping squares that cover an image.

    Args:
        width: of the image.
        height: of the image.
        level: 0 for the square around the whole image; each further level halves the side.
    """
    side = max(width, height) * _FINER**level
    columns, rows = (_centres(length, side) for length in (width, height))
    return [Region(torch.tensor([x, y]), side, 0.0) for y in rows for x in columns]


def cut_off(boxes: Float[Tensor, "P 4"], square: Region, width: int, height: int) -> Bool[Tensor, " P"]:
    """Which boxes end where their square ends and the image goes on: they show a part of somebody.

    Args:
        boxes: x0, y0, x1, y1 in pixels of the image, found in the square.
        square: of `tiles`.
        width: of the image.
        height: of the image.
    """
    near = _NEAR_BORDER * square.side
    low, high = square.centre - square.side / 2.0, square.centre + square.side / 2.0
    before = (boxes[:, :2] < low + near) & (low > near)
    after = (boxes[:, 2:] > high - near) & (high < torch.tensor([width, height]) - near)
    return (before | after).any(dim=1)


def _centres(length: int, side: float) -> list[float]:
    """Of squares along one axis: one in the middle if it covers the image, else from one border to the other."""
    if side >= length:
        return [length / 2.0]
    count = 1 + math.ceil((length - side) / (side * (1.0 - _OVERLAP)))
    return [side / 2.0 + (length - side) * number / (count - 1) for number in range(count)]
