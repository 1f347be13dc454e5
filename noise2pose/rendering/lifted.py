"""People whose joints were lifted: input, prediction and truth side by side, as one picture drawn fast.

Shape letters: P people, J joints, H rows, W columns.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from noise2pose.rendering.stick_figures import View, draw_people_2d

if TYPE_CHECKING:
    from noise2pose.skeletons import Skeleton

_PANEL = 224  # pixels, side of a panel
_BESIDE = 40.0  # degrees beside the camera, where errors in depth show
_MARGIN = 0.1  # around the keypoints, as a share of their larger side
_TITLE = 18  # pixels above the panels


def draw_lifted(
    keypoints: Float[np.ndarray, "P J 3"],
    prediction: Float[np.ndarray, "P J 3"],
    target: Float[np.ndarray, "P J 3"],
    skeleton: "Skeleton",
) -> UInt8[np.ndarray, "H W 3"]:
    """One row a person: the 2-D input, the prediction and the truth from beside the camera, on one scale.

    Args:
        keypoints: pixels and confidence; joints without confidence are left out.
        prediction, target: metres in the camera frame, on one root.
        skeleton: of the joints.

    Returns:
        RGB.
    """
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (3 * _PANEL, _TITLE + len(keypoints) * _PANEL), "white")
    draw = ImageDraw.Draw(picture)
    for column, title in enumerate(("2-D input", "prediction", "truth")):
        draw.text((column * _PANEL + 6, 3), title, fill="#5A626C")
    for row, (points, answer, truth) in enumerate(zip(keypoints, prediction, target, strict=True)):
        top, held = _TITLE + row * _PANEL, np.concatenate([truth, answer])
        held = held[np.isfinite(held).all(axis=1)]
        panels = [_input(points, skeleton)]
        if len(held):
            view = View.around(held, _BESIDE)
            panels += [
                view.draw_skeletons(view.ground((_PANEL, _PANEL)), [(one, None)], skeleton) for one in (answer, truth)
            ]
        for column, panel in enumerate(panels):
            picture.paste(Image.fromarray(panel), (column * _PANEL, top))
    return np.asarray(picture)


def _input(points: Float[np.ndarray, "J 3"], skeleton: "Skeleton") -> UInt8[np.ndarray, "H W 3"]:
    panel = np.full((_PANEL, _PANEL, 3), 255, dtype=np.uint8)
    seen = (points[:, 2] > 0) & np.isfinite(points).all(axis=1)
    if not seen.any():
        return panel
    low, high = points[seen, :2].min(axis=0), points[seen, :2].max(axis=0)
    side = max(float((high - low).max()) * (1 + 2 * _MARGIN), 1.0)
    placed = ((points[:, :2] - (low + high) / 2) / side + 0.5) * _PANEL
    return draw_people_2d(panel, [("", np.concatenate([placed, points[:, 2:]], axis=1))], skeleton)
