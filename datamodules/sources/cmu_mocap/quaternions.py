"""Unit quaternions (w, x, y, z) in NumPy, for commands that should not pay for importing torch.

The kit's rotations are `roma`'s; nothing here is meant for a model.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def multiply(left: Array, right: Array) -> Array:
    """(..., 4): the rotation `right` followed by the rotation `left`."""
    a, b, c, d = np.moveaxis(left, -1, 0)
    w, x, y, z = np.moveaxis(right, -1, 0)
    product = (
        a * w - b * x - c * y - d * z,
        a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x,
        a * z + b * y - c * x + d * w,
    )
    return np.stack(product, axis=-1)


def conjugate(quaternion: Array) -> Array:
    """(..., 4): the inverse rotation."""
    return quaternion * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(quaternion: Array, vector: Array) -> Array:
    """(..., 3): the vectors after the rotation."""
    twice = 2.0 * np.cross(quaternion[..., 1:], vector)
    return vector + quaternion[..., :1] * twice + np.cross(quaternion[..., 1:], twice)


def from_euler(angles: Array, axes: str) -> Array:
    """Turns about fixed coordinate axes one after the other, the first letter first: "xyz" is Rz Ry Rx.

    Args:
        angles: (..., n) radians.
        axes: n letters out of x, y, z.

    Returns:
        (..., 4).
    """
    result = np.zeros((*angles.shape[:-1], 4))
    result[..., 0] = 1.0
    for number, axis in enumerate(axes):
        turn = np.zeros_like(result)
        half = angles[..., number] / 2.0
        turn[..., 0], turn[..., 1 + "xyz".index(axis)] = np.cos(half), np.sin(half)
        result = multiply(turn, result)
    return result


def between(start: Array, end: Array) -> Array:
    """(4,): the smallest rotation from one direction (3,) to another, which must not be its opposite."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    quaternion = np.concatenate(([1.0 + start @ end], np.cross(start, end)))
    return quaternion / np.linalg.norm(quaternion)


def slerp(start: Array, end: Array, share: Array) -> Array:
    """Spherical interpolation along the shorter arc (Shoemake, "Animating rotation with quaternion curves", 1985).

    Args:
        start, end: (..., 4).
        share: broadcasts against (...); 0 gives `start`, 1 gives `end`.
    """
    cosine = (start * end).sum(axis=-1)
    end = np.where(cosine[..., None] < 0.0, -end, end)
    angle = np.arccos(np.minimum(np.abs(cosine), 1.0))
    # sinc stays accurate where sin(angle) goes to zero and the arc becomes a straight line.
    scale = np.sinc(angle / np.pi)
    left = (1.0 - share) * np.sinc((1.0 - share) * angle / np.pi) / scale
    right = share * np.sinc(share * angle / np.pi) / scale
    result = left[..., None] * start + right[..., None] * end
    return result / np.linalg.norm(result, axis=-1, keepdims=True)


def to_rotvec(quaternion: Array) -> Array:
    """(..., 3): axis times angle, the angle in [0, pi]."""
    quaternion = np.where(quaternion[..., :1] < 0.0, -quaternion, quaternion)
    sine = np.linalg.norm(quaternion[..., 1:], axis=-1, keepdims=True)
    half = np.arctan2(sine, quaternion[..., :1])
    return quaternion[..., 1:] * (2.0 / np.sinc(half / np.pi))
