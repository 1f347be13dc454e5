"""What DPMesh reads from a batch, and the conditions that it makes of 2-D joints: places in the crop and heat-maps.

A joint is absent if a detector gave it no confidence, or if it lies outside the image or the crop. Its coordinates
never reach a network: they are zeros with `present` false, and its heat-map is empty.

Shape letters: B batch, J joints, K joints of the release, S side of the heat-maps, or of images.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from methods.mesh_batches import (
    NEAREST,
    PinholeCamera,
    box_of,
    camera_of,
    check_single_frames,
    image_of,
    project_to_image,
    vary_colours,
)
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.images import crops
from noise2pose.keypoints import heatmaps, noise
from noise2pose.skeletons import Skeleton

MIN_CONFIDENCE = 0.05  # of a joint that counts as found (release)
RELEASED = "dpmesh_30"  # skeleton of the release's conditions
GRID = 32  # cells of the release's heat-maps, along each axis
SIGMA = 2.5  # standard deviation of a peak in such cells (release)
_FILLED = 0.5  # share of the square box that the tight box of the person covers

TrainingKeypoints = Literal["noisy", "clean", "batch"]


class Conditions(NamedTuple):
    """2-D joints as the networks take them.

    Attributes:
        joints: places in the crop, which spans [0, 1] on both axes; zeros where absent.
        present: which joints were found.
        heatmaps: peak 1; zeros where absent.
    """

    joints: Float[Tensor, "B J 2"]
    present: Bool[Tensor, "B J"]
    heatmaps: Float[Tensor, "B J S S"]


class Observation(NamedTuple):
    """What DPMesh reads from a batch, once per step.

    Attributes:
        box: centre x, centre y and side, pixels.
        image: crop of the box, RGB in [0, 1]; in training with varied colours.
        camera: of the whole image.
        keypoints: pixels and confidence: those of the batch; in training the true ones.
        conditions: made of these.
        noisy: in the training of a student: conditions made of joints with errors.
    """

    box: Float[Tensor, "B 3"]
    image: Float[Tensor, "B 3 S S"]
    camera: PinholeCamera
    keypoints: Float[Tensor, "B J 3"]
    conditions: Conditions
    noisy: Conditions | None = None


@dataclass(frozen=True)
class Observer:
    """Reads batches with the settings of a method.

    Attributes:
        skeleton: joints of the data.
        size: S, side of the heat-maps.
        release: make the conditions as the release does: of 30 joints, with heat-maps half a cell off.
        use_heatmaps: make heat-maps; otherwise they are empty.
        train_keypoints: joints of the student's training: `noisy` for true joints with fresh errors, `clean` for true
            joints, `batch` for the keypoints of the data.
        joint_dropout: share of these joints that are hidden.
        image_noise: of the colours in training, see `vary_colours`.
    """

    skeleton: Skeleton
    size: int
    release: bool = False
    use_heatmaps: bool = True
    train_keypoints: TrainingKeypoints = "noisy"
    joint_dropout: float = 0.0
    image_noise: float = 0.0

    def observe(self, batch: PoseBatch) -> Observation:
        """Reads a batch whose people are to be estimated, and none of its ground truth.

        Raises:
            InputError: if the batch has no images, no camera, a bad box or the joints of another skeleton.
        """
        box, keypoints = checked_box(batch), batch["keypoints_2d"]
        image = image_of(batch, "DPMesh")
        return Observation(box, image, camera_of(batch), keypoints, self.conditions(keypoints, box, batch))

    def observe_training(self, batch: PoseBatch, student: bool, step: int, seed: int) -> Observation:
        """Reads a training batch.

        Args:
            batch: with ground truth.
            student: whether the student is trained; the teacher needs the conditions of the true joints alone.
            step: of the training.
            seed: of the training.

        Raises:
            InputError: as `observe`.
        """
        box, keypoints = checked_box(batch), clean_keypoints(batch)
        image = vary_colours(image_of(batch, "DPMesh"), self.image_noise)
        clean, noisy = self.conditions(keypoints, box, batch), None
        if student:
            if self.train_keypoints == "noisy":
                chosen = noisy_keypoints(keypoints, box, batch, self.skeleton.name, step, seed)
            else:
                chosen = keypoints if self.train_keypoints == "clean" else batch["keypoints_2d"]
            noisy = self.conditions(drop_joints(chosen, self.joint_dropout), box, batch)
        return Observation(box, image, camera_of(batch), keypoints, clean, noisy)

    def conditions(self, keypoints: Tensor, box: Float[Tensor, "B 3"], batch: PoseBatch) -> Conditions:
        """Conditions of keypoints in the images of a batch."""
        check_single_frames(keypoints, self.skeleton, "DPMesh")
        if self.release:
            keypoints = released_joints(keypoints, self.skeleton.name)
        image_size = batch.get("camera", {}).get("image_size")
        made = conditions(keypoints, box, image_size, size=self.size, corners=self.release)
        return made if self.use_heatmaps else made._replace(heatmaps=torch.zeros_like(made.heatmaps))


def conditions(
    keypoints: Float[Tensor, "B J 3"],
    box: Float[Tensor, "B 3"],
    image_size: Float[Tensor, "B 2"] | None = None,
    *,
    size: int = GRID,
    corners: bool = False,
) -> Conditions:
    """Conditions of joints in pixels.

    Args:
        keypoints: pixels and confidence.
        box: centre x, centre y and side of the crop, pixels; see `checked_box`.
        image_size: width and height of the image; None if every joint is known to lie in it.
        size: S.
        corners: put (0, 0) of the heat-maps at the corner of the crop, as the release does, instead of half a cell in.
    """
    places = (keypoints[..., :2] - box[:, None, :2]) / box[:, None, 2:] + 0.5
    # Comparisons with NaN are false, so coordinates that are not finite count as absent.
    present = (keypoints[..., 2] > MIN_CONFIDENCE) & ((places >= 0.0) & (places <= 1.0)).all(dim=-1)
    if image_size is not None:
        pixels = keypoints[..., :2]
        present = present & ((pixels >= 0.0) & (pixels <= image_size[:, None])).all(dim=-1)
    joints = torch.where(present[..., None], places, 0.0)
    # The centre of the first cell is (0, 0).
    maps = heatmaps.heatmaps(joints * size - (0.0 if corners else 0.5), (size, size), SIGMA * size / GRID)
    return Conditions(joints, present, torch.where(present[..., None, None], maps, 0.0))


def released_joints(keypoints: Float[Tensor, "B J 3"], skeleton: str) -> Float[Tensor, "B K 3"]:
    """The joints of the release's conditions, `dpmesh_30`; zeros for those that the data lacks.

    Args:
        keypoints: pixels and confidence.
        skeleton: of the joints.
    """
    found = (keypoints[..., 2:] > 0) & keypoints.isfinite().all(dim=-1, keepdim=True)
    return skeletons.convert_partly(torch.where(found, keypoints, 0.0), skeleton, RELEASED)


def checked_box(batch: PoseBatch) -> Float[Tensor, "B 3"]:
    """The box of each person, see `box_of`.

    Raises:
        InputError: if a box has no area or is not finite; its heat-maps would be NaN.
    """
    box = box_of(batch)
    good = (box[:, 2] > 0) & box.isfinite().all(dim=-1)
    if not good.all():
        row = int((~good).nonzero()[0])
        name = batch["sample_id"][row] if "sample_id" in batch else row
        raise InputError(f"box of sample {name} is {box[row].tolist()}, expected a centre and a side above 0 in pixels")
    return box


def clean_keypoints(batch: PoseBatch) -> Float[Tensor, "B J 3"]:
    """The true joints, hidden ones included, in pixels; the confidence says which are known.

    Annotated keypoints (`keypoints_2d_gt`) where the batch has them; else projections of `keypoints_3d`, and
    `keypoints_2d` for joints that `keypoints_3d` lacks. Coordinates that are not finite count as unknown.
    """
    keypoints = batch.get("keypoints_2d_gt", batch["keypoints_2d"])
    if "keypoints_2d_gt" not in batch and "keypoints_3d" in batch:
        points, valid = batch["keypoints_3d"].split((3, 1), dim=-1)
        valid = valid * (points[..., 2:] > NEAREST)
        pixels = project_to_image(points, PinholeCamera(batch["camera"]["focal"], batch["camera"]["principal_point"]))
        keypoints = torch.where(valid > 0, torch.cat((pixels, torch.ones_like(valid)), dim=-1), keypoints)
    return torch.where(keypoints.isfinite().all(dim=-1, keepdim=True), keypoints, 0.0)


def noisy_keypoints(
    true: Float[Tensor, "B J 3"], box: Float[Tensor, "B 3"], batch: PoseBatch, skeleton: str, step: int, seed: int = 0
) -> Float[Tensor, "B J 3"]:
    """Detections of the true joints with errors that differ at each step (`noise2pose.keypoints.noise`).

    Only joints that the keypoints of the batch have are detected, so no joint that is occluded or outside the image.

    Args:
        true: pixels and confidence.
        box: centre x, centre y and side, pixels; decides which errors are small.
        batch: with `keypoints_2d` and `sample_id`.
        skeleton: of the joints.
        step: of the training, so that a resumed run draws the same errors as an uninterrupted one.
        seed: which repetition of the experiment this is.
    """
    seen = (batch["keypoints_2d"][..., 2] > MIN_CONFIDENCE) & (true[..., 2] > 0)
    side = box[:, 2] / crops.BOX_SCALE
    keys = keyed_random.keys_of(batch["sample_id"], device=true.device) + step * 2**32
    places = torch.where(seen[..., None], true[..., :2], 0.0)
    return noise.detect(places, seen, _FILLED * side.square(), keys, skeleton=skeleton, seed=seed).keypoints


def drop_joints(keypoints: Float[Tensor, "B J 3"], share: float) -> Float[Tensor, "B J 3"]:
    """Hides a share of the joints, at random."""
    kept = torch.rand_like(keypoints[..., 2:]) >= share
    return torch.cat((keypoints[..., :2], keypoints[..., 2:] * kept), dim=-1)


def resized(image: Float[Tensor, "B 3 s s"], size: int) -> Float[Tensor, "B 3 S S"]:
    """Images with sides of `size` pixels."""
    if image.shape[-1] == size:
        return image
    return F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
