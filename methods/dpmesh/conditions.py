"""What DPMesh is told of the 2-D joints: where they are in the crop, which are there at all, and their heat-maps.

A joint is absent if a detector gave it no confidence, or if it lies outside the picture or the crop. Its coordinates
never reach a network: they are zeros with `present` false, and its heat-map is empty.

Shape letters: B batch, J joints, S side of the heat-maps.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from noise2pose import cameras, keyed_random, skeletons
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.images import crops
from noise2pose.keypoints import heatmaps, noise
from noise2pose.skeletons import Skeleton

MIN_CONFIDENCE = 0.05  # of a joint that counts as found (release)
RELEASED = "dpmesh_30"  # skeleton of the release's conditions
GRID, SIGMA = (
    32,
    2.5,
)  # cells of heat-maps and latents, and a peak's standard deviation in them (release)
_NEAREST = 0.1  # metres in front of the camera
_FILLED = 0.5  # share of the square around a person that the person's own box covers


class Conditions(NamedTuple):
    """2-D joints as the networks take them.

    Attributes:
        joints: (B, J, 2) 0 to 1 from border to border of the crop; zeros where absent.
        present: (B, J).
        heatmaps: (B, J, S, S) peak 1; zeros where absent.
    """

    joints: Float[Tensor, "B J 2"]
    present: Bool[Tensor, "B J"]
    heatmaps: Float[Tensor, "B J S S"]


def conditions(
    keypoints: Float[Tensor, "B J 3"],
    box: Float[Tensor, "B 3"],
    image_size: Float[Tensor, "B 2"] | None = None,
    *,
    size: int = GRID,
    sigma: float = SIGMA,
    corners: bool = False,
) -> Conditions:
    """Conditions of joints in pixels.

    Args:
        keypoints: pixels and confidence.
        box: centre x, centre y and side of the crop, pixels; see `checked_box`.
        image_size: width and height of the picture; None if all of it is known to be seen.
        size: S.
        sigma: of a peak, cells of a grid of 32.
        corners: put (0, 0) of the heat-maps at the corner of the crop, as the release does, instead of half a cell in.
    """
    places = (keypoints[..., :2] - box[:, None, :2]) / box[:, None, 2:] + 0.5
    # Comparisons with NaN are false, so what is not finite is absent too.
    present = (keypoints[..., 2] > MIN_CONFIDENCE) & ((places >= 0.0) & (places <= 1.0)).all(dim=-1)
    if image_size is not None:
        present = present & in_picture(keypoints[..., :2], image_size)
    joints = torch.where(present[..., None], places, 0.0)
    # The centre of the first cell is (0, 0).
    maps = heatmaps.heatmaps(joints * size - (0.0 if corners else 0.5), (size, size), sigma * size / GRID)
    return Conditions(joints, present, torch.where(present[..., None, None], maps, 0.0))


def released_joints(keypoints: Float[Tensor, "B J 3"], skeleton: str) -> Float[Tensor, "B K 3"]:
    """The joints that the release is told of, `dpmesh_30`; zeros where the data have none of them.

    Args:
        keypoints: pixels and confidence.
        skeleton: of the joints.
    """
    found = (keypoints[..., 2:] > 0) & keypoints.isfinite().all(dim=-1, keepdim=True)
    return skeletons.convert_partly(torch.where(found, keypoints, 0.0), skeleton, RELEASED)


def no_conditions(like: Conditions) -> Conditions:
    """As if no joint had been found."""
    return Conditions(torch.zeros_like(like.joints), torch.zeros_like(like.present), torch.zeros_like(like.heatmaps))


def checked_box(batch: PoseBatch) -> Float[Tensor, "B 3"]:
    """The box of each person: the batch's, or the one around the visible joints.

    Raises:
        InputError: if a box has no area or is not finite.
    """
    box = batch["box"] if "box" in batch else crops.box_of_keypoints(batch["keypoints_2d"])
    good = (box[:, 2] > 0) & box.isfinite().all(dim=-1)
    if not good.all():
        row = int((~good).nonzero()[0])
        name = batch["sample_id"][row] if "sample_id" in batch else row
        raise InputError(f"box of sample {name} is {box[row].tolist()}, expected a centre and a side above 0 in pixels")
    return box


def clean_keypoints(batch: PoseBatch) -> Float[Tensor, "B J 3"]:
    """The true joints, also those that nobody could see, in pixels; the confidence says which are known.

    Annotated key-points if the batch has them beside others; else projections of `keypoints_3d`, and the key-points
    themselves where there is no such joint. What is not finite is not known.
    """
    keypoints = _true_keypoints(batch)
    return torch.where(keypoints.isfinite().all(dim=-1, keepdim=True), keypoints, 0.0)


def _true_keypoints(batch: PoseBatch) -> Float[Tensor, "B J 3"]:
    if "keypoints_2d_gt" in batch:
        return batch["keypoints_2d_gt"]
    keypoints = batch["keypoints_2d"]
    if "keypoints_3d" not in batch:
        return keypoints
    points, valid = batch["keypoints_3d"].split((3, 1), dim=-1)
    valid = valid * (points[..., 2:] > _NEAREST)
    points = torch.cat((points[..., :2], points[..., 2:].clamp_min(_NEAREST)), dim=-1)
    pixels = cameras.project(points, batch["camera"]["focal"], batch["camera"]["principal_point"])
    return torch.where(valid > 0, torch.cat((pixels, torch.ones_like(valid)), dim=-1), keypoints)


def noisy_keypoints(batch: PoseBatch, skeleton: str, step: int, seed: int = 0) -> Float[Tensor, "B J 3"]:
    """Detections of the true joints with errors that are drawn anew at each step (`noise2pose.keypoints.noise`).

    Only joints that the batch's key-points have are detected: behind something, or outside the picture, nothing is.

    Args:
        batch: with `keypoints_2d`; the box decides what is a small error.
        skeleton: of the joints.
        step: of the training, so that a resumed run draws what the interrupted one would have drawn.
        seed: which repetition of the experiment this is.
    """
    true = clean_keypoints(batch)
    seen = (batch["keypoints_2d"][..., 2] > MIN_CONFIDENCE) & (true[..., 2] > 0)
    side = checked_box(batch)[:, 2] / crops.BOX_SCALE
    keys = keyed_random.keys_of(batch["sample_id"], device=true.device) + step * 2**32
    places = torch.where(seen[..., None], true[..., :2], 0.0)
    return noise.detect(places, seen, _FILLED * side.square(), keys, skeleton=skeleton, seed=seed)


def drop_joints(keypoints: Float[Tensor, "B J 3"], share: float) -> Float[Tensor, "B J 3"]:
    """Hides a share of the joints, at random."""
    kept = torch.rand_like(keypoints[..., 2:]) >= share
    return torch.cat((keypoints[..., :2], keypoints[..., 2:] * kept), dim=-1)


def in_picture(pixels: Float[Tensor, "B J 2"], image_size: Float[Tensor, "B 2"]) -> Bool[Tensor, "B J"]:
    """Which points lie in the picture."""
    return ((pixels >= 0.0) & (pixels <= image_size[:, None])).all(dim=-1)


def picture(batch: PoseBatch) -> Float[Tensor, "B 3 S S"]:
    """The crops of the batch.

    Raises:
        InputError: if it has none.
    """
    if "image" not in batch:
        raise InputError("DPMesh takes pictures and this data has none: set data.images to true, or change data")
    return batch["image"]


def vary_colours(image: Float[Tensor, "B 3 S S"], amount: float) -> Float[Tensor, "B 3 S S"]:
    """Multiplies each colour channel by a random number, that is at most `amount` more or less than 1."""
    gain = 1.0 + amount * (2.0 * torch.rand_like(image[..., :1, :1]) - 1.0)
    return (image * gain).clamp(0.0, 1.0)


def resized(image: Float[Tensor, "B 3 s s"], size: int) -> Float[Tensor, "B 3 S S"]:
    """Pictures with sides of `size` pixels."""
    if image.shape[-1] == size:
        return image
    return F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def check_joints(keypoints: Tensor, skeleton: Skeleton) -> None:
    """Refuses joints of another skeleton, and clips.

    Raises:
        InputError: if they are.
    """
    if keypoints.ndim != 3 or keypoints.shape[1] != skeleton.num_joints:
        raise InputError(
            f"keypoints_2d has shape {tuple(keypoints.shape)}; DPMesh takes single frames of {skeleton.num_joints} "
            f"joints in the order of {skeleton.name}: set data.num_frames to 1"
        )
