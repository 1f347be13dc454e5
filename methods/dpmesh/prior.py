"""A small diffusion prior: a latent diffusion model of people that is controlled by heat-maps of their joints.

With it, the gain of a diffusion prior can be measured also where Stable Diffusion's weights are not available: it is
trained on images of people alone, and `DPMesh` starts from it (`model.prior_checkpoint`).

Shape letters: B batch, S side of the image, C channels and h side of the latents.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MeanMetric

from methods.dpmesh.backbone.attention import CONTEXTS, Context
from methods.dpmesh.backbone.unet import Backbone
from methods.dpmesh.conditions import Conditions, Observer, checked_box, clean_keypoints, resized
from methods.dpmesh.settings import Size, sides_of
from methods.mesh_batches import image_of, vary_colours
from methods.staged import Group, StagedMethod
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError

_NUM_STEPS = 1000
_BETAS = 0.00085, 0.012  # first and last of Stable Diffusion's, whose square roots are evenly spaced
_SCALE_MOMENTUM = 0.05  # of the running estimate of the latents' scale
_STREAM = 240  # of keyed_random: this and the next


class Prior(StagedMethod):
    """Learns an autoencoder of crops first, then to predict the noise in its latents, given the true joints.

    The loss of the second stage is the ordinary one: the mean square error of epsilon at a random step. The prior
    predicts no poses, so its best checkpoint is chosen by that error on the validation set.

    Args:
        size: of the networks; `tiny` for processors without an accelerator.
        image_size: side that images are resized to; by default 64 with `tiny` and 256 with `sd15`. A DPMesh that
            starts from this prior must have the same.
        context: how joints become tokens; a DPMesh that starts from this prior must have the same, or `none` after the
            default.
        autoencoder_epochs: first epochs, in which the autoencoder is trained.
        condition_dropout: share of the images whose joints are hidden, so that the model also learns crops without
            joints.
        kl_weight: of the divergence of the latents from a normal distribution.
        skeleton: joint order of the data.
        image_noise: in training, each colour channel is multiplied by a random factor that differs from 1 by at most
            this.
        learning_rate: of AdamW, at its peak in both stages.
        weight_decay: of AdamW.
        warmup_steps: optimiser steps of linear warm-up before each cosine.
    """

    title = "Diffusion prior of DPMesh"
    input = "image"
    first_stage_option = "autoencoder_epochs"
    ranges = {"autoencoder_epochs": (1, math.inf)}
    signal: Tensor

    def __init__(
        self,
        size: Size = "tiny",
        image_size: int | None = None,
        context: Context = "mlp2_visible",
        autoencoder_epochs: int = 1,
        condition_dropout: float = 0.1,
        kl_weight: float = 1e-6,
        skeleton: str = "h36m_17",
        image_noise: float = 0.2,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-6,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.first_stage_epochs = autoencoder_epochs
        self.condition_dropout = condition_dropout
        self.kl_weight = kl_weight
        self.image_noise = image_noise
        self.learning_rate, self.weight_decay, self.warmup_steps = learning_rate, weight_decay, warmup_steps
        self.skeleton = skeletons.get(skeleton)
        self.sides = sides_of(size, image_size)
        self.observer = Observer(self.skeleton, self.sides.latents)
        self.backbone = Backbone(
            self.skeleton.num_joints, size=size, latent="sd", maps=(), unet_training="full", generative=True
        )
        self.autoencoder.requires_grad_(True)
        self.context = CONTEXTS[context](self.skeleton.num_joints, self.backbone.context_width)
        # Computed in float64; the scheduler of diffusers (`scaled_linear`) computes in float32 and rounds differently.
        betas = torch.linspace(_BETAS[0] ** 0.5, _BETAS[1] ** 0.5, _NUM_STEPS, dtype=torch.float64).square()
        self.register_buffer("signal", (1.0 - betas).cumprod(dim=0).float(), persistent=False)
        self.measured = nn.ModuleList()

    @property
    def autoencoder(self) -> Any:
        """The backbone's."""
        return self.backbone.autoencoder

    @property
    def uses_keypoints(self) -> bool:
        return False  # of the data: its conditions are made of true joints

    def forward(self, batch: PoseBatch) -> Prediction:
        raise InputError("a diffusion prior predicts no poses: train methods.dpmesh.DPMesh from its checkpoint")

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        image = resized(vary_colours(image_of(batch, self.title), self.image_noise), self.sides.image)
        if self.in_first_stage:
            terms = self._reconstruction(image)
            loss = terms["reconstruction"] + self.kl_weight * terms["divergence"]
        else:
            terms = {"epsilon": self._epsilon(batch, image)}
            loss = terms["epsilon"]
        self.log_dict({f"train/loss_{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss, prog_bar=True)
        return self.with_frozen_parameters(loss)

    def _reconstruction(self, image: Float[Tensor, "B 3 S S"]) -> dict[str, Float[Tensor, ""]]:
        """L1 of the reconstruction, pixels in [-1, 1], and the mean KL divergence of a latent value."""
        pixels = 2.0 * image - 1.0
        latents: Any = self.autoencoder.encode(pixels).latent_dist
        decoded: Any = self.autoencoder.decode(latents.sample())
        with torch.no_grad():
            scale = self.backbone.latent_scale
            scale.lerp_(1.0 / latents.mean.float().std().clamp_min(1e-3), _SCALE_MOMENTUM)
        numbers = latents.mean[0].numel()
        return {"reconstruction": (decoded.sample - pixels).abs().mean(), "divergence": latents.kl().mean() / numbers}

    def _epsilon(self, batch: PoseBatch, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, ""]:
        with torch.no_grad():
            latents = self.backbone.encode(image)
        times = torch.randint(_NUM_STEPS, (len(latents),), device=latents.device)
        hidden = torch.rand(len(latents), device=latents.device) < self.condition_dropout
        conditions = self._conditions(batch)
        conditions = Conditions(
            *(torch.where(hidden.view(-1, *[1] * (x.ndim - 1)), torch.zeros_like(x), x) for x in conditions)
        )
        return self._errors(latents, times, torch.randn_like(latents), conditions).mean()

    def _errors(
        self, latents: Float[Tensor, "B C h h"], times: Int[Tensor, " B"], noise: Tensor, conditions: Conditions
    ) -> Float[Tensor, " B"]:
        """Mean square error of the predicted noise in each sample."""
        signal = self.signal[times].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * latents + (1.0 - signal).sqrt() * noise
        tokens = self.context(conditions.joints, conditions.present)
        predicted = self.backbone.epsilon(noisy, times, conditions.heatmaps, tokens)
        return F.mse_loss(predicted.float(), noise.float(), reduction="none").mean(dim=(1, 2, 3))

    def _conditions(self, batch: PoseBatch) -> Conditions:
        """Conditions of the true joints."""
        return self.observer.conditions(clean_keypoints(batch), checked_box(batch), batch)

    def stage_groups(self) -> tuple[list[Group], list[Group]]:
        diffusion = [*self.backbone.unet.parameters(), *self.context.parameters()]
        if self.backbone.controlnet is not None:
            diffusion += self.backbone.controlnet.parameters()
        return [(self.weight_decay, list(self.autoencoder.parameters()))], [(self.weight_decay, diffusion)]

    def setup(self, stage: str) -> None:
        if stage in ("test", "predict"):
            raise InputError(
                f"a diffusion prior predicts no poses, so there is nothing to {TrainerFn(stage).value}: measure it "
                "with `noise2pose train validate`"
            )
        super().setup(stage)
        self.measured = nn.ModuleList(
            nn.ModuleDict({"epsilon": MeanMetric(), "reconstruction": MeanMetric()}) for _ in self.protocols
        )

    def validation_step(self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
        """Measures with noise and steps that depend on the samples alone."""
        image = resized(image_of(batch, self.title), self.sides.image)
        latents = self.backbone.encode(image)
        keys = keyed_random.keys_of(batch["sample_id"], device=latents.device)
        times = (_NUM_STEPS * keyed_random.uniform(keys, (), stream=_STREAM)).long()
        noise = keyed_random.normal(keys, latents.shape[1:], stream=_STREAM + 1)
        measured: Any = self.measured[dataloader_idx]
        measured["epsilon"].update(self._errors(latents, times, noise, self._conditions(batch)))
        measured["reconstruction"].update((self.backbone.decode(latents) - image).abs().mean(dim=(1, 2, 3)))
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
