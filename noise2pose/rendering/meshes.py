"""Shaded pictures of meshes: alone, over a photograph, and from the side.

Cameras are pinholes: x right, y down, z forward, in metres; pixels as in `noise2pose.rendering.rasteriser`.

Shape letters: V vertices, T triangles, H rows, W columns, P pixels that show the mesh.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from numpy.typing import ArrayLike

from noise2pose.rendering.rasteriser import rasterise

_GREY_BLUE = (0.70, 0.77, 0.86)
_PALE = (0.93, 0.93, 0.95)  # of what nobody saw
_LIGHT = (-0.35, -0.55, -0.85)  # from the surface towards the light: above the camera, to its left
_AMBIENT = 0.35
_SUPERSAMPLING = 2  # of pictures for people to look at
_SIDE_MARGIN = 0.06  # of the picture, around the body of `side_view`


class Fragments(NamedTuple):
    """The pixels that a mesh covers.

    Attributes:
        pixel: (P,) numbers in the flattened picture, ascending.
        corners: (P, 3) vertices of the triangle that each pixel shows.
        weights: (P, 3) how much each of them counts.
    """

    pixel: Int[np.ndarray, " P"]
    corners: Int[np.ndarray, "P 3"]
    weights: Float32[np.ndarray, "P 3"]

    def interpolate(self, values: Float[np.ndarray, "V C"]) -> Float[np.ndarray, "P C"]:
        """Values of the vertices, at the pixels."""
        return np.einsum("pk,pkc->pc", self.weights, values[self.corners])


def project_mesh(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "T 3"],
    focal: ArrayLike,
    principal_point: ArrayLike,
    size: tuple[int, int],
) -> Fragments:
    """The triangles of a watertight mesh that pixels show.

    Args:
        vertices: metres in the camera frame.
        faces: corners, counter-clockwise seen from outside.
        focal: (2,) pixels.
        principal_point: (2,) pixels.
        size: W columns and H rows.
    """
    vertices = np.asarray(vertices, dtype=np.float32)
    with np.errstate(all="ignore"):  # the rasteriser leaves out what is not in front of the camera
        pixels = vertices[:, :2] / vertices[:, 2:] * np.asarray(focal, np.float32)
        pixels += np.asarray(principal_point, np.float32)
    pixel, face, weights = rasterise(np.concatenate((pixels, vertices[:, 2:]), axis=1), faces, (size[1], size[0]))
    return Fragments(pixel, faces[face], weights)


def vertex_normals(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "T 3"]) -> Float32[np.ndarray, "V 3"]:
    """Outward unit normals: the mean of the adjoining triangles, weighted by area."""
    vertices = np.asarray(vertices, dtype=np.float32)
    a, b, c = vertices[faces.T]
    u, v = (b - a).T, (c - a).T
    sides = np.stack((u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]))
    corners = faces.T.ravel()
    normals = np.stack([np.bincount(corners, np.tile(side, 3), minlength=len(vertices)) for side in sides], axis=1)
    return (normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-20)).astype(np.float32)


def shade(
    normals: Float[np.ndarray, "P 3"], colour: ArrayLike, light: ArrayLike, ambient: float
) -> Float32[np.ndarray, "P 3"]:
    """Lambert's law: colour times (ambient + (1 - ambient) max(0, normal . light)).

    Args:
        normals: unit length.
        colour: (3,) or (P, 3) RGB in [0, 1].
        light: (3,) direction towards the light, of any length.
        ambient: light from everywhere, as a share.
    """
    direction = np.asarray(light, dtype=np.float32)
    lambert = (normals @ (direction / np.linalg.norm(direction))).clip(0.0)
    return ((ambient + (1.0 - ambient) * lambert)[:, None] * np.asarray(colour, np.float32)).astype(np.float32)


def render_mesh(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "T 3"],
    focal: ArrayLike,
    principal_point: ArrayLike,
    size: tuple[int, int],
    unseen: Bool[np.ndarray, " V"] | None = None,
) -> UInt8[np.ndarray, "H W 4"]:
    """A smoothly shaded picture of a mesh, without anti-aliasing; arguments as of `project_mesh`.

    Args:
        unseen: vertices that are drawn paler; None for none.

    Returns:
        RGBA; alpha is 255 where the mesh is and 0 elsewhere.
    """
    columns, rows = size
    fragments = project_mesh(vertices, faces, focal, principal_point, size)
    picture = np.zeros((rows * columns, 4), dtype=np.uint8)
    normals = fragments.interpolate(vertex_normals(vertices, faces))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    colour = np.array(_GREY_BLUE, dtype=np.float32)
    if unseen is not None:
        colour = fragments.interpolate(np.where(unseen[:, None], np.array(_PALE, dtype=np.float32), colour))
    shaded = shade(normals, colour, _LIGHT, _AMBIENT)
    picture[fragments.pixel, :3] = np.rint(255.0 * shaded.clip(0.0, 1.0))
    picture[fragments.pixel, 3] = 255
    return picture.reshape(rows, columns, 4)


def overlay(
    photo: UInt8[np.ndarray, "H W 3"],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "T 3"],
    focal: ArrayLike,
    principal_point: ArrayLike,
    opacity: float = 0.9,
    unseen: Bool[np.ndarray, " V"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """A mesh over the photograph that it was found in, with smooth edges.

    Args:
        photo: RGB; it is not changed.
        vertices, faces, focal, principal_point: as of `project_mesh`, in pixels of the photograph.
        opacity: 0 shows the photograph alone, 1 hides it behind the mesh.
        unseen: vertices that are drawn paler; None for none.
    """
    rows, columns = photo.shape[:2]
    picture = photo.copy()
    box = _sight(vertices, focal, principal_point, (columns, rows))
    if box is None:
        return picture
    left, top, right, bottom = box
    factor = _SUPERSAMPLING
    corner = np.array([left, top], dtype=np.float32)
    mesh = render_mesh(
        vertices,
        faces,
        factor * np.asarray(focal, np.float32),
        factor * (np.asarray(principal_point, np.float32) - corner),
        (factor * (right - left), factor * (bottom - top)),
        unseen,
    )
    # The colour of a pixel without mesh is zero, so the sums of colours are weighted by alpha as they are.
    sums = mesh.reshape(bottom - top, factor, right - left, factor, 4).sum(axis=(1, 3), dtype=np.uint16)
    share = sums[..., 3:].astype(np.float32) * np.float32(opacity / (255.0 * factor**2))
    colours = sums[..., :3].astype(np.float32) * np.float32(opacity / factor**2)
    picture[top:bottom, left:right] = np.rint(colours + (1.0 - share) * photo[top:bottom, left:right])
    return picture


def side_view(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "T 3"],
    size: tuple[int, int],
    unseen: Bool[np.ndarray, " V"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """The mesh from 90 degrees to the camera's right, on white: what the camera sees nearest is at the left.

    The picture is framed around the mesh and almost without perspective, so that depths can be compared.

    Args:
        vertices, faces: as of `project_mesh`.
        size: W columns and H rows.
        unseen: vertices that are drawn paler; None for none.
    """
    columns, rows = size
    points = np.asarray(vertices, dtype=np.float32)
    # From the right, forward is to the right of the picture and right is towards its viewer.
    turned = np.stack((points[:, 2], points[:, 1], -points[:, 0]), axis=1)
    low, high = turned.min(axis=0), turned.max(axis=0)
    extent = (high - low).clip(1e-6)
    distance = 20.0 * float(extent.max())
    turned -= (low + high) / 2.0
    turned[:, 2] += distance
    focal = (1.0 - 2.0 * _SIDE_MARGIN) * min(columns / extent[0], rows / extent[1]) * (distance - extent[2] / 2.0)
    white = np.full((rows, columns, 3), 255, dtype=np.uint8)
    centre = (columns / 2.0, rows / 2.0)
    return overlay(white, turned, faces, (focal, focal), centre, opacity=1.0, unseen=unseen)


def _sight(
    vertices: np.ndarray, focal: ArrayLike, principal_point: ArrayLike, size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the part of the picture that a mesh may cover; None if there is none."""
    ahead = vertices[vertices[:, 2] > 1e-3]
    if not len(ahead):
        return None
    pixels = ahead[:, :2] / ahead[:, 2:] * np.asarray(focal) + np.asarray(principal_point)
    low = np.floor(pixels.min(axis=0).clip(0, size)).astype(int)
    high = np.ceil(pixels.max(axis=0).clip(0, size)).astype(int)
    if (low >= high).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
