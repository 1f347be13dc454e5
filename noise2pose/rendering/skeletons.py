"""Skeletons drawn with matplotlib's object interface: no display, no global state, no backend to choose.

Left limbs are blue, right limbs vermilion, the middle purple (after Okabe and Ito, told apart with every common colour
blindness). Lines and text keep their contrast on white and on dark paper.
Shape letters: J joints.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mpl_toolkits.mplot3d import Axes3D

    from noise2pose.skeletons import Skeleton

LEFT, RIGHT, MIDDLE, NEUTRAL = "#0072B2", "#D55E00", "#AA5FA0", "#7F858D"
_ELEVATION, _AZIMUTH = 12.0, -50.0  # degrees; 40 beside the camera, so that errors in depth show
FLOOR = (-0.5, 0.0, 0.5)  # metres; lines of the floor around its middle, which also show the scale
MARGIN = 0.12  # around a person, as a share of their size


def color_of_joint(name: str) -> str:
    """The colour of a joint's side."""
    return LEFT if name.startswith("left_") else RIGHT if name.startswith("right_") else MIDDLE


def draw_skeleton_2d(
    ax: "Axes", keypoints: ArrayLike, skeleton: "Skeleton", image_size: ArrayLike | None = None
) -> None:
    """Draws keypoints as the image shows them, y down, framed around the person.

    Joints with zero confidence or without a finite position are left out, and so are their limbs.

    Args:
        ax: two-dimensional axes.
        keypoints: (J, 2) pixels, or (J, 3) with confidence.
        skeleton: of `noise2pose.skeletons`, with J joints.
        image_size: (2,) width and height in pixels; draws the border of the image where it is in sight.

    Raises:
        ValueError: if `keypoints` does not fit the skeleton.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    points = checked_pose(keypoints, skeleton, (2, 3))
    seen = np.logical_and(np.isfinite(points).all(axis=1), (points[:, 2:] > 0).all(axis=1))
    points = np.where(seen[:, None], points, np.nan)[:, :2]
    for color, edges in edges_by_side(skeleton):
        drawn = [edge for edge in edges if seen[list(edge)].all()]
        ax.add_collection(
            LineCollection([points[list(edge)] for edge in drawn], colors=color, linewidths=2.2, capstyle="round")
        )
    ax.plot(*points.T, "o", color=NEUTRAL, markersize=2.6)
    if image_size is not None:
        width, height = np.asarray(image_size, dtype=float)
        ax.add_patch(Rectangle((0, 0), width, height, fill=False, edgecolor=NEUTRAL, linewidth=0.8, linestyle=":"))
    if seen.any():
        frame_2d(ax, points[seen])
    ax.set_aspect("equal")
    ax.set_axis_off()


def frame_2d(ax: "Axes", points: np.ndarray) -> None:
    """Frames (K, 2) pixels, y down; for pictures that share one frame."""
    low, high = points.min(axis=0), points.max(axis=0)
    centre, half = (low + high) / 2, max((high - low).max() * (0.5 + MARGIN), 1.0)
    ax.set_xlim(centre[0] - half, centre[0] + half)
    ax.set_ylim(centre[1] + half, centre[1] - half)


def draw_skeleton_3d(
    ax: "Axes3D",
    joints: ArrayLike,
    skeleton: "Skeleton",
    extent: ArrayLike | None = None,
    uncertainty: ArrayLike | None = None,
) -> None:
    """Draws a pose upright above a floor of one square metre, seen from beside the camera, with equal axes.

    Args:
        ax: three-dimensional axes; may hold other poses already.
        joints: (J, 3) metres in the camera frame (x right, y down, z forward).
        skeleton: of `noise2pose.skeletons`, with J joints.
        extent: (K, 3) points that the picture must hold, so that several pictures share one scale; default the joints.
        uncertainty: (J,) metres, the radius of a translucent disc around each joint; not finite for a joint without.

    Raises:
        ValueError: if `joints` or `uncertainty` does not fit the skeleton.
    """
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    points = upright(checked_pose(joints, skeleton, (3,)))
    for color, edges in edges_by_side(skeleton):
        lines = [points[list(edge)] for edge in edges if np.isfinite(points[list(edge)]).all()]
        ax.add_collection3d(
            Line3DCollection(lines, capstyle="round", zorder=3, colors=color, linewidths=2.2), autolim=False
        )
    if uncertainty is not None:
        _draw_discs(ax, points, np.asarray(uncertainty, dtype=float), skeleton)
    _set_stage(ax, points if extent is None else upright(np.asarray(extent, dtype=float)))


def _draw_discs(ax: "Axes3D", points: np.ndarray, radii: np.ndarray, skeleton: "Skeleton") -> None:
    """Discs that face the viewer, in metres, in the colours of the limbs that end at the joints."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    if radii.shape != (len(points),):
        raise ValueError(f"an uncertainty of shape {radii.shape} cannot be drawn, expected ({len(points)},)")
    right, up = view_axes()
    angles = np.linspace(0.0, 2.0 * np.pi, 32, endpoint=False)[:, None]
    circle = np.cos(angles) * right + np.sin(angles) * up
    color_of = {child: color for color, edges in edges_by_side(skeleton) for _, child in edges}
    drawn = [joint for joint in range(len(points)) if np.isfinite(radii[joint]) and np.isfinite(points[joint]).all()]
    discs = [points[joint] + radii[joint] * circle for joint in drawn]
    colors = [color_of.get(joint, MIDDLE) for joint in drawn]
    ax.add_collection3d(
        Poly3DCollection(discs, facecolors=colors, edgecolors="none", alpha=0.22, zorder=2), autolim=False
    )


