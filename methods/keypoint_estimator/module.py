"""A small top-down estimator of 2-D keypoints: heat-maps on the feature maps of a backbone."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from methods.base import PoseMethod
from methods.keypoint_estimator.heatmaps import HeatmapHead, heatmap_loss, keypoints_of
from methods.mesh_batches import box_of, pixels_of_crop, places_in_crop, small_image_of, vary_colours
from methods.networks.backbones import BackboneName, make_backbone
from methods.networks.pretrained import load_backbone
from methods.schedules import scheduled
from noise2pose import skeletons
from noise2pose.batch import PoseBatch, Prediction


class KeypointEstimator(PoseMethod):
    """Finds the keypoints of the person in the square box of an image.

    Args:
        backbone: `efficientnet_lite0` for processors without an accelerator, or `resnet50`.
        pretrained: weights that the backbone starts from: `imagenet` for those that a package ships, or a file. They
            are read when training starts and not needed afterwards.
        image_size: images whose side is larger are shrunk to this first, pixels.
        channels: of the head.
        skeleton: joints of the data, a name in `noise2pose.skeletons`.
        sigma: of the peaks that the maps are trained to have, cells of a quarter of the image's resolution.
        distance_weight: of the distance of the maps' means, beside their cross entropy.
        mirror: share of the images that are mirrored while training.
        image_noise: while training, each colour channel is multiplied by a random factor that differs from 1 by at
            most this.
        flip_test: the maps are the mean of those of the image and of its mirror image.
        learning_rate: of Adam, at its peak.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    title = "Keypoint estimator"
    answers = "keypoints_2d"
    input = "image"
    weight_files = ("pretrained",)

    def __init__(
        self,
        backbone: BackboneName = "efficientnet_lite0",
        pretrained: str | None = None,
        image_size: int = 128,
        channels: int = 64,
        skeleton: str = "coco_17",
        sigma: float = 1.0,
        distance_weight: float = 0.1,
        mirror: float = 0.5,
        image_noise: float = 0.3,
        flip_test: bool = False,
        learning_rate: float = 1e-3,
        warmup_steps: int = 50,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.pretrained = pretrained
        self.image_size = image_size
        self.skeleton = skeletons.get(skeleton)
        self.sigma = sigma
        self.distance_weight = distance_weight
        self.mirror = mirror
        self.image_noise = image_noise
        self.flip_test = flip_test
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.backbone = make_backbone(backbone).freeze_beyond_levels()
        self.head = HeatmapHead(self.backbone.level_widths, channels, self.skeleton.num_joints)

    def forward(self, batch: PoseBatch) -> Prediction:
        found = keypoints_of(self.maps(small_image_of(batch, self.title, self.image_size)))
        return {"keypoints_2d": pixels_of_crop(found, box_of(batch))}

    def maps(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B J h h"]:
        """Where each joint may be, as distributions over the crop; h = S / 4."""
        maps = _distribution(self.head(self.backbone.levels(image)))
        if not self.flip_test or self.training:
            return maps
        mirrored = _distribution(self.head(self.backbone.levels(image.flip(-1))))
        return (maps + mirrored[:, list(self.skeleton.flip_order)].flip(-1)) / 2.0

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        image, places = small_image_of(batch, self.title, self.image_size), self._places(batch)
        if self.mirror:
            mirrored = torch.rand(len(image), device=image.device) < self.mirror
            image = torch.where(mirrored[:, None, None, None], image.flip(-1), image)
            other = places[:, list(self.skeleton.flip_order)] * places.new_tensor([-1.0, 1.0, 1.0])
            places = torch.where(mirrored[:, None, None], other + places.new_tensor([1.0, 0.0, 0.0]), places)
        if self.image_noise:
            image = vary_colours(image, self.image_noise)
        entropy, distance = heatmap_loss(self.head(self.backbone.levels(image)), places, self.sigma)
        loss = entropy + self.distance_weight * distance
        self.log_dict({"train/loss_maps": entropy.detach(), "train/loss_distance": distance.detach()})
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and not self.resumed and self.pretrained is not None:
            load_backbone(self.backbone, self.pretrained)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=self.learning_rate)
        return scheduled(optimizer, self.warmup_steps, range(int(self.trainer.estimated_stepping_batches)))

    def _places(self, batch: PoseBatch) -> Float[Tensor, "B J 3"]:
        """The annotated keypoints in [0, 1] across the crop, and their confidence."""
        keypoints = batch.get("keypoints_2d_gt", batch["keypoints_2d"])
        return places_in_crop(keypoints, box_of(batch), self.skeleton, self.title)


def _distribution(logits: Float[Tensor, "B J h h"]) -> Float[Tensor, "B J h h"]:
    return logits.flatten(-2).softmax(dim=-1).view_as(logits)
