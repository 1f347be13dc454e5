"""Skeletons as elements of an SVG, with the colours and the view of `noise2pose.rendering.skeletons`.

Shape letters: J joints, K points.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from noise2pose.rendering.skeletons import FLOOR, MARGIN, NEUTRAL, checked_pose, edges_by_side, upright, view_axes

if TYPE_CHECKING:
    from noise2pose.skeletons import Skeleton

SIDE = 200  # of the square that each drawing fills
_ZOOM = 0.92  # of what is in sight, which is a ball around the person


def keypoints_svg(keypoints: ArrayLike, skeleton: "Skeleton", image_size: ArrayLike | None = None) -> list[str]:
    """Keypoints as the image shows them, framed around the person.

    Joints with zero confidence or without a finite position are left out, and so are their limbs.

    Args:
        keypoints: (J, 2) pixels, or (J, 3) with confidence.
        skeleton: of the joints.
        image_size: (2,) width and height in pixels; draws the border of the image where it is in sight.

    Returns:
        Elements in a square of `SIDE`.

    Raises:
        ValueError: if `keypoints` does not fit the skeleton.
    """
    points = checked_pose(keypoints, skeleton, (2, 3))
    seen: Any = np.isfinite(points).all(axis=1) & (points[:, 2:] > 0).all(axis=1)
    if not seen.any():
        return []
    shown = points[seen, :2]
    low, high = shown.min(axis=0), shown.max(axis=0)
    half = max((high - low).max() * (0.5 + MARGIN), 1.0)
    scale, middle = SIDE / (2 * half), (low + high) / 2

    def place(values: np.ndarray) -> np.ndarray:
        return (values - middle) * scale + SIDE / 2

    parts = []
    if image_size is not None:
        corner = place(np.zeros(2)), np.asarray(image_size, dtype=float) * scale
        (x, y), (width, height) = corner
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" fill="none" stroke="{NEUTRAL}" '
            'stroke-width=".8" stroke-dasharray="1 3"/>'
        )
    parts += _limbs(place(np.where(seen[:, None], points[:, :2], np.nan)), skeleton)
    dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in place(shown))
    return [*parts, f'<path d="{dots}" stroke="{NEUTRAL}" stroke-width="3.6" stroke-linecap="round"/>']


def poses_svg(target: ArrayLike, prediction: ArrayLike, skeleton: "Skeleton", extent: ArrayLike) -> list[str]:
    """A prediction over the ground truth, a wide grey shadow, above a floor of one square metre.

    Args:
        target, prediction: (J, 3) metres in the camera frame, on one root.
        skeleton: of the joints.
        extent: (K, 3) points that the drawing must hold, so that several share one scale.

    Returns:
        Elements in a square of `SIDE`.

    Raises:
        ValueError: if a pose does not fit the skeleton.
    """
    target, prediction = (checked_pose(pose, skeleton, (3,)) for pose in (target, prediction))
    held = upright(np.asarray(extent, dtype=float))
    held = held[np.isfinite(held).all(axis=1)] if np.isfinite(held).any() else np.zeros((1, 3))
    low, high = held.min(axis=0), held.max(axis=0)
    axes, middle, half = view_axes(), (low + high) / 2, (high - low).max() * (0.5 + MARGIN) or 1.0
    scale = _ZOOM * SIDE / (2 * half)

    def place(points: np.ndarray) -> np.ndarray:
        return (points - middle) @ axes.T * [scale, -scale] + SIDE / 2

    (x, y), start, end = middle[:2], FLOOR[0], FLOOR[-1]
    ends = [((x + start, y + step), (x + end, y + step)) for step in FLOOR]
    ends += [((x + step, y + start), (x + step, y + end)) for step in FLOOR]
    floor = "".join(_path(place(np.array([[*a, low[2]], [*b, low[2]]]))) for a, b in ends)
    parts = [f'<path d="{floor}" stroke="{NEUTRAL}" stroke-width=".6" opacity=".6" fill="none"/>']
    shadow = "".join(_bones(place(upright(target)), [edge for _, edges in edges_by_side(skeleton) for edge in edges]))
    parts.append(
        f'<path d="{shadow}" stroke="{NEUTRAL}" stroke-width="6.5" opacity=".38" fill="none" stroke-linecap="round"/>'
    )
    return parts + _limbs(place(upright(prediction)), skeleton)


def _limbs(points: np.ndarray, skeleton: "Skeleton") -> list[str]:
    style = 'stroke-width="2.6" fill="none" stroke-linecap="round"'
    drawn = ((color, "".join(_bones(points, edges))) for color, edges in edges_by_side(skeleton))
    return [f'<path d="{path}" stroke="{color}" {style}/>' for color, path in drawn if path]


def _bones(points: np.ndarray, edges: Sequence[tuple[int, int]]) -> list[str]:
    return [_path(points[list(edge)]) for edge in edges if np.isfinite(points[list(edge)]).all()]


def _path(points: np.ndarray) -> str:
    (ax, ay), (bx, by) = points
    return f"M{ax:.1f} {ay:.1f}L{bx:.1f} {by:.1f}"
