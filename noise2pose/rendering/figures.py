"""Figures to look at: a lifted pose, all stages of one person; and clips as GIFs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.typing import ArrayLike

from noise2pose.files import replacing
from noise2pose.rendering import meshes
from noise2pose.rendering.levelling import ASSUMED
from noise2pose.rendering.skeletons import (
    NEUTRAL,
    draw_skeleton_2d,
    draw_skeleton_3d,
    frame_2d,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from noise2pose.skeletons import Skeleton

_PANEL = (2.7, 2.9)  # inches
_DPI, _GIF_DPI = 110, 75
_GIF_FRAMES, _GIF_RATE = 200, 20  # frames at most, frames per second
_STAGE = 2.6  # inches, side of a panel of `overview_figure`
_STAGES = (
    "image",
    "2-D keypoints",
    "3-D joints, one standard deviation",
    "body over the image",
    f"side, {ASSUMED}",
)


def prediction_figure(
    keypoints_2d: ArrayLike,
    joints: ArrayLike,
    skeleton: "Skeleton",
    uncertainty: ArrayLike | None = None,
    title: str = "",
    image_size: ArrayLike | None = None,
    extent: ArrayLike | None = None,
) -> "Figure":
    """One sample, one method: the 2-D input beside the predicted pose with its uncertainty.

    Args:
        keypoints_2d: (J, 2) pixels, or (J, 3) with confidence.
        joints: (J, 3) metres, x right, y down, z forward, root at the origin; in the camera frame or levelled.
        skeleton: of `noise2pose.skeletons`, with J joints.
        uncertainty: (J,) metres, one standard deviation of each joint; drawn as discs and summarised in the caption.
        title: above the pose, of any number of lines.
        image_size: (2,) width and height in pixels.
        extent: as of `draw_skeleton_3d`.

    Returns:
        A figure with a white background; save it with `figure.savefig`.

    Raises:
        ValueError: if an array does not fit the skeleton.
    """
    from matplotlib.figure import Figure

    lines = title.count("\n")  # above one
    heading = 0.3 + 0.17 * lines  # inches
    size = (2 * 1.3 * _PANEL[0], 1.3 * _PANEL[1] + 0.45 + heading)
    figure = Figure(figsize=size, facecolor="white")
    grid = figure.add_gridspec(1, 2, left=0, right=1, bottom=0.45 / size[1], top=1 - heading / size[1], wspace=0)
    draw_skeleton_2d(_panel(figure, grid[0, 0], "2-D input" + "\n" * lines), keypoints_2d, skeleton, image_size)
    ax = _panel(figure, grid[0, 1], title, in_space=True)
    draw_skeleton_3d(ax, joints, skeleton, extent=extent, uncertainty=uncertainty)
    caption = "no uncertainty"
    if uncertainty is not None:
        centimetres = 100.0 * np.asarray(uncertainty, dtype=float)
        most = np.argsort(-centimetres, kind="stable")[:3]
        named = ", ".join(f"{skeleton.joints[joint].replace('_', ' ')} {centimetres[joint]:.1f}" for joint in most)
        caption = f"discs: one standard deviation, on average {centimetres.mean():.1f} cm, most at {named} cm"
    figure.text(0.5, 0.15 / size[1], caption, ha="center", color=NEUTRAL, fontsize=9)
    return figure


def overview_figure(
    image: UInt8[np.ndarray, "S S 3"],
    keypoints: Float[np.ndarray, "J 3"],
    joints: Float[np.ndarray, "J 3"],
    uncertainty: Float[np.ndarray, " J"],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "T 3"],
    focal: ArrayLike,
    principal_point: ArrayLike,
    skeleton: "Skeleton",
) -> "Figure":
    """One person through all stages: image, keypoints, lifted skeleton with uncertainty, body.

    Args:
        image: RGB crop around the person.
        keypoints: pixels of the image, and confidence.
        joints: lifted from the keypoints; metres in the camera frame, root at the origin.
        uncertainty: of the joints, metres, one standard deviation.
        vertices: of the body, metres in the camera frame.
        faces: of the body.
        focal: (2,) pixels of the image.
        principal_point: (2,) pixels of the image.
        skeleton: of the keypoints and the joints.

    Returns:
        A white figure; save it with `figure.savefig`.
    """
    from matplotlib.figure import Figure

    side, height = image.shape[0], _STAGE + 0.35
    figure = Figure(figsize=(len(_STAGES) * _STAGE, height), facecolor="white")
    grid = figure.add_gridspec(1, len(_STAGES), left=0, right=1, bottom=0, top=1 - 0.3 / height, wspace=0.02)
    flat = {
        0: image,
        1: np.uint8(255) - (np.uint8(255) - image) // 3,  # pale, so that the skeleton shows
        3: meshes.overlay(image, vertices, faces, focal, principal_point),
        4: meshes.side_view(vertices, faces, (side, side)),
    }
    for column, title in enumerate(_STAGES):
        ax = _panel(figure, grid[0, column], title, in_space=column not in flat)
        if column not in flat:
            draw_skeleton_3d(ax, joints, skeleton, uncertainty=uncertainty)
            continue
        if column == 1:
            draw_skeleton_2d(ax, keypoints, skeleton)
        ax.imshow(flat[column], extent=(0, side, side, 0))
        ax.set_xlim(0, side)
        ax.set_ylim(side, 0)
        ax.set_axis_off()
    return figure


def picture_names(names: Sequence[str]) -> list[str]:
    """A file name for the picture of each pose, valid on any file system and different from the others."""
    used: list[str] = []
    for pose, name in enumerate(names):
        file_name = re.sub(r"[^\w.#-]+", "_", name)[:100].lstrip(".") or "pose"
        if file_name in used:  # names may differ only in characters that were replaced
            file_name = f"{file_name}_{pose}"
        used.append(file_name)
    return used


def drawn_rows(number: int, most: int, spread: bool) -> list[int]:
    """Which of some poses are drawn: the first ones, or as many at equal distances, such as those of a video."""
    most = max(min(most, number), 0)
    return np.linspace(0, number - 1, most).round().astype(int).tolist() if spread else list(range(most))


def write_pose_pictures(
    output: Path, arrays: Mapping[str, np.ndarray], names: Sequence[str], rows: Sequence[int]
) -> list[Path]:
    """Writes one picture for each of some poses; returns the files.

    Args:
        output: folder.
        arrays: `keypoints_2d` and `joints_3d`, `level_rotation` and `level` (see `levelling.Levels`), and `uncertainty`
            and `image_size` where known.
        names: of all poses.
        rows: of those that are drawn.
    """
    targets = [output / f"{name}.png" for name in picture_names([names[row] for row in rows])]
    for row, target in zip(rows, targets, strict=True):
        _figure(arrays, row, names[row]).savefig(target, dpi=_DPI)
    return targets


def write_pose_gif(output: Path, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> Path:
    """Writes the poses as a clip on one scale; arguments as `write_pose_pictures`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    chosen = np.linspace(0, len(names) - 1, min(len(names), _GIF_FRAMES)).round().astype(int)
    extent = (arrays["joints_3d"] @ arrays["level_rotation"].swapaxes(1, 2)).reshape(-1, 3)
    seen = arrays["keypoints_2d"][arrays["keypoints_2d"][..., 2] > 0][:, :2]
    images = []
    for pose in map(int, chosen):
        figure = _figure(arrays, pose, names[pose], extent)
        figure.set_dpi(_GIF_DPI)
        if len(seen):
            frame_2d(figure.axes[0], seen)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(64))
    path = output / "poses.gif"
    with replacing(path) as partial:
        images[0].save(
            partial, format="GIF", save_all=True, append_images=images[1:], duration=1000 // _GIF_RATE, loop=0
        )
    return path


def _figure(arrays: Mapping[str, np.ndarray], pose: int, name: str, extent: np.ndarray | None = None) -> "Figure":
    from noise2pose import skeletons

    known = {key: arrays[key][pose] for key in ("uncertainty", "image_size") if key in arrays}
    skeleton = skeletons.get("h36m_17")
    keypoints, joints = arrays["keypoints_2d"][pose], arrays["joints_3d"][pose] @ arrays["level_rotation"][pose].T
    level = str(arrays["level"][pose]).replace(" if ", "\nif ")  # on one line, it may be wider than the panel
    return prediction_figure(keypoints, joints, skeleton, title=f"{name}\n{level}", extent=extent, **known)


def _panel(figure: "Figure", cell: Any, title: str, in_space: bool = False) -> Any:
    """Axes with a title; those in space draw in the order that they are told."""
    style = {"projection": "3d", "computed_zorder": False, "facecolor": "none"} if in_space else {}
    ax = figure.add_subplot(cell, **style)
    ax.set_title(title, color=NEUTRAL, fontsize=10)
    return ax
