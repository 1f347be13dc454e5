"""The two condition maps: inverse depth, and keypoints as OpenPose draws them.

Points are in pixels, y down; pixel (row r, column c) is the square [c, c + 1] x [r, r + 1].

Shape letters: H rows, W columns, J points.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

# OpenPose's limbs by the numbers of its 18 points, in the order in which they are drawn and coloured.
LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
_RADIUS, _HALF_WIDTH = 4.0, 4.0  # of discs and limbs in images of 512 pixels
_HAND_RADIUS, _HAND_HALF_WIDTH, _FACE_RADIUS = 4.0, 1.0, 3.0
_BLUE, _WHITE = (0.0, 0.0, 255.0), (255.0, 255.0, 255.0)
_LIMB_SHARE = 0.6  # of a limb's colour over what is under it
_NOMINAL = 512.0


class Marks(NamedTuple):
    """Points that are drawn besides those of the body.

    Attributes:
        points: (J, 2) pixels.
        drawn: (J,) which of them.
    """

    points: Float[np.ndarray, "J 2"]
    drawn: Bool[np.ndarray, " J"]


def draw_depth(depth: Float[np.ndarray, "H W"], floor: float = 0.2, invert: bool = False) -> UInt8[np.ndarray, "H W"]:
    """Inverse depth as a brightness: near is white, as the depth networks have it that ControlNets were trained with.

    Args:
        depth: metres along the camera's axis; infinite where nothing is.
        floor: brightness of the farthest point, which sets far limbs apart from the background.
        invert: near is dark instead; the background stays black.

    Returns:
        255 at the nearest point, 255 times `floor` at the farthest, 0 where nothing is.
    """
    shown = np.isfinite(depth)
    picture = np.zeros(depth.shape, dtype=np.uint8)
    if not shown.any():
        return picture
    inverse = 1.0 / depth[shown]
    low, high = inverse.min(), inverse.max()
    share = (inverse - low) / (high - low) if high > low else np.ones_like(inverse)
    share = 1.0 - share if invert else share
    picture[shown] = np.rint(255.0 * (floor + (1.0 - floor) * share))
    return picture


@cache
def hues(number: int) -> Float32[np.ndarray, "number 3"]:
    """RGB from 0 to 255, evenly around the colour wheel from red."""
    turns = np.arange(number) / number * 6.0
    ramps = [np.abs((turns + shift) % 6.0 - 3.0) - 1.0 for shift in (0.0, 4.0, 2.0)]
    return (255.0 * np.stack(ramps, axis=1).clip(0.0, 1.0)).astype(np.float32)


def draw_keypoints(
    points: Float[np.ndarray, "18 2"],
    drawn: Bool[np.ndarray, " 18"],
    size: tuple[int, int],
    stroke_scale: float = 1.0,
    hands: Marks | None = None,
    face: Marks | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """OpenPose's drawing of a person on black: a disc at each point, and over them an ellipse for each limb.

    Args:
        points: of `openpose_18`.
        drawn: which of them; a limb needs both of its ends.
        size: W columns and H rows.
        stroke_scale: of radius and width, which grow with the image besides.
        hands: 42 points, the left hand's first; blue, with lines between them in the colours of the wheel.
        face: landmarks of the face; white.
    """
    columns, rows = size
    canvas = np.zeros((rows, columns, 3), dtype=np.float32)
    scale = stroke_scale * max(rows, columns) / _NOMINAL
    colours = hues(18)
    for point in np.flatnonzero(drawn):
        radius = _RADIUS * scale
        _fill(canvas, points[point], (radius, radius), 0.0, colours[point], 1.0)
    for limb, ends in enumerate(LIMBS):
        if drawn[list(ends)].all():
            _draw_limb(canvas, points[list(ends)], _HALF_WIDTH * scale, colours[limb], _LIMB_SHARE)
    if hands is not None:
        _draw_hands(canvas, hands, scale)
    if face is not None:
        for point in face.points[face.drawn]:
            _fill(canvas, point, (_FACE_RADIUS * scale, _FACE_RADIUS * scale), 0.0, np.array(_WHITE), 1.0)
    return np.rint(canvas).astype(np.uint8)


def _draw_hands(canvas: np.ndarray, hands: Marks, scale: float) -> None:
    for edge, colour in enumerate(hues(20)):
        start = 0 if edge % 4 == 0 else edge  # each finger begins at the wrist
        for wrist in (0, 21):
            ends = [wrist + start, wrist + edge + 1]
            if hands.drawn[ends].all():
                _draw_limb(canvas, hands.points[ends], _HAND_HALF_WIDTH * scale, colour, 1.0)
    for point in hands.points[hands.drawn]:
        _fill(canvas, point, (_HAND_RADIUS * scale, _HAND_RADIUS * scale), 0.0, np.array(_BLUE), 1.0)


def _draw_limb(canvas: np.ndarray, ends: np.ndarray, half_width: float, colour: np.ndarray, share: float) -> None:
    """Blends an ellipse from one point to another into the canvas."""
    along = ends[1] - ends[0]
    half = (max(float(np.hypot(*along)) / 2.0, 0.5), half_width)
    _fill(canvas, ends.mean(axis=0), half, math.atan2(along[1], along[0]), colour, share)


def gaussians(
    points: Float[np.ndarray, "J 2"], shown: Bool[np.ndarray, " J"], size: int, side: int, sigma: float
) -> Float32[np.ndarray, "J side side"]:
    """A Gaussian of height 1 for each point that is shown.

    Args:
        points: pixels of the image.
        shown: which points; the maps of the others are zero.
        size: pixels of a side of the image.
        side: cells of a side of the maps.
        sigma: cells.
    """
    centres = np.arange(side) + 0.5
    cells = points * side / size
    x, y = (np.exp(-((centres - cells[:, axis, None]) ** 2) / (2.0 * sigma**2)) for axis in (0, 1))
    return (y[:, :, None] * x[:, None, :] * shown[:, None, None]).astype(np.float32)


def _fill(
    canvas: np.ndarray, centre: np.ndarray, half: tuple[float, float], angle: float, colour: np.ndarray, share: float
) -> None:
    """Blends a filled ellipse into the canvas.

    Args:
        canvas: (H, W, 3), changed in place.
        centre: pixels.
        half: its two half axes, pixels.
        angle: of the first, radians.
        colour: 0 to 255.
        share: of the colour, over what is under it.
    """
    rows, columns = canvas.shape[:2]
    cos, sin = math.cos(angle), math.sin(angle)
    reach_x = math.hypot(half[0] * cos, half[1] * sin)
    reach_y = math.hypot(half[0] * sin, half[1] * cos)
    left, right = max(math.floor(centre[0] - reach_x), 0), min(math.ceil(centre[0] + reach_x) + 1, columns)
    top, bottom = max(math.floor(centre[1] - reach_y), 0), min(math.ceil(centre[1] + reach_y) + 1, rows)
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right) + 0.5 - centre[0]
    y = (np.arange(top, bottom) + 0.5 - centre[1])[:, None]
    covered = ((x * cos + y * sin) / half[0]) ** 2 + ((y * cos - x * sin) / half[1]) ** 2 <= 1.0
    part = canvas[top:bottom, left:right]
    part[covered] += share * (colour - part[covered])
