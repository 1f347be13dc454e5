"""Cameras: world, camera, image and crop, with and without distortion.

The camera frame is x right, y down, z forward. Rotations act on column vectors and take world to camera:
X_camera = R X_world + t.

Shape letters: J points.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

VIRTUAL_FOCAL = 1.145  # of `virtual_image`, in sides
VIRTUAL_SIDE = 2.2  # in longer sides of the person's box


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera with polynomial distortion, in pixels.

    Attributes:
        name: of the camera.
        size: width and height.
        focal: in x and y.
        principal_point: x and y.
        radial: k1, k2, k3.
        tangential: along x, along y: OpenCV's p2, p1.
    """

    name: str
    size: tuple[float, float]
    focal: tuple[float, float]
    principal_point: tuple[float, float]
    radial: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tangential: tuple[float, float] = (0.0, 0.0)

    def normalised(self) -> Float[Tensor, "9"]:
        """f (2), c (2), k (3), p (2) in units of half the image width, as `project_distorted` takes them."""
        size, focal = torch.tensor(self.size), torch.tensor(self.focal)
        centre = to_screen(torch.tensor(self.principal_point), size)
        return torch.cat((focal * 2.0 / size[0], centre, torch.tensor(self.radial), torch.tensor(self.tangential)))


def world_to_camera(
    points: Float[Tensor, "*batch J 3"], rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch J 3"]:
    """R X + t of each point, metres."""
    return points @ rotation.transpose(-1, -2) + translation[..., None, :]


def look_at(
    position: Float[Tensor, "*batch 3"], target: Float[Tensor, "*batch 3"], up: Float[Tensor, "3"]
) -> tuple[Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch 3"]]:
    """Rotation and translation of a camera at `position` that looks at `target`, upright with respect to `up`."""
    forward = torch.nn.functional.normalize(target - position, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up.expand_as(forward)), dim=-1)
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack((right, down, forward), dim=-2)
    return rotation, -(rotation @ position[..., None])[..., 0]


def project(
    points: Float[Tensor, "*batch J 3"], focal: Float[Tensor, "*batch 2"], principal_point: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch J 2"]:
    """Pinhole projection of points in the camera frame to pixels."""
    return points[..., :2] / points[..., 2:] * focal[..., None, :] + principal_point[..., None, :]


def project_distorted(
    points: Float[Tensor, "*batch J 3"], intrinsics: Float[Tensor, "*batch 9"]
) -> Float[Tensor, "*batch J 2"]:
    """Projection with radial and tangential distortion, exactly as VideoPose3D does it.

    x/z and y/z are clamped to [-1, 1] first, since the polynomial diverges outside the field of view.

    Args:
        points: camera frame.
        intrinsics: `Intrinsics.normalised`.

    Returns:
        Screen coordinates (`to_screen`).
    """
    focal, centre, radial, tangential = intrinsics[..., None, :].split((2, 2, 3, 2), dim=-1)
    image = (points[..., :2] / points[..., 2:]).clamp(-1.0, 1.0)
    square = image.square().sum(dim=-1, keepdim=True)
    powers = torch.cat((square, square**2, square**3), dim=-1)
    stretch = 1.0 + (radial * powers).sum(dim=-1, keepdim=True) + (tangential * image).sum(dim=-1, keepdim=True)
    return focal * (image * stretch + tangential * square) + centre


def to_screen(pixels: Float[Tensor, "*batch 2"], size: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
    """Pixels to screen coordinates: x in [-1, 1] across the image, y in the same unit, origin in the middle.

    Args:
        pixels: (..., 2).
        size: width and height of the image, broadcast against the pixels.
    """
    width = size[..., :1]
    return (2.0 * pixels - size) / width


def from_screen(screen: Float[Tensor, "*batch 2"], size: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
    """Inverse of `to_screen`."""
    return (screen * size[..., :1] + size) / 2.0


def virtual_image(points: Float[Tensor, "*batch P 2"]) -> tuple[Float[Tensor, "*batch 2"], Float[Tensor, "*batch"]]:
    """A square around a person that shows them as the training images of lifting methods do: whole, near the centre.

    A photograph may show the person small and in a corner, and seldom states its focal length. Its keypoints are moved
    to an image whose centre is the centre of the person's box, whose side is 2.2 times the longer side of the box, and
    whose focal length is 1.145 sides, as for Human3.6M's cameras (47 degrees). The camera of this image looks at the
    person, so a pose lifted from it is rotated relative to the photograph's camera by the angle between the two.

    Args:
        points: (..., P, 2) joints in pixels; for a clip, those of all its frames.

    Returns:
        The upper left corner (..., 2) and the side (...,) in pixels; the side is 0 where all points coincide.
    """
    low, high = points.amin(dim=-2), points.amax(dim=-2)
    side = VIRTUAL_SIDE * (high - low).amax(dim=-1)
    return (low + high - side[..., None]) / 2.0, side


def fit_weak_perspective(
    points_3d: Float[Tensor, "*batch J 3"],
    points_2d: Float[Tensor, "*batch J 2"],
    weights: Float[Tensor, "*batch J"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch 2"]]:
    """Scale s and translation t that minimise sum_j w_j |s (x, y)_j + t - u_j|^2, in closed form.

    Args:
        points_3d: camera frame, metres; depth is ignored.
        points_2d: pixels.
        weights: not negative, for example confidences.

    Returns:
        Pixels per metre (0 where all points or all weights coincide) and translation in pixels.
    """
    weights = weights[..., None]
    total = weights.sum(dim=-2, keepdim=True).clamp_min(1e-9)
    mean_3d = (weights * points_3d[..., :2]).sum(dim=-2, keepdim=True) / total
    mean_2d = (weights * points_2d).sum(dim=-2, keepdim=True) / total
    offset_3d, offset_2d = points_3d[..., :2] - mean_3d, points_2d - mean_2d
    covariance = (weights * offset_3d * offset_2d).sum(dim=(-1, -2))
    scale = covariance / (weights * offset_3d.square()).sum(dim=(-1, -2)).clamp_min(1e-12)
    return scale, (mean_2d - scale[..., None, None] * mean_3d)[..., 0, :]


def fit_translation(
    points_3d: Float[Tensor, "*batch J 3"],
    points_2d: Float[Tensor, "*#batch J 2"],
    weights: Float[Tensor, "*#batch J"],
    focal: Float[Tensor, "*#batch 2"],
    principal_point: Float[Tensor, "*#batch 2"],
) -> Float[Tensor, "*batch 3"]:
    """Translation t for which the points project on their pixels, in weighted least squares (as SPIN and HMR do it).

    The equation f (x + t_x) = (u - c) (z + t_z) of each joint and axis is linear in t.

    Args:
        points_3d: metres, relative to any origin.
        points_2d: pixels.
        weights: not negative, for example confidences; at least two joints need one.
        focal: pixels.
        principal_point: pixels.
    """
    ray = (points_2d - principal_point[..., None, :]) / focal[..., None, :]
    # With rows (1, 0, -ray_x) and (0, 1, -ray_y), the normal equations are sums over the joints.
    offset = ray * points_3d[..., 2:] - points_3d[..., :2]
    weights, ray = torch.broadcast_tensors(weights[..., None], ray)
    weights, ray, offset = torch.broadcast_tensors(weights, ray, offset)
    total = weights.sum(dim=-2)
    slope = -(weights * ray).sum(dim=-2)
    matrix = torch.zeros((*total.shape[:-1], 3, 3), dtype=points_3d.dtype, device=points_3d.device)
    matrix[..., 0, 0], matrix[..., 1, 1] = total[..., 0], total[..., 1]
    matrix[..., :2, 2] = matrix[..., 2, :2] = slope
    matrix[..., 2, 2] = (weights * ray.square()).sum(dim=(-1, -2))
    vector = torch.cat(((weights * offset).sum(dim=-2), -(weights * ray * offset).sum(dim=(-1, -2))[..., None]), dim=-1)
    # Keeps the system solvable for a pose without weights; far below what a joint contributes.
    matrix = matrix + 1e-9 * torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    return torch.linalg.solve(matrix, vector[..., None])[..., 0]


def crop_to_full_translation(
    camera: Float[Tensor, "*batch 3"],
    box: Float[Tensor, "*batch 3"],
    size: Float[Tensor, "*batch 2"],
    focal: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch 3"]:
    """Translation of the body in the camera of the whole image, from the weak-perspective camera of a crop (CLIFF).

    Args:
        camera: (s, tx, ty) of the crop.
        box: centre x, centre y and side of the crop, pixels.
        size: width and height of the image.
        focal: of the whole image, pixels.
    """
    pixels_per_metre = camera[..., :1] * box[..., 2:] / 2.0 + 1e-9
    offset = (box[..., :2] - size / 2.0) / pixels_per_metre
    return torch.cat((camera[..., 1:] + offset, focal[..., None] / pixels_per_metre), dim=-1)
