"""Joints and cameras as publishers have them, as columns of a prepared folder.

Shape letters: N rows, J joints, C coordinates.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from noise2pose.images.crops import bounds_of_keypoints


def camera_columns(focal: Any, principal_point: Any, image_size: Any, number: int) -> dict[str, np.ndarray]:
    """Focal length, principal point and size of the image, two numbers each in pixels, in every one of N rows."""
    camera = {"focal": focal, "principal_point": principal_point, "image_size": image_size}
    return {name: np.tile(np.array(values, np.float32), (number, 1)) for name, values in camera.items()}


def with_validity(points: Float[np.ndarray, "*batch J C"], scale: float = 1.0) -> np.ndarray:
    """(..., J, C + 1) float32: times `scale` and 1, or zeros where a joint is not finite."""
    finite = np.isfinite(points).all(axis=-1, keepdims=True)
    return np.concatenate((np.where(finite, points * scale, 0.0), finite), axis=-1).astype(np.float32)


def seen_joints(keypoints: Float[np.ndarray, "*batch J 3"]) -> np.ndarray:
    """(..., J, 3) pixels and confidence with zeros for joints that are not there or not finite."""
    there = np.isfinite(keypoints).all(axis=-1) & (keypoints[..., 2] > 0)
    return np.where(there[..., None], keypoints, 0.0)


def bounds_of(pixels: Float[np.ndarray, "*batch J 2"], seen: np.ndarray) -> np.ndarray:
    """(..., 4) x0, y0, x1, y1 of the joints that are seen, (..., J); NaN where none is."""
    keypoints = np.concatenate((pixels, seen[..., None]), axis=-1, dtype=pixels.dtype)
    return bounds_of_keypoints(torch.from_numpy(keypoints)).numpy()


def extent(pixels: Float[np.ndarray, "*batch J 2"], seen: np.ndarray) -> np.ndarray:
    """As `bounds_of`; NaN also where the joints that are seen coincide, which leaves nothing to crop."""
    bounds = bounds_of(pixels, seen)
    has_area = (bounds[..., 2:] - bounds[..., :2]).max(axis=-1, keepdims=True) > 0
    return np.where(has_area & np.isfinite(bounds).all(axis=-1, keepdims=True), bounds, np.nan)
