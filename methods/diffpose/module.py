"""DiffPose (Gong et al., CVPR 2023): pre-train the context encoder, freeze it, train the denoiser."""

from typing import Any, Literal

import lightning as L
import torch
from jaxtyping import Int
from torch import Tensor

from methods.diffpose import initialisation
from methods.diffpose.answers import Aggregation, aggregate, centred_hypotheses
from methods.diffpose.context import (
    Encoder,
    build_encoder,
    encode,
    encoder_loss,
    read_encoder,
)
from methods.diffpose.denoisers import GraphDenoiser
from methods.diffpose.mixture_diffusion import MixtureDiffusion, StandardDiffusion
from methods.diffpose.residual import ResidualDenoiser
from methods.diffpose.settings import Variant, resolve_settings
from methods.diffpose.variants import Lifted, Regression, ReleasedDiffusion
from methods.lifting import (
    Normalisation,
    PointLoss,
    as_frames,
    centred,
    frame_keys,
    maybe_mirrored,
    towards_person,
    turned_back,
)
from methods.spread import SpreadMethod, SpreadSource
from methods.staged import Group, StagedMethod
from noise2pose import skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError
from noise2pose.metrics import hypotheses

_ENCODER = "encoder."


class DiffPose(SpreadMethod, StagedMethod):
    """Lifts the 2-D joints of a frame or of a clip to 3-D by reverse diffusion from an uncertain pose.

    The context encoder is pre-trained, then frozen: either loaded from `context_checkpoint`, or trained in the first
    `context_epochs` epochs of the same run. Until the denoiser has been trained, the answer is the encoder's. The
    frames of a clip share their random numbers, and are denoised each with its own features of the encoder, which sees
    the whole clip.

    Args:
        variant: `release` (what the authors published), `paper` (what the paper describes), or one of the paper's
            ablations: `standard` (Stand-Diff), `single_step` (Baseline A), `stacked` (Baseline B).
        context_checkpoint: checkpoint of a trained `ContextEncoder`, or null to train one here.
        context_epochs: epochs of encoder training at the start of the run; ignored with a `context_checkpoint`.
        encoder: `graph` for single frames, `mixste` for clips, or the faster `residual` for either.
        denoiser: `graph` as published, or the faster `residual`.
        num_frames: of a clip, 1 for single frames.
        causal: clips only: a frame sees itself and those before it, for real time.
        width: channels of the denoiser; null for the variant's own (96 and 256).
        temporal_denoiser: clips only: after each block of the denoiser, each joint is convolved over the frames.
        num_blocks: of the denoiser; null for the variant's own (5 and 3).
        num_heads: of the attention.
        dropout: of the attention sub-layers.
        context_width: channels of the context encoder.
        context_blocks: of the context encoder.
        context_loss: of the context encoder: mean `squared` error as published, or mean `distance`.
        context_heads, context_dropout, context_learning_rate: of the context encoder, where it differs from the
            denoiser; null for the same.
        flip_augmentation: mirror half of the batches, at random, while training.
        flip_test: the encoder's pose is the mean of its answers to the image and to its mirror image.
        normalisation: of the 2-D joints: `screen` coordinates as published, or the seen `limbs` within their box, for
            people at any place and size in images of any camera.
        skeleton: joint order of the data, a name in `noise2pose.skeletons`.
        num_diffusion_steps: K, steps of the training schedule; null for the variant's own (51 and 50).
        start_step: release only: first step of sampling, 24 for detected and 12 for true 2-D.
        num_sampling_steps: denoiser calls of the DDIM chain, or networks of the stack; null for the variant's own (2
            for the release, 10 for the paper's hypotheses, 5 for the stack).
        answer_calls: paper only: the pose is answered by the mean after so many of these calls, and the hypotheses are
            centred on it; null for 1. `num_sampling_steps` for the mean of the hypotheses, as the paper has it.
        state_skip: paper only: the denoiser corrects the best linear estimate from the encoder's pose and the noisy
            state (a Wiener filter), not the pose alone, so that hypotheses keep the spread of the uncertainty.
        num_hypotheses: N; null for the variant's own (5, or 1 where nothing is random). With 1
            only the `answer_calls` are made, from the mean of H_K: the answer is as good, and there is no spread.
        aggregation: `mean` of the hypotheses, or a mean weighted by `reprojection` error, for each joint.
        spread_scale: `validation`: the hypotheses' deviations from the answer are multiplied by the factor that fits
            the errors best, found at the end of each validation of a fit and kept with the weights; `none`: they are as
            the chain gives them.
        uv_noise_scale: release only: noise on the image channels relative to that on x, y and z.
        depth_from: paper only: z of H_K from the `encoder` or from the `histogram` of the training poses.
        num_components: paper only: M of the mixtures.
        mixture_of: paper only: components are whole poses (`pose`), or each `joint` has its own mixture.
        covariance: paper only: of the components, `diagonal` or `full`.
        num_mixture_samples: paper only: N_GMM, samples of H_K for the fit of a mixture.
        num_em_iterations: paper only: of the fit.
        learning_rate: of Adam, at its peak.
        warmup_steps: optimiser steps of linear warm-up before each cosine.
    """

    first_stage_option = "context_epochs"
    weight_files = ("context_checkpoint",)
    depth_spread: Tensor
    depth_histogram: Tensor
    denoiser_steps: Tensor

    def __init__(
        self,
        variant: Variant = "release",
        context_checkpoint: str | None = None,
        context_epochs: int = 0,
        encoder: Encoder = "graph",
        denoiser: Literal["graph", "residual"] = "graph",
        num_frames: int = 1,
        causal: bool = False,
        width: int | None = None,
        temporal_denoiser: bool = False,
        num_blocks: int | None = None,
        num_heads: int = 4,
        dropout: float = 0.25,
        context_width: int = 96,
        context_blocks: int = 5,
        context_loss: PointLoss = "squared",
        context_heads: int | None = None,
        context_dropout: float | None = None,
        flip_augmentation: bool = False,
        flip_test: bool = False,
        normalisation: Normalisation = "screen",
        skeleton: str = "h36m_17",
        num_diffusion_steps: int | None = None,
        start_step: int = 24,
        num_sampling_steps: int | None = None,
        answer_calls: int | None = None,
        state_skip: bool = True,
        num_hypotheses: int | None = None,
        aggregation: Aggregation = "mean",
        spread_scale: SpreadSource = "validation",
        uv_noise_scale: float = 0.5,
        depth_from: Literal["encoder", "histogram"] = "encoder",
        num_components: int = 5,
        mixture_of: Literal["pose", "joint"] = "pose",
        covariance: Literal["diagonal", "full"] = "diagonal",
        num_mixture_samples: int = 64,
        num_em_iterations: int = 10,
        learning_rate: float = 1e-3,
        context_learning_rate: float | None = None,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        settings = resolve_settings(
            variant, num_components, num_mixture_samples, width=width, num_blocks=num_blocks,
            num_diffusion_steps=num_diffusion_steps, num_sampling_steps=num_sampling_steps, answer_calls=answer_calls,
            num_hypotheses=num_hypotheses,
        )  # fmt: skip
        if temporal_denoiser and (num_frames == 1 or variant == "release"):
            raise InputError("model.temporal_denoiser needs clips and another variant than release")
        self.skeleton = skeletons.get(skeleton)
        self.context_checkpoint = context_checkpoint
        self.first_stage_epochs = context_epochs if context_checkpoint is None else 0
        self.num_frames = num_frames
        self.flip_augmentation = flip_augmentation
        self.flip_test = flip_test
        self.normalisation: Normalisation = normalisation
        self.context_loss: PointLoss = context_loss
        self.aggregation: Aggregation = aggregation
        self.depth_from = depth_from
        self.num_mixture_samples = num_mixture_samples
        self.learning_rate = learning_rate
        self.first_learning_rate = context_learning_rate
        self.warmup_steps = warmup_steps
        self.title = settings.title
        self.num_hypotheses = settings.num_hypotheses

        heads = num_heads if context_heads is None else context_heads
        drop = dropout if context_dropout is None else context_dropout
        self.encoder = build_encoder(
            encoder, context_width, context_blocks, heads, drop, num_frames, causal, self.skeleton, normalisation
        )
        steps, sampling_steps = settings.num_diffusion_steps, settings.num_sampling_steps

        def new_denoiser(channels: int, context_channels: int) -> GraphDenoiser | ResidualDenoiser:
            clip = num_frames if temporal_denoiser else 1
            if denoiser == "residual":
                sizes = (settings.width, settings.num_blocks, dropout, self.skeleton.num_joints)
                return ResidualDenoiser(channels, *sizes, context_channels, clip, causal)
            sizes = (settings.width, settings.num_blocks, num_heads, dropout)
            return GraphDenoiser(channels, *sizes, self.skeleton.parents, context_channels, clip, causal)

        self.diffusion: ReleasedDiffusion | MixtureDiffusion | Regression
        if variant == "release":
            self.diffusion = ReleasedDiffusion(new_denoiser(5, 0), steps, start_step, sampling_steps, uv_noise_scale)
        elif variant in ("single_step", "stacked"):
            self.diffusion = Regression([new_denoiser(3, context_width) for _ in range(sampling_steps)])
        else:
            chain = (
                *(steps, sampling_steps, self.skeleton.num_joints, num_frames),
                *(settings.answer_calls, state_skip),
            )
            if variant == "standard":
                self.diffusion = StandardDiffusion(new_denoiser(3, context_width), *chain)
            else:
                mixture = (num_components, mixture_of, covariance, num_em_iterations)
                self.diffusion = MixtureDiffusion(new_denoiser(3, context_width), *chain, *mixture)
        self.num_steps = len(self.diffusion.timesteps)
        # Running estimate of the encoder's error in depth, the spread of z in H_K; it starts as on unseen people.
        self.register_buffer("depth_spread", torch.full((self.skeleton.num_joints,), 0.08))
        self.register_buffer("depth_histogram", initialisation.empty_histogram(self.skeleton.num_joints))
        self.register_buffer("denoiser_steps", torch.zeros((), dtype=torch.int64))
        self.add_spread(spread_scale, self.skeleton.root)

    def forward(self, batch: PoseBatch) -> Prediction:
        batch, rotation = towards_person(batch, self.skeleton, self.normalisation)
        lifted = self._lift(batch)
        clip = (len(batch["keypoints_2d"]), self.num_frames) if self.num_frames > 1 else (len(lifted.pose),)
        if self.denoiser_steps == 0:
            return turned_back({"joints_3d": lifted.pose.unflatten(0, clip)}, rotation)
        frames = as_frames(batch, self.num_frames)
        keys = frame_keys(batch, self.num_frames, lifted.pose.device)
        lifted = self._with_uncertainty(lifted, frames, keys)
        samples = self.diffusion.sample(lifted, self.num_hypotheses, keys)
        poses = centred_hypotheses(samples, self.skeleton.root, self.spread_factor)
        answer = aggregate(poses, frames, lifted.pose, self.aggregation, self.skeleton.root)
        prediction: Prediction = {
            "joints_3d": answer.unflatten(0, clip),
            "hypotheses": poses.unflatten(1, clip),
        }
        if len(poses) > 1:
            prediction["uncertainty"] = hypotheses.spread(poses).unflatten(0, clip)
        return turned_back(prediction, rotation)

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        if self.flip_augmentation:
            batch = maybe_mirrored(batch, self.skeleton)
        batch, _ = towards_person(batch, self.skeleton, self.normalisation)
        if self.in_first_stage:
            kind = self.context_loss
            loss = encoder_loss(self.encoder, batch, self.skeleton, self.num_frames, self.normalisation, kind)
            self.log("train/loss_context", loss, prog_bar=True)
        else:
            loss = self._diffusion_loss(batch)
            self.log("train/loss_diffusion", loss, prog_bar=True)
        self.log("train/loss", loss)
        return self.with_frozen_parameters(loss)

    def stage_groups(self) -> tuple[list[Group], list[Group]]:
        # Without weight decay AdamW is Adam.
        return [(0.0, list(self.encoder.parameters()))], [(0.0, list(self.diffusion.parameters()))]

    def train(self, mode: bool = True) -> "DiffPose":
        super().train(mode)
        if not self.in_first_stage:
            self.encoder.eval()
        return self

    def check_training(self, trainer: L.Trainer, resumed: bool) -> None:
        if self.context_checkpoint is None and self.first_stage_epochs < 1:
            raise InputError(
                "DiffPose needs a context encoder: give model.context_checkpoint, or model.context_epochs of at least 1"
            )
        super().check_training(trainer, resumed)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        # A resumed run restores the encoder from its own checkpoint.
        if stage == "fit" and self.context_checkpoint is not None and not self.resumed:
            self.encoder.load_state_dict(read_encoder(self.context_checkpoint, self.encoder))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        if not any(key.startswith(_ENCODER) for key in state):  # an imported GCNdiff holds the denoiser only
            if self.context_checkpoint is None:
                raise InputError("the checkpoint holds a denoiser only: give its encoder as model.context_checkpoint")
            encoder = read_encoder(self.context_checkpoint, self.encoder)
            state.update({_ENCODER + key: value for key, value in encoder.items()})

    def _lift(self, batch: PoseBatch) -> Lifted:
        """The encoder's output for each frame; the frames of clips one after the other."""
        flip = self.flip_test and not self.training
        encoded = encode(self.encoder, batch, self.skeleton, self.num_frames, flip, self.normalisation)
        return Lifted(*(part.flatten(0, -3) for part in encoded if part is not None))

    def _with_uncertainty(self, lifted: Lifted, frames: PoseBatch, keys: Int[Tensor, " B"]) -> Lifted:
        """Adds samples of H_K, if the variant starts from them."""
        if not self.diffusion.starts_from_samples:
            return lifted
        if self.depth_from == "encoder":
            depths = initialisation.encoder_depths(lifted.pose, self.depth_spread, keys, self.num_mixture_samples)
        else:
            depths = initialisation.histogram_depths(self.depth_histogram, keys, self.num_mixture_samples)
        samples = initialisation.sample_uncertain_poses(frames, lifted.pose, depths, keys, self.skeleton.root)
        return lifted._replace(uncertain_poses=samples)

    def _diffusion_loss(self, batch: PoseBatch) -> Tensor:
        with torch.no_grad():
            lifted = self._lift(batch)
            frames = as_frames(batch, self.num_frames)
            target = centred(frames["keypoints_3d"][..., :3], self.skeleton.root)
            valid = frames["keypoints_3d"][..., 3]
            squared = ((lifted.pose - target)[..., 2] * valid).square().sum(dim=0)
            error = (squared / valid.sum(dim=0).clamp_min(1.0)).sqrt()
            self.depth_spread.lerp_(error, 0.01)
            initialisation.count_depths(self.depth_histogram, target[..., 2], valid)
            keys = torch.randint(0, 2**62, (len(target) // self.num_frames,), device=target.device)
            keys = keys.repeat_interleave(self.num_frames)
            lifted = self._with_uncertainty(lifted, frames, keys)
        self.denoiser_steps += 1
        return self.diffusion.loss(lifted, target, valid)
