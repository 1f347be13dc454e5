"""Pictures of lifted poses: one file for each pose, and a GIF of a clip."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from noise2pose import skeletons
from noise2pose.files import replacing
from noise2pose.rendering.skeletons import frame_2d, prediction_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SKELETON = "h36m_17"
_DPI, _GIF_DPI = 110, 75
_GIF_FRAMES, _GIF_RATE = 200, 20  # frames at most, frames per second


def picture_names(names: Sequence[str]) -> list[str]:
    """A file name for the picture of each pose, valid on any file system and different from the others."""
    used: list[str] = []
    for pose, name in enumerate(names):
        file_name = re.sub(r"[^\w.#-]+", "_", name)[:100].lstrip(".") or "pose"
        if file_name in used:  # names may differ only in characters that were replaced
            file_name = f"{file_name}_{pose}"
        used.append(file_name)
    return used


def write_pose_pictures(output: Path, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> list[Path]:
    """Writes one picture for each name, which must be those of the first poses; returns the files.

    Args:
        output: folder.
        arrays: `keypoints_2d` and `joints_3d`, and `uncertainty` and `image_size` where known.
        names: of the poses.
    """
    targets = [output / f"{name}.png" for name in picture_names(names)]
    for pose, target in enumerate(targets):
        _figure(arrays, pose, names[pose]).savefig(target, dpi=_DPI)
    return targets


def write_pose_gif(output: Path, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> Path:
    """Writes the poses as a clip on one scale; arguments as `write_pose_pictures`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    chosen = np.linspace(0, len(names) - 1, min(len(names), _GIF_FRAMES)).round().astype(int)
    extent = arrays["joints_3d"].reshape(-1, 3)
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


def _figure(arrays: Mapping[str, np.ndarray], pose: int, title: str, extent: np.ndarray | None = None) -> "Figure":
    def of_pose(key: str) -> np.ndarray | None:
        return arrays[key][pose] if key in arrays else None

    return prediction_figure(
        arrays["keypoints_2d"][pose],
        arrays["joints_3d"][pose],
        skeletons.get(SKELETON),
        uncertainty=of_pose("uncertainty"),
        title=title,
        image_size=of_pose("image_size"),
        extent=extent,
    )
