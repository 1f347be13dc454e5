"""Keypoint labels moved to where the person of the image is: the paper's 2-D refinement, as a method that is trained.

Shape letters: B images, G groups of references, J joints.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from methods.base import PoseMethod
from methods.mesh_batches import box_of, masked_mean, pixels_of_crop, places_in_crop, small_image_of, vary_colours
from methods.networks.backbones import BackboneName, make_backbone
from methods.networks.pretrained import load_backbone
from methods.posepp.labels.deformable import DeformableDecoder
from methods.schedules import scheduled
from noise2pose import skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.keypoints.noise import coco_sigmas

FARTHEST = 3.0  # times k sqrt(area), where the similarity of a joint is exp(-4.5)


class Refiner(PoseMethod):
    """Refines keypoints that start near those of the person in an image.

    Training starts it from the annotated keypoints with noise: the batch's own detections, and `groups` of references
    which are all moved together and one by one, `outliers` of them far (noisy reference training, Poseur).

    Args:
        backbone: `efficientnet_lite0` for processors without an accelerator, or `resnet50`.
        pretrained: weights that the backbone starts from: `imagenet` for those that a package ships, or a file.
        image_size: images whose side is larger are shrunk to this first, pixels.
        channels: of the decoder.
        num_layers: of the decoder; each moves the keypoints once.
        num_heads: of the decoder's attention.
        num_points: that each head samples in each of the four feature maps.
        skeleton: joints of the data, a name in `noise2pose.skeletons`.
        groups: of noisy references while training, besides the keypoints of the batch.
        noise: standard deviation of each joint, box sides.
        shift: standard deviation of all joints together, box sides.
        outliers: joints of each group that lie as far off as four times `noise`.
        image_noise: while training, each colour channel is multiplied by a random factor that differs from 1 by at
            most this.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    title = "Pose++ 2-D refinement"
    answers = "keypoints_2d"
    input = "image"
    weight_files = ("pretrained",)

    def __init__(
        self,
        backbone: BackboneName = "efficientnet_lite0",
        pretrained: str | None = None,
        image_size: int = 128,
        channels: int = 64,
        num_layers: int = 3,
        num_heads: int = 4,
        num_points: int = 4,
        skeleton: str = "coco_17",
        groups: int = 3,
        noise: float = 0.04,
        shift: float = 0.02,
        outliers: int = 4,
        image_noise: float = 0.3,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        warmup_steps: int = 50,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.pretrained = pretrained
        self.image_size = image_size
        self.skeleton = skeletons.get(skeleton)
        self.groups = groups
        self.noise = noise
        self.shift = shift
        self.outliers = outliers
        self.image_noise = image_noise
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.backbone = make_backbone(backbone).freeze_beyond_levels()
        self.decoder = DeformableDecoder(
            self.backbone.level_widths, self.skeleton.num_joints, channels, num_layers, num_heads, num_points
        )

    @property
    def uses_keypoints(self) -> bool:
        return True

    def forward(self, batch: PoseBatch) -> Prediction:
        keypoints, box = batch["keypoints_2d"], box_of(batch)
        places = places_in_crop(keypoints, box, self.skeleton, self.title)
        start = skeletons.place_hidden(places, self.skeleton.name)[:, None, :, :2]
        levels = self.backbone.levels(small_image_of(batch, self.title, self.image_size))
        found = self.decoder(levels, start)[-1][:, 0]
        return {"keypoints_2d": pixels_of_crop(torch.cat((found, keypoints[..., 2:].clamp(0.0, 1.0)), dim=-1), box)}

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        box = box_of(batch)
        true, given = (
            places_in_crop(each, box, self.skeleton, self.title)
            for each in (batch.get("keypoints_2d_gt", batch["keypoints_2d"]), batch["keypoints_2d"])
        )
        counted = (true[..., 2] > 0) & ((true[..., :2] >= 0) & (true[..., :2] <= 1)).all(dim=-1)
        given = skeletons.place_hidden(given, self.skeleton.name)[..., :2]
        references = torch.cat((given[:, None], self._noisy(true[..., :2])), dim=1)
        image = small_image_of(batch, self.title, self.image_size)
        if self.image_noise:
            image = vary_colours(image, self.image_noise)
        answers = self.decoder(self.backbone.levels(image), references)
        weights = counted[:, None].expand(references.shape[:-1])
        losses = [masked_mean((found - true[:, None, :, :2]).abs(), weights) for found in answers]
        # In hundredths of the box, so that the loss is of the order of one.
        loss = 100.0 * torch.stack(losses).mean()
        self.log("train/loss_last", 100.0 * losses[-1].detach())
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and not self.resumed and self.pretrained is not None:
            load_backbone(self.backbone, self.pretrained)

    def configure_optimizers(self) -> dict[str, Any]:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.learning_rate, weight_decay=self.weight_decay)
        return scheduled(optimizer, self.warmup_steps, range(int(self.trainer.estimated_stepping_batches)))

    def _noisy(self, true: Float[Tensor, "B J 2"]) -> Float[Tensor, "B G J 2"]:
        """Groups of references around the annotated keypoints."""
        shape = (len(true), self.groups, self.skeleton.num_joints)
        far = torch.rand(shape, device=true.device).argsort(dim=-1) < self.outliers
        spread = self.noise * (1.0 + 3.0 * far)
        shift = self.shift * torch.randn(*shape[:2], 1, 2, device=true.device)
        return true[:, None] + shift + spread[..., None] * torch.randn(*shape, 2, device=true.device)


class Refined(NamedTuple):
    """Keypoints after the refinement.

    Attributes:
        keypoints: (B, J, 3) pixels and what the labels have in the third column.
        moved: (B, J) pixels.
        kept_initial: (B, J) the refinement was not believed.
    """

    keypoints: Float[Tensor, "B J 3"]
    moved: Float[Tensor, "B J"]
    kept_initial: Bool[Tensor, "B J"]


def believable(
    labels: Float[Tensor, "B J 3"],
    refined: Float[Tensor, "B J 2"],
    area: Float[Tensor, " B"],
    visible: Shaped[Tensor, "B J"],
    skeleton: str = "coco_17",
) -> Refined:
    """The refined keypoints, but those that moved farther than 3 k sqrt(area), which keep their first place.

    Args:
        labels: where the refinement began, pixels.
        refined: where it ended.
        area: of each person, square pixels.
        visible: joints of the label that can be seen; the others keep their place too.
        skeleton: of the joints.
    """
    moved = (refined - labels[..., :2]).norm(dim=-1)
    farthest = FARTHEST * 2.0 * coco_sigmas(skeleton).to(labels) * area.sqrt()[:, None]
    kept = (moved > farthest) | (visible <= 0) | ~refined.isfinite().all(dim=-1)
    places = torch.where(kept[..., None], labels[..., :2], refined)
    return Refined(torch.cat((places, labels[..., 2:]), dim=-1), torch.where(kept, 0.0, moved), kept)
