"""Images of people whose pose is known: clothes, light, background, and what stands in front.

Everything but the pose is a pure function of the sample's key and a seed. What stands in front of a person is known
without rendering, so that a simulated detector knows which joints are hidden.

Shape letters: B people, J joints, K objects in front of one person, P points, S side of the image.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageFilter
from torch import Tensor

from datamodules.rendered.backgrounds import background, texture
from datamodules.rendered.clothes import Surface, clothes, wear
from noise2pose import keyed_random
from noise2pose.rendering.meshes import project_mesh, shade, vertex_normals

MAX_OCCLUDERS = 3
_SECOND, _THIRD = 0.4, 0.12  # of the images with something in front: share with at least two, with three
_HALF_SIZE = (0.04, 0.17)  # of the image's side
_STREAM = 220  # of keyed_random


class Occluders(NamedTuple):
    """Rectangles and ellipses in front of people, in crop coordinates: 0 to 1 from border to border.

    Attributes:
        present: (B, K) whether this one is there.
        round: (B, K) an ellipse instead of a rectangle.
        centre: (B, K, 2).
        half_size: (B, K, 2) along the object's own axes.
        angle: (B, K) of the first axis, radians.
    """

    present: Bool[Tensor, "B K"]
    round: Bool[Tensor, "B K"]
    centre: Float[Tensor, "B K 2"]
    half_size: Float[Tensor, "B K 2"]
    angle: Float[Tensor, "B K"]

    def contain(self, points: Float[Tensor, "B P 2"]) -> Bool[Tensor, "B P K"]:
        """Which objects are in front of which points."""
        offset = points[:, :, None] - self.centre[:, None]
        cos, sin = self.angle.cos()[:, None], self.angle.sin()[:, None]
        x, y = offset.unbind(-1)
        own = torch.stack((cos * x + sin * y, cos * y - sin * x), dim=-1) / self.half_size[:, None]
        square = own.square()
        reach = torch.where(self.round[:, None], square.sum(dim=-1), square.amax(dim=-1))
        return (reach <= 1.0) & self.present[:, None]


class Lens(NamedTuple):
    """The camera of a square crop, in pixels of the crop.

    Attributes:
        focal: (2,).
        principal_point: (2,).
        frame: left, top, right and bottom of the whole image; what is outside is black.
    """

    focal: np.ndarray
    principal_point: np.ndarray
    frame: tuple[float, float, float, float]


def occluders(keys: Int[Tensor, " B"], seed: int, probability: float) -> Occluders:
    """Draws what stands in front of people.

    Args:
        keys: of `keyed_random`.
        seed: of the images.
        probability: share of the images with one to three objects in front.
    """
    uniform = keyed_random.uniform(keys, (MAX_OCCLUDERS, 7), stream=_STREAM, seed=seed)
    needed = torch.tensor([1.0, _SECOND, _THIRD], device=keys.device) * probability
    low, high = _HALF_SIZE
    return Occluders(
        present=uniform[:, :1, 0] < needed,
        round=uniform[..., 1] < 0.4,
        centre=0.05 + 0.9 * uniform[..., 2:4],
        half_size=low + (high - low) * uniform[..., 4:6],
        angle=torch.pi * uniform[..., 6],
    )


def covered(
    points: Float[Tensor, "B J 2"], keys: Int[Tensor, " B"], seed: int, probability: float
) -> Bool[Tensor, "B J"]:
    """Which points an object in front hides.

    Args:
        points: crop coordinates, 0 to 1 from border to border: (pixel - box centre) / box side + 1/2.
        keys, seed, probability: those of the images.
    """
    return occluders(keys, seed, probability).contain(points).any(dim=-1)


def render_scene(
    on: Surface,
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "T 3"],
    lens: Lens,
    in_front: Occluders,
    *,
    size: int,
    key: int,
    seed: int,
    photos: list[Path],
) -> UInt8[np.ndarray, "S S 3"]:
    """An image of one person.

    Args:
        on: the body's rest pose.
        vertices: metres in the camera frame.
        faces: corners, counter-clockwise seen from outside.
        lens: of the crop.
        in_front: of this person, B = 1.
        size: S.
        key: of `keyed_random`.
        seed: of the images.
        photos: for backgrounds, see `background`.

    Raises:
        InputError: if a photograph cannot be read.
    """
    generator = np.random.default_rng((key, seed % (1 << 64)))
    image = background(size, generator, photos)
    _draw_person(image, on, vertices, faces, lens, generator)
    _draw_occluders(image, in_front, generator)
    image = _expose(image, generator)
    left, top, right, bottom = lens.frame
    centres = np.arange(size) + 0.5
    image[(centres < top) | (centres > bottom)] = 0
    image[:, (centres < left) | (centres > right)] = 0
    return image


def _draw_person(
    image: np.ndarray,
    on: Surface,
    vertices: np.ndarray,
    faces: np.ndarray,
    lens: Lens,
    generator: np.random.Generator,
) -> None:
    """Draws the person into the image (S, S, 3), with softened outlines."""
    size = len(image)
    worn = clothes(on, generator)
    light = generator.normal(size=3) * (0.8, 0.5, 0.5) + (0.0, -0.6, -0.7)  # mostly from above and the camera's side
    tint = generator.uniform(0.9, 1.45) * (1.0 + 0.06 * generator.normal(size=3))
    ambient = float(generator.uniform(0.3, 0.7))
    fragments = project_mesh(vertices, faces, lens.focal, lens.principal_point, (size, size))
    if not len(fragments.pixel):
        return
    nearest = fragments.corners[np.arange(len(fragments.pixel)), fragments.weights.argmax(axis=1)]
    attributes = fragments.interpolate(np.concatenate((vertex_normals(vertices, faces), on.points), axis=1))
    normals, points = attributes[:, :3], attributes[:, 3:]
    colours, tilt = wear(on, worn, points, on.part[nearest])
    normals = normals + tilt
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    shaded = shade(normals, colours * tint, light, ambient)
    pixels = image.reshape(-1, 3)
    pixels[fragments.pixel] = np.rint(255.0 * shaded.clip(0.0, 1.0))
    mask = np.zeros(size * size, dtype=bool)
    mask[fragments.pixel] = True
    _soften(image, mask.reshape(size, size))


def _soften(image: np.ndarray, mask: np.ndarray) -> None:
    """Averages pixels along the outline of a mask with their neighbours: edges in photographs are not steps."""
    change = np.zeros_like(mask)
    for axis in (0, 1):
        step = np.diff(mask, axis=axis)
        change[(slice(1, None),) if axis == 0 else (slice(None), slice(1, None))] |= step
        change[(slice(None, -1),) if axis == 0 else (slice(None), slice(None, -1))] |= step
    row, column = np.nonzero(change)
    last = len(mask) - 1
    total = 4.0 * image[row, column].astype(np.float32)
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        total += image[(row + down).clip(0, last), (column + right).clip(0, last)]
    image[row, column] = np.rint(total / 8.0)


def _draw_occluders(image: np.ndarray, in_front: Occluders, generator: np.random.Generator) -> None:
    count = int(in_front.present.sum())
    if not count:
        return
    in_front = Occluders(*(values[:, :count] for values in in_front))  # the objects that are present come first
    size = len(image)
    centres = (torch.arange(size) + 0.5) / size
    grid = torch.stack((centres.expand(size, size), centres[:, None].expand(size, size)), dim=-1)
    contained = in_front.contain(grid.reshape(1, -1, 2))[0].numpy()
    pixels = image.reshape(-1, 3)
    for number in range(count):
        inside = np.flatnonzero(contained[:, number])
        if generator.uniform() < 0.4:
            pixels[inside] = generator.integers(0, 256, 3)
        else:
            pixels[inside] = np.asarray(texture(size, generator)).reshape(-1, 3)[inside]


def _expose(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Blur, brightness, contrast and noise of a camera."""
    if generator.uniform() < 0.6:
        radius = float(generator.uniform(0.3, 1.1))
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
    contrast, brightness = generator.uniform(0.75, 1.2), generator.uniform(-18, 18)
    exposed = image * np.float32(contrast)
    exposed += np.float32(128.0 * (1.0 - contrast) + brightness)
    sigma = generator.uniform(0.5, 7.0)
    exposed += np.float32(sigma) * generator.standard_normal(image.shape, dtype=np.float32)
    return np.rint(exposed.clip(0.0, 255.0)).astype(np.uint8)
