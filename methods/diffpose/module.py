"""DiffPose (Gong et al., CVPR 2023): pre-train the context encoder, freeze it, train the denoiser."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from methods.base import PoseMethod, warmup_cosine
from methods.diffpose.context import centred, regression_loss, screen_joints
from methods.diffpose.denoisers import GraphDenoiser, GraphLifter
from methods.diffpose.initialisation import sample_uncertain_poses
from methods.diffpose.variants import Lifted, MixtureDiffusion, ReleasedDiffusion
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError

# What each variant is when nothing else is asked for.
_DEFAULTS: dict[str, dict[str, int]] = {
    "release": {
        "width": 96,
        "num_blocks": 5,
        "num_diffusion_steps": 51,
        "start_step": 24,
        "num_sampling_steps": 2,
        "num_hypotheses": 1,
    },
    "paper": {
        "width": 256,
        "num_blocks": 3,
        "num_diffusion_steps": 50,
        "start_step": 50,
        "num_sampling_steps": 5,
        "num_hypotheses": 5,
    },
}
_ENCODER = "encoder."


class DiffPose(PoseMethod):
    """Lifts the 2-D joints of one frame to 3-D by reverse diffusion from an uncertain pose.

    The context encoder is pre-trained, then frozen: either loaded from `context_checkpoint`, or trained in the first
    `context_epochs` epochs of the same run. Until the denoiser has been trained, the answer is the encoder's.

    Args:
        variant: `release` (what the authors published) or `paper` (what the paper describes).
        context_checkpoint: checkpoint of a trained `ContextEncoder`, or null to train one here.
        context_epochs: epochs of encoder training at the start of the run; ignored with a `context_checkpoint`.
        width: channels of the denoiser; null for the variant's own (96 and 256).
        num_blocks: of the denoiser; null for the variant's own (5 and 3).
        num_heads: of the attention.
        dropout: of the attention sub-layers.
        context_width: channels of the context encoder.
        context_blocks: of the context encoder.
        skeleton: joint order of the data, a name in `noise2pose.skeletons`.
        num_diffusion_steps: steps of the training schedule; null for the variant's own (51 and 50).
        start_step: release only: first step of sampling, 24 for detected and 12 for true 2-D; null for 24.
        num_sampling_steps: DDIM steps; null for the variant's own (2 and 5).
        num_hypotheses: N, averaged for the answer; null for the variant's own (1 and 5).
        uv_noise_scale: release only: noise on the image channels relative to that on x, y and z.
        num_components: paper only: M of the mixtures.
        num_mixture_samples: paper only: N_GMM, samples of H_K that a mixture is fitted to.
        num_em_iterations: paper only: of the fit.
        learning_rate: of Adam, for encoder and denoiser, at its peak.
        warmup_steps: optimiser steps of linear warm-up before each cosine.
    """

    depth_spread: Tensor
    denoiser_steps: Tensor

    def __init__(
        self,
        variant: Literal["release", "paper"] = "release",
        context_checkpoint: str | None = None,
        context_epochs: int = 0,
        width: int | None = None,
        num_blocks: int | None = None,
        num_heads: int = 4,
        dropout: float = 0.25,
        context_width: int = 96,
        context_blocks: int = 5,
        skeleton: str = "h36m_17",
        num_diffusion_steps: int | None = None,
        start_step: int | None = None,
        num_sampling_steps: int | None = None,
        num_hypotheses: int | None = None,
        uv_noise_scale: float = 0.5,
        num_components: int = 5,
        num_mixture_samples: int = 64,
        num_em_iterations: int = 10,
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        defaults = _DEFAULTS[variant]
        self.skeleton = skeletons.get(skeleton)
        self.context_checkpoint = context_checkpoint
        self.context_epochs = context_epochs
        self.num_mixture_samples = num_mixture_samples
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.title = f"DiffPose ({variant})"
        self.num_hypotheses = num_hypotheses or defaults["num_hypotheses"]

        self.encoder = GraphLifter(context_width, context_blocks, num_heads, dropout, self.skeleton.parents)
        sizes = (width or defaults["width"], num_blocks or defaults["num_blocks"], num_heads, dropout)
        num_steps = num_diffusion_steps or defaults["num_diffusion_steps"]
        sampling_steps = num_sampling_steps or defaults["num_sampling_steps"]
        if variant == "release":
            self.diffusion = ReleasedDiffusion(
                GraphDenoiser(5, *sizes, self.skeleton.parents),
                num_steps,
                start_step or defaults["start_step"],
                sampling_steps,
                uv_noise_scale,
            )
        else:
            self.diffusion = MixtureDiffusion(
                GraphDenoiser(3, *sizes, self.skeleton.parents, context_channels=context_width),
                num_steps,
                sampling_steps,
                num_components,
                num_em_iterations,
            )
        self.num_steps = len(self.diffusion.timesteps)
        # Running estimate of the encoder's error in depth, which spreads z in H_K; starts at what GraFormer-size
        # encoders reach on unseen subjects.
        self.register_buffer("depth_spread", torch.full((self.skeleton.num_joints,), 0.08))
        self.register_buffer("denoiser_steps", torch.zeros((), dtype=torch.int64))

    @property
    def pretraining(self) -> bool:
        """Whether this epoch trains the context encoder."""
        return self.context_checkpoint is None and self.current_epoch < self.context_epochs

    @property
    def selectable(self) -> bool:
        return not self.pretraining  # the encoder alone may be better, but it is not DiffPose

    def forward(self, batch: PoseBatch) -> Prediction:
        lifted = self._lift(batch)
        if self.denoiser_steps == 0:
            return {"joints_3d": lifted.pose}
        keys = keyed_random.keys_of(batch["sample_id"], device=lifted.pose.device)
        lifted = self._with_uncertainty(lifted, batch, keys)
        hypotheses = centred(self.diffusion.sample(lifted, self.num_hypotheses, keys), self.skeleton.root)
        prediction: Prediction = {"joints_3d": hypotheses.mean(dim=0), "hypotheses": hypotheses}
        if len(hypotheses) > 1:
            prediction["uncertainty"] = hypotheses.var(dim=0).sum(dim=-1).sqrt()
        return prediction

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        if self.pretraining:
            pose = centred(self.encoder(screen_joints(batch, self.skeleton)), self.skeleton.root)
            loss = regression_loss(pose, batch, self.skeleton.root)
            self.log("train/loss_context", loss, prog_bar=True)
        else:
            loss = self._diffusion_loss(batch)
            self.log("train/loss_diffusion", loss, prog_bar=True)
        self.log("train/loss", loss)
        if self.trainer.world_size > 1:
            # Data-parallel training waits for a gradient of every parameter; those at rest get zeros here and none in
            # `on_before_optimizer_step`.
            loss = loss + 0.0 * torch.stack([parameter.sum() for parameter in self._resting_parameters()]).sum()
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        for parameter in self._resting_parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> "DiffPose":
        super().train(mode)
        if self._trainer is not None and not self.pretraining:
            self.encoder.eval()
        return self

    def on_train_epoch_start(self) -> None:
        self.train()  # the encoder's mode changes with the epoch that ends its training

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit":
            return
        max_epochs = self.trainer.max_epochs or 0
        if self.context_checkpoint is not None:
            if not self.trainer.ckpt_path:  # a resumed run restores the encoder from its own checkpoint
                self.encoder.load_state_dict(_read_encoder(self.context_checkpoint, self.encoder))
        elif self.context_epochs < 1:
            raise InputError(
                "DiffPose needs a context encoder: give model.context_checkpoint, or model.context_epochs of at least 1"
            )
        elif 0 <= max_epochs <= self.context_epochs:
            raise InputError(
                f"trainer.max_epochs ({max_epochs}) must exceed model.context_epochs ({self.context_epochs}), or the "
                "denoiser is never trained"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        if not any(key.startswith(_ENCODER) for key in state):  # an imported GCNdiff carries the denoiser alone
            if self.context_checkpoint is None:
                raise InputError("the checkpoint holds a denoiser alone: give its encoder as model.context_checkpoint")
            encoder = _read_encoder(self.context_checkpoint, self.encoder)
            state.update({_ENCODER + key: value for key, value in encoder.items()})

    def configure_optimizers(self) -> dict[str, Any]:
        num_steps = int(self.trainer.estimated_stepping_batches)
        share = 0.0
        if self.context_checkpoint is None:
            share = self.context_epochs / (self.trainer.max_epochs or math.inf)
        context_steps = round(num_steps * share)
        groups = [
            {"params": list(self.encoder.parameters())},
            {"params": list(self.diffusion.parameters())},
        ]
        optimizer = torch.optim.Adam(groups, lr=self.learning_rate)
        factors = [
            warmup_cosine(context_steps, min(self.warmup_steps, context_steps // 2)),
            warmup_cosine(
                num_steps - context_steps, min(self.warmup_steps, (num_steps - context_steps) // 2), context_steps
            ),
        ]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factors), "interval": "step"},
        }

    def _lift(self, batch: PoseBatch) -> Lifted:
        screen = screen_joints(batch, self.skeleton)
        features = self.encoder.features(screen)
        return Lifted(screen, centred(self.encoder.output(features), self.skeleton.root), features)

    def _with_uncertainty(self, lifted: Lifted, batch: PoseBatch, keys: Int[Tensor, " B"]) -> Lifted:
        """Adds samples of H_K, which only the paper's variant starts from."""
        if not isinstance(self.diffusion, MixtureDiffusion):
            return lifted
        samples = sample_uncertain_poses(
            batch, lifted.pose, self.depth_spread, keys, self.num_mixture_samples, self.skeleton.root
        )
        return lifted._replace(uncertain_poses=samples)

    def _diffusion_loss(self, batch: PoseBatch) -> Tensor:
        target = centred(batch["keypoints_3d"][..., :3], self.skeleton.root)
        valid = batch["keypoints_3d"][..., 3]
        with torch.no_grad():
            lifted = self._lift(batch)
            error = ((lifted.pose - target)[..., 2] * valid).square().mean(dim=0).sqrt()
            self.depth_spread.lerp_(error, 0.01)
            keys = torch.randint(0, 2**62, (len(target),), device=target.device)
            lifted = self._with_uncertainty(lifted, batch, keys)
        self.denoiser_steps += 1
        return self.diffusion.loss(lifted, target, valid)

    def _resting_parameters(self) -> Iterator[Parameter]:
        """Parameters that this epoch does not train."""
        return self.diffusion.parameters() if self.pretraining else self.encoder.parameters()


def _read_encoder(path: str, encoder: GraphLifter) -> dict[str, Tensor]:
    """Weights of the `ContextEncoder` checkpoint at `path`, checked against the encoder they are for."""
    if not Path(path).is_file():
        raise InputError(
            f"model.context_checkpoint: {path} does not exist; train one with "
            "`python scripts/train.py fit -c configs/experiments/context_....yaml`, or set it to null"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:
        raise InputError(f"model.context_checkpoint: {path} cannot be read as a checkpoint ({error})") from error
    weights = {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
    expected = encoder.state_dict()
    if {key: value.shape for key, value in weights.items()} != {key: value.shape for key, value in expected.items()}:
        raise InputError(
            f"model.context_checkpoint: {path} does not hold an encoder of this size; set model.context_width and "
            "model.context_blocks to what it was trained with"
        )
    return weights
