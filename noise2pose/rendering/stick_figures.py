"""Skeletons and meshes drawn fast enough for films: no matplotlib, one fixed view for all frames.

Points are levelled: x right, y down, z away from the camera, metres. Left limbs are blue, right limbs vermilion, the
middle purple, as in `noise2pose.rendering.skeletons`.

Shape letters: J joints, V vertices, T triangles, P points, H rows, W columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from jaxtyping import Float, Int, UInt8

from noise2pose.rendering import meshes
from noise2pose.rendering.skeletons import color_of_joint

if TYPE_CHECKING:
    from noise2pose.skeletons import Skeleton

SIDE = 90.0  # degrees to the camera's right
_SUPERSAMPLING = 2
_MARGIN = 0.12  # of the picture, around the people
_BODY = 0.15  # metres that a body is larger than its joints
_FLOOR = "#C8CCD2"
_OPACITY = 60  # of 255, of a disc
_LINE, _DOT = 1 / 110, 1 / 150  # width of a bone and radius of a 2-D joint, in heights of the picture
_FAR = 20.0  # extents that the camera is away, so that depths can be compared
Item = TypeVar("Item")


@dataclass(frozen=True)
class View:
    """A view from one direction that stays the same over a film.

    Attributes:
        rotation: (3, 3) from the levelled frame to one with x right and y down in the picture, z away.
        centre: (3,) what is in the middle of the picture, in that frame.
        extent: metres in x, y and z that are in sight.
    """

    rotation: Float[np.ndarray, "3 3"]
    centre: Float[np.ndarray, " 3"]
    extent: Float[np.ndarray, " 3"]

    @classmethod
    def around(cls, points: Float[np.ndarray, "P 3"], degrees: float) -> "View":
        """The view that shows some points.

        Args:
            points: levelled.
            degrees: how far the viewer stands to the right of the camera; from there, forward is to the right.
        """
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        rotation = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
        turned = points @ rotation.T
        low, high = turned.min(axis=0) - _BODY, turned.max(axis=0) + _BODY
        return cls(rotation, (low + high) / 2.0, high - low)

    def scale(self, size: tuple[int, int]) -> float:
        """Pixels a metre; size is W columns and H rows."""
        return (1.0 - 2.0 * _MARGIN) * min(size[0] / self.extent[0], size[1] / self.extent[1])

    def pixels(self, points: Float[np.ndarray, "P 3"], size: tuple[int, int]) -> Float[np.ndarray, "P 3"]:
        """Places in the picture, and the depth in metres."""
        turned = points @ self.rotation.T - self.centre
        return turned * [self.scale(size), self.scale(size), 1.0] + [size[0] / 2.0, size[1] / 2.0, 0.0]

    def far_to_near(self, items: Sequence[Item], points_of: Callable[[Item], np.ndarray]) -> list[Item]:
        """What is to be drawn, in the order of drawing."""
        return sorted(items, key=lambda item: -float((points_of(item) @ self.rotation.T)[:, 2].mean()))

    def ground(self, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
        """White, with a line at the height of the lowest joint of the film."""
        columns, rows = size
        panel = np.full((rows, columns, 3), 255, dtype=np.uint8)
        line = round(rows / 2.0 + (self.extent[1] / 2.0 - _BODY) * self.scale(size))
        panel[max(line - 1, 0) : line + 1] = _rgb(_FLOOR)
        return panel

    def draw_mesh(
        self, panel: UInt8[np.ndarray, "H W 3"], vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "T 3"]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """A shaded mesh over what is drawn already."""
        rows, columns = panel.shape[:2]
        distance = _FAR * float(self.extent.max())
        turned = vertices @ self.rotation.T - self.centre + [0.0, 0.0, distance]
        focal = self.scale((columns, rows)) * distance
        return meshes.overlay(panel, turned, faces, (focal, focal), (columns / 2.0, rows / 2.0), opacity=1.0)

    def draw_skeletons(
        self,
        panel: UInt8[np.ndarray, "H W 3"],
        people: Sequence[tuple[Float[np.ndarray, "J 3"], Float[np.ndarray, " J"] | None]],
        skeleton: "Skeleton",
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Skeletons over what is drawn already, far limbs first.

        Args:
            panel: RGB.
            people: joints, and the radii in metres of translucent discs around them where they are known.
            skeleton: of the joints.
        """
        from PIL import Image, ImageDraw

        size = (_SUPERSAMPLING * panel.shape[1], _SUPERSAMPLING * panel.shape[0])
        image = Image.fromarray(panel).resize(size, Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(image, "RGBA")
        for joints, radii in people:
            points, scale = self.pixels(joints, size), self.scale(size)
            for joint, radius in enumerate(() if radii is None else radii * scale):
                x, y = points[joint, :2]
                color = (*_rgb(color_of_joint(skeleton.joints[joint])), _OPACITY)
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
            _draw_bones(draw, points, skeleton, _LINE * size[1])
        return np.asarray(image.reduce(_SUPERSAMPLING))


def draw_people_2d(
    picture: UInt8[np.ndarray, "H W 3"],
    people: Sequence[tuple[str, Float[np.ndarray, "J 3"]]],
    skeleton: "Skeleton",
) -> UInt8[np.ndarray, "H W 3"]:
    """An image with the 2-D joints that were seen, their limbs, and names where there are several people.

    Args:
        picture: RGB; it is not changed.
        people: name, and pixels with confidence, of each.
        skeleton: of the joints.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    radius = max(_DOT * picture.shape[0], 2.0)
    for name, joints in people:
        seen = (joints[:, 2] > 0) & np.isfinite(joints).all(axis=1)
        flat = np.where(seen[:, None], np.concatenate((joints[:, :2], np.zeros((len(joints), 1))), axis=1), np.nan)
        _draw_bones(draw, flat, skeleton, radius)
        for joint in np.flatnonzero(seen):
            x, y = joints[joint, :2]
            color = color_of_joint(skeleton.joints[joint])
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color, outline="white")
        if len(people) > 1 and seen.any():
            (left, top), height = np.nanmin(flat[:, :2], axis=0), max(picture.shape[0] // 36, 8)
            font = ImageFont.load_default(height)
            draw.text(
                (left, max(top - 1.5 * height, 0.0)), name, fill="black", font=font, stroke_width=2, stroke_fill="white"
            )
    return np.asarray(image)


def _draw_bones(draw: object, points: np.ndarray, skeleton: "Skeleton", width: float) -> None:
    """Lines between joints with a place, the farthest first."""
    known = [edge for edge in skeleton.edges if np.isfinite(points[list(edge)]).all()]
    for parent, child in sorted(known, key=lambda edge: -float(points[list(edge), 2].mean())):
        ends = [tuple(points[parent, :2]), tuple(points[child, :2])]
        color = color_of_joint(skeleton.joints[child])
        draw.line(ends, fill=color, width=max(round(width), 1))  # pyright: ignore[reportAttributeAccessIssue]


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
