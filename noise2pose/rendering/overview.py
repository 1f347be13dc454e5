"""One person through all stages in one picture: image, keypoints, lifted skeleton with uncertainty, body."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.typing import ArrayLike

from noise2pose.rendering import meshes
from noise2pose.rendering.skeletons import NEUTRAL, draw_skeleton_2d, draw_skeleton_3d

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from noise2pose.skeletons import Skeleton

_PANEL = 2.6  # inches
_TITLES = ("image", "2-D keypoints", "3-D joints, one standard deviation", "body over the image", "body from the side")


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
    """The stages from an image to a body, side by side.

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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = image.shape[0]
    figure = Figure(figsize=(len(_TITLES) * _PANEL, _PANEL + 0.35), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1, len(_TITLES), left=0, right=1, bottom=0, top=1 - 0.3 / (_PANEL + 0.35), wspace=0.02)
    flat = {
        0: image,
        1: np.uint8(255) - (np.uint8(255) - image) // 3,  # pale, so that the skeleton shows
        3: meshes.overlay(image, vertices, faces, focal, principal_point),
        4: meshes.side_view(vertices, faces, (side, side)),
    }
    for column, title in enumerate(_TITLES):
        if column in flat:
            ax = figure.add_subplot(grid[0, column])
            if column == 1:
                draw_skeleton_2d(ax, keypoints, skeleton)
            ax.imshow(flat[column], extent=(0, side, side, 0))
            ax.set_xlim(0, side)
            ax.set_ylim(side, 0)
            ax.set_axis_off()
        else:
            ax = figure.add_subplot(grid[0, column], projection="3d", computed_zorder=False, facecolor="none")
            draw_skeleton_3d(ax, joints, skeleton, uncertainty=uncertainty)
        ax.set_title(title, color=NEUTRAL, fontsize=10)
    return figure
