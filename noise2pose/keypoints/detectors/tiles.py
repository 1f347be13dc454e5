"""Squares at several scales that cover an image, for a detector that sees only people who are large in its input."""

import math

import torch

from noise2pose.keypoints.detectors.contract import Region

_OVERLAP = 0.4  # of a square's side, with its neighbour
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


def _centres(length: int, side: float) -> list[float]:
    """Of squares along one axis: one in the middle if it covers the image, else from one border to the other."""
    if side >= length:
        return [length / 2.0]
    count = 1 + math.ceil((length - side) / (side * (1.0 - _OVERLAP)))
    return [side / 2.0 + (length - side) * number / (count - 1) for number in range(count)]
