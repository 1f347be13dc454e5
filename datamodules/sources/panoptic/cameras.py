"""The calibrated cameras of the CMU Panoptic Studio, and how they see points of its world.

The world is in centimetres. X_camera = R X_world + t, x right, y down, z forward.

Shape letters: N people, J joints.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.sources.common.files import read_json
from noise2pose.errors import InputError


class Camera(NamedTuple):
    """One camera of a calibration file, float64.

    Attributes:
        name: panel and node, such as 00_16.
        size: width and height, pixels.
        matrix: (3, 3) intrinsics.
        distortion: k1, k2, p1, p2, k3 of OpenCV's model.
        rotation: (3, 3) world to camera.
        translation: (3,) centimetres.
    """

    name: str
    size: tuple[int, int]
    matrix: np.ndarray
    distortion: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray


def read_camera(path: Path, name: str) -> Camera:
    """A camera of `calibration_<sequence>.json`.

    Raises:
        InputError: if the file cannot be read, has no such camera, or says impossible things of it.
    """
    try:
        listed: list[dict[str, Any]] = read_json(path)["cameras"]
        cameras = {_name(camera): camera for camera in listed}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a calibration of the Panoptic Studio ({type(error).__name__}: {error})"
        ) from error
    if name not in cameras:
        raise InputError(f"{path}: has no camera {name} among its {len(cameras)}")
    camera = cameras[name]
    try:
        width, height = (int(side) for side in camera["resolution"])
        matrix, distortion, rotation, translation = (
            _numbers(camera[key], size) for key, size in (("K", 9), ("distCoef", 5), ("R", 9), ("t", 3))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: camera {name}: {type(error).__name__}: {error}") from error
    return Camera(name, (width, height), matrix.reshape(3, 3), distortion, rotation.reshape(3, 3), translation)


def see(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of the world in a camera and in its image.

    The projection is OpenCV's with k1, k2, p1, p2, k3 (`cv2.projectPoints`), as in the toolbox of the data set. The
    toolbox's Python version, and that of Jiang et al. (2020), puts the distorted x where the formula for y has the
    undistorted one; with p1, p2 of 0.001 that moves a point by less than a tenth of a pixel.

    Args:
        camera: that looks.
        points: (..., 3) centimetres.

    Returns:
        (..., 3) metres in the camera frame; (..., 2) pixels; (...,) bool: whether the point lies before the camera and
        where its lens is calibrated (beyond, the polynomial folds back into the image).
    """
    placed = points @ camera.rotation.T + camera.translation
    depth = placed[..., 2]
    seen = depth > 0.0
    x, y = np.moveaxis(placed[..., :2] / np.where(seen, depth, 1.0)[..., None], -1, 0)
    k1, k2, p1, p2, k3 = camera.distortion
    square = x * x + y * y
    seen = seen & (1.0 + square * (3.0 * k1 + square * (5.0 * k2 + square * 7.0 * k3)) > 0.0)
    stretch = 1.0 + square * (k1 + square * (k2 + square * k3))
    bent = np.stack(
        (
            x * stretch + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x),
            y * stretch + p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y,
            np.ones_like(x),
        ),
        axis=-1,
    )
    return placed / 100.0, (bent @ camera.matrix.T)[..., :2], seen


def _name(camera: dict[str, Any]) -> str:
    return str(camera["name"]) if "name" in camera else f"{camera['panel']:02d}_{camera['node']:02d}"


def _numbers(values: Any, size: int) -> np.ndarray:
    numbers = np.asarray(values, dtype=np.float64).reshape(-1)
    if len(numbers) != size or not np.isfinite(numbers).all():
        raise ValueError(f"expected {size} numbers, found {values}")
    return numbers
