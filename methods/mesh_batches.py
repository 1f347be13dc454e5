"""What methods that regress a body read from a batch: crop, box, camera and the parameters of the true bodies.

Shape letters: B batch, S side of the crops, J joints.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from noise2pose import cameras
from noise2pose.batch import PoseBatch, Smpl
from noise2pose.errors import InputError
from noise2pose.images import crops
from noise2pose.skeletons import Skeleton

NEAREST = 0.1  # metres in front of the camera: where points that lie behind it are projected from


class PinholeCamera(NamedTuple):
    """The camera of the whole image of each sample, pixels."""

    focal: Float[Tensor, "B 2"]
    principal_point: Float[Tensor, "B 2"]


def image_of(batch: PoseBatch, method: str, remedy: str = "set data.images to true") -> Float[Tensor, "B 3 S S"]:
    """The crops of the batch, RGB in [0, 1].

    Args:
        batch: with `image`.
        method: named in the error.
        remedy: for the error: what to do if the data has no images.

    Raises:
        InputError: if the batch has no images.
    """
    if "image" not in batch:
        raise InputError(f"{method} takes images and this data has none: {remedy}, or take data with images")
    return batch["image"]


def small_image_of(batch: PoseBatch, method: str, largest: int) -> Float[Tensor, "B 3 S S"]:
    """`image_of`, averaged to a side of `largest` pixels where it is larger.

    Raises:
        InputError: as `image_of`.
    """
    image = image_of(batch, method)
    return F.interpolate(image, size=(largest, largest), mode="area") if image.shape[-1] > largest else image


def places_in_crop(
    keypoints: Float[Tensor, "B J 3"], box: Float[Tensor, "B 3"], skeleton: Skeleton, method: str
) -> Float[Tensor, "B J 3"]:
    """Keypoints in [0, 1] across the box, and their confidence; unlike `joints_in_box` also of joints without any.

    Raises:
        InputError: as `check_single_frames`.
    """
    check_single_frames(keypoints, skeleton, method)
    places = (keypoints[..., :2] - box[:, None, :2]) / box[:, None, 2:] + 0.5
    return torch.cat((places, keypoints[..., 2:]), dim=-1)


def pixels_of_crop(places: Float[Tensor, "B J 3"], box: Float[Tensor, "B 3"]) -> Float[Tensor, "B J 3"]:
    """The inverse of `places_in_crop`."""
    pixels = (places[..., :2] - 0.5) * box[:, None, 2:] + box[:, None, :2]
    return torch.cat((pixels, places[..., 2:]), dim=-1)


def vary_colours(image: Float[Tensor, "B 3 S S"], amount: float) -> Float[Tensor, "B 3 S S"]:
    """Multiplies each colour channel by a random factor between 1 - `amount` and 1 + `amount`."""
    gain = 1.0 + amount * (2.0 * torch.rand_like(image[..., :1, :1]) - 1.0)
    return (image * gain).clamp(0.0, 1.0)


def box_of(batch: PoseBatch) -> Float[Tensor, "B 3"]:
    """Centre x, centre y and side of each person's box, pixels: the batch's, or the one around the visible joints."""
    return batch["box"] if "box" in batch else crops.box_of_keypoints(batch["keypoints_2d"])


def check_single_frames(keypoints: Tensor, skeleton: Skeleton, method: str) -> None:
    """Refuses clips, and joints of another skeleton.

    Args:
        keypoints: `keypoints_2d` of a batch.
        skeleton: whose joints the method takes.
        method: named in the error.

    Raises:
        InputError: if the shape is not (B, J, 3) with the joints of the skeleton.
    """
    if keypoints.ndim != 3 or keypoints.shape[1] != skeleton.num_joints:
        raise InputError(
            f"keypoints_2d has shape {tuple(keypoints.shape)}; {method} takes single frames of {skeleton.num_joints} "
            f"joints in the order of {skeleton.name}: set data.num_frames to 1"
        )


def camera_of(batch: PoseBatch) -> PinholeCamera:
    """Focal length and principal point of each image.

    Where they are unknown, the focal length is the diagonal of the image (CLIFF, Li et al., ECCV 2022) and the
    principal point its middle.

    Raises:
        InputError: if the size of the image is not known either.
    """
    camera = batch.get("camera", {})
    if "focal" in camera and "principal_point" in camera:
        return PinholeCamera(camera["focal"], camera["principal_point"])
    size = image_size_of(batch)
    diagonal = torch.linalg.vector_norm(size, dim=-1, keepdim=True).expand(-1, 2)
    return PinholeCamera(camera.get("focal", diagonal), camera.get("principal_point", size / 2.0))


def image_size_of(batch: PoseBatch) -> Float[Tensor, "B 2"]:
    """Width and height of each image, pixels; where they are unknown, twice the principal point.

    Raises:
        InputError: if neither is known.
    """
    camera = batch.get("camera", {})
    if "image_size" in camera:
        return camera["image_size"]
    if "principal_point" in camera:
        return 2.0 * camera["principal_point"]
    raise InputError("camera of the batch has neither principal_point nor image_size: a body cannot be placed")


def translation_in_image(
    weak: Float[Tensor, "B 3"], box: Float[Tensor, "B 3"], camera: PinholeCamera
) -> Float[Tensor, "B 3"]:
    """Translation of a body in the camera of the whole image, metres.

    Args:
        weak: weak-perspective camera of the crop: scale s, of which 1 shows two metres, and shift tx, ty in metres.
        box: centre x, centre y and side of the crop, pixels.
        camera: of the whole image.
    """
    # CLIFF's formula takes the principal point to be the middle of the image: this is the size of such an image.
    return cameras.crop_to_full_translation(weak, box, 2.0 * camera.principal_point, camera.focal[:, 0])


def project_to_image(points: Float[Tensor, "B J 3"], camera: PinholeCamera) -> Float[Tensor, "B J 2"]:
    """Pixels, in the whole image, of points in the camera frame; a depth below `NEAREST` counts as that."""
    points = torch.cat((points[..., :2], points[..., 2:].clamp_min(NEAREST)), dim=-1)
    return cameras.project(points, camera.focal, camera.principal_point)


def rotations_of(smpl: Smpl) -> Float[Tensor, "B 24 3 3"]:
    """All rotations of a body, root first."""
    return torch.cat((smpl["global_orient"][:, None], smpl["body_pose"]), dim=1)


def known_bodies(batch: PoseBatch) -> Bool[Tensor, " B"]:
    """Which samples have body parameters: `has_smpl`, or all."""
    betas = batch["smpl"]["betas"]
    return batch["has_smpl"] if "has_smpl" in batch else torch.ones_like(betas[:, 0], dtype=torch.bool)


def masked_loss(loss: Callable[..., Tensor], estimate: Tensor, target: Tensor, weights: Tensor) -> Float[Tensor, ""]:
    """Weighted mean of an elementwise loss.

    What a target without a weight holds, NaN included, reaches neither the loss nor its gradient.

    Args:
        loss: of `torch.nn.functional`, called with `reduction="none"`.
        estimate: any shape.
        target: as the estimate.
        weights: of the leading dimensions.
    """
    known = weights.view(*weights.shape, *[1] * (target.ndim - weights.ndim)) > 0
    return masked_mean(loss(estimate, torch.where(known, target, 0.0), reduction="none"), weights)


def root_relative_loss(
    loss: Callable[..., Tensor], joints: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 4"], root: int
) -> Float[Tensor, ""]:
    """`masked_loss` of joints relative to the root, metres; over the valid joints of samples whose root is valid."""
    valid = target[..., 3] * target[:, root, None, 3]
    target = target[..., :3]
    return masked_loss(loss, joints - joints[:, root, None], target - target[:, root, None], valid)


def masked_mean(values: Tensor, weights: Tensor) -> Float[Tensor, ""]:
    """Weighted mean of values; 0 if all weights are 0.

    Args:
        values: any shape; those without a weight may be NaN.
        weights: of the leading dimensions.
    """
    weights = weights.to(values).view(*weights.shape, *[1] * (values.ndim - weights.ndim)).expand_as(values)
    return (torch.where(weights > 0, values, 0.0) * weights).sum() / weights.sum().clamp_min(1e-6)
