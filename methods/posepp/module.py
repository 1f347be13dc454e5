"""A small generator of people, so that every stage of Pose++ can act on generated images without published weights.

Shape letters: B batch, S side of the image.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MeanMetric

from methods.base import PoseMethod
from methods.mesh_batches import image_of, known_bodies, vary_colours
from methods.posepp.images.batch_maps import BatchMaps
from methods.posepp.images.diffusion import NUM_STEPS, Denoiser, Maps, drop_conditions, noise_schedule
from methods.schedules import scheduled
from noise2pose import keyed_random
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError

_STREAM = 420  # of keyed_random: this and the next


class Generator(PoseMethod):
    """Learns to draw the image of a person, given their depth map and their drawn keypoints.

    The maps are drawn from the true bodies of the batch, as the stage `render` draws those of a data set. The generator
    predicts no poses, so its best checkpoint is chosen by the error of its velocity on the validation set,
    `val/DATASET/velocity`; `velocity_null` is the same without both maps.

    Args:
        image_size: side of the images, pixels; those of the data are resized to it.
        patch: side of the squares of pixels that the network sees as one, pixels.
        width: of the network.
        condition_dropout: share of the images whose depth is hidden, as large a share without keypoints, and as large
            a one without both, so that images can also be drawn without a map and guided by each.
        depth_floor: brightness of the farthest point of a person.
        hide_occluded: which hidden points are left out of the drawing: `face`, `all` or `none`.
        stroke_scale: width of the drawn limbs.
        body: whose parameters the data has: `free`, or the path of a body file.
        image_noise: in training, each colour channel is multiplied by a random factor that differs from 1 by at most
            this.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    title = "Small generator of Pose++"
    input = "image"
    ranges = {"image_size": (8, math.inf), "patch": (1, math.inf), "condition_dropout": (0, 1 / 3)}

    def __init__(
        self,
        image_size: int = 64,
        patch: int = 4,
        width: int = 64,
        condition_dropout: float = 0.1,
        depth_floor: float = 0.2,
        hide_occluded: str = "face",
        stroke_scale: float = 1.0,
        body: str = "free",
        image_noise: float = 0.1,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.denoiser = Denoiser(image_size, patch, width)
        self.maps = BatchMaps(body, image_size, depth_floor, hide_occluded, stroke_scale)
        self.condition_dropout, self.image_noise = condition_dropout, image_noise
        self.learning_rate, self.weight_decay, self.warmup_steps = learning_rate, weight_decay, warmup_steps
        self.schedule = noise_schedule()
        self.measured = nn.ModuleList()

    @property
    def image_size(self) -> int:
        """Side of the images that it draws, pixels."""
        return self.denoiser.image_size

    @property
    def uses_keypoints(self) -> bool:
        return False  # of the data: its maps are drawn from true bodies

    def forward(self, batch: PoseBatch) -> Prediction:
        raise InputError("a generator predicts no poses: `noise2pose generate` draws images with its checkpoint")

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        known = self._known(batch)
        image = vary_colours(self.resized_images(batch)[known], self.image_noise)
        maps = drop_conditions(self.maps(batch, known), self.condition_dropout)
        times = torch.randint(NUM_STEPS, (len(image),), device=image.device)
        loss = self._errors(image, times, torch.randn_like(image), maps).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def _errors(
        self, image: Float[Tensor, "B 3 S S"], times: Int[Tensor, " B"], noise: Float[Tensor, "B 3 S S"], maps: Maps
    ) -> Float[Tensor, " B"]:
        """Mean square error of the predicted velocity in each sample."""
        pixels = 2.0 * image - 1.0
        predicted = self.denoiser(self.schedule.add_noise(pixels, noise, times), times, maps)
        target = self.schedule.get_velocity(pixels, noise, times)
        return F.mse_loss(predicted.float(), target, reduction="none").mean(dim=(1, 2, 3))

    def resized_images(self, batch: PoseBatch) -> Float[Tensor, "B 3 S S"]:
        """The images of a batch at the size that it draws."""
        image = image_of(batch, self.title)
        if image.shape[-1] == self.image_size:
            return image
        size = (self.image_size, self.image_size)
        return F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)

    def _known(self, batch: PoseBatch) -> Tensor:
        """Numbers of the people of a batch whose bodies are known."""
        if "smpl" not in batch or "camera_translation" not in batch:
            raise InputError(
                f"{self.title} needs data with bodies in front of a camera: take datamodules.RenderedPeople"
            )
        known = known_bodies(batch).nonzero()[:, 0]
        if not len(known):
            raise InputError(f"no body of a batch has known parameters, and {self.title} is trained on them")
        return known

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.denoiser.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        return scheduled(optimizer, self.warmup_steps, range(int(self.trainer.estimated_stepping_batches)))

    def setup(self, stage: str) -> None:
        if stage in ("test", "predict"):
            raise InputError(
                f"a generator predicts no poses, so there is nothing to {TrainerFn(stage).value}: measure it with "
                "`noise2pose train validate`"
            )
        super().setup(stage)
        self.measured = nn.ModuleList(
            nn.ModuleDict({"velocity": MeanMetric(), "velocity_null": MeanMetric()}) for _ in self.protocols
        )

    def validation_step(self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
        """Measures with noise and steps that depend on the samples alone."""
        known = self._known(batch)
        image, maps = self.resized_images(batch)[known], self.maps(batch, known)
        keys = keyed_random.keys_of(batch["sample_id"], device=image.device)[known]
        times = (NUM_STEPS * keyed_random.uniform(keys, (), stream=_STREAM)).long()
        noise = keyed_random.normal(keys, image.shape[1:], stream=_STREAM + 1)
        measured: Any = self.measured[dataloader_idx]
        measured["velocity"].update(self._errors(image, times, noise, maps))
        measured["velocity_null"].update(self._errors(image, times, noise, maps.hidden(True, True)))
        return {}

    def _log_metrics(self, split: str) -> Tensor | None:
        first = None
        sets: Any = zip(self.protocols, self.measured, strict=True)
        for protocol, measured in sets:
            for name, metric in measured.items():
                value = metric.compute()
                metric.reset()
                self.log(f"{split}/{protocol.dataset}/{name}", value, sync_dist=True)
                first = value if first is None else first
        return first