def view_axes() -> np.ndarray:
    """(2, 3) what is to the right and what is up in the picture, in the frame of `upright`."""
    elevation, azimuth = np.radians((_ELEVATION, _AZIMUTH))
    right = (-np.sin(azimuth), np.cos(azimuth), 0.0)
    up = (-np.sin(elevation) * np.cos(azimuth), -np.sin(elevation) * np.sin(azimuth), np.cos(elevation))
    return np.array((right, up))


def checked_pose(values: ArrayLike, skeleton: "Skeleton", dims: tuple[int, ...]) -> np.ndarray:
    """A pose as an array.

    Raises:
        ValueError: if it does not fit the skeleton, or has other numbers of coordinates than `dims`.
    """
    points = np.asarray(values, dtype=float)
    if points.ndim != 2 or len(points) != len(skeleton.joints) or points.shape[1] not in dims:
        wanted = " or ".join(f"({len(skeleton.joints)}, {dim})" for dim in dims)
        raise ValueError(f"a pose of shape {points.shape} cannot be drawn as this skeleton, expected {wanted}")
    return points


def edges_by_side(skeleton: "Skeleton") -> list[tuple[str, list[tuple[int, int]]]]:
    """The limbs of the middle, the left and the right, each with its colour."""
    left = {pair[0] for pair in skeleton.pairs}
    right = {pair[1] for pair in skeleton.pairs}
    sides: dict[str, list[tuple[int, int]]] = {MIDDLE: [], LEFT: [], RIGHT: []}
    for a, b in skeleton.edges:
        color = LEFT if {a, b} & left else RIGHT if {a, b} & right else MIDDLE
        sides[color].append((int(a), int(b)))
    return list(sides.items())


def upright(points: np.ndarray) -> np.ndarray:
    """From the camera frame (y down, z forward) to the frame of the plot (z up)."""
    return np.stack((points[..., 0], points[..., 2], -points[..., 1]), axis=-1)


def _set_stage(ax: "Axes3D", points: np.ndarray) -> None:
    """Limits with equal axes around the points, and a floor below them."""
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    points = points[np.isfinite(points).all(axis=1)] if np.isfinite(points).any() else np.zeros((1, 3))
    low, high = points.min(axis=0), points.max(axis=0)
    centre, half = (low + high) / 2, (high - low).max() * (0.5 + MARGIN)
    half = half if half > 0 else 1.0
    for axis, middle in zip("xyz", centre, strict=True):
        getattr(ax, f"set_{axis}lim")(middle - half, middle + half)
    (x, y), (start, *_, end) = centre[:2], FLOOR
    lines = [[(x + start, y + step, low[2]), (x + end, y + step, low[2])] for step in FLOOR]
    lines += [[(x + step, y + start, low[2]), (x + step, y + end, low[2])] for step in FLOOR]
    floor = Line3DCollection(lines, colors=NEUTRAL, linewidths=0.6, alpha=0.6, zorder=1)
    ax.add_collection3d(floor, autolim=False)
    ax.set_box_aspect((1, 1, 1), zoom=1.75)  # pyright: ignore[reportArgumentType]
    ax.set_proj_type("ortho")
    ax.view_init(elev=_ELEVATION, azim=_AZIMUTH)
    ax.set_axis_off()
