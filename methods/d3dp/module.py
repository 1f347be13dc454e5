"""D3DP (Shan et al., ICCV 2023): several 3-D motions for the 2-D joints of a clip, denoised from white noise."""

from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.base import PoseMethod
from methods.d3dp import diffusion
from methods.d3dp.denoiser import Denoiser
from methods.lifting import (
    Normalisation,
    as_frames,
    centred,
    input_channels,
    input_joints,
    maybe_mirrored,
    towards_person,
    turned_back,
)
from methods.schedules import scheduled
from noise2pose import cameras, keyed_random, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError
from noise2pose.images.mirroring import mirror_batch, mirror_pose
from noise2pose.metrics import hypotheses
from noise2pose.metrics.functional import joint_error

Aggregation = Literal["mean", "closest_reprojection", "oracle"]

_NOISE = 1000  # of keyed_random: this and one more for each further call


class D3DP(PoseMethod):
    """Lifts the 2-D joints of a clip to N hypotheses of its 3-D poses, and combines them to one answer.

    Shape letters: B batch, N hypotheses, F frames, J joints, C channels of a 2-D joint.

    Args:
        num_frames: of a clip (published: 243).
        width: channels of the denoiser (published: 512).
        num_blocks: pairs of spatial and temporal attention (published: 8).
        num_heads: of the attention.
        drop_path: of whole residual paths in training (published: 0.1).
        num_diffusion_steps: T of the training schedule.
        num_sampling_steps: K, calls of the denoiser per hypothesis (published: 1 to 10).
        num_hypotheses: H in the paper (published: 5 to 20).
        aggregation: `mean` of the hypotheses (P-Agg), or for each joint the hypothesis of the `closest_reprojection`
            (J-Agg); `oracle`: the latter with the root of the ground truth, as in the published numbers.
        flip_augmentation: mirror half of the batches, at random, while training.
        flip_test: each call averages the answers to the clip and to its mirror image.
        normalisation: of the 2-D joints: `screen` coordinates as published, or the seen `limbs` within their box, for
            people at any place and size in images of any camera.
        skeleton: joint order of the data, a name in `noise2pose.skeletons`.
        learning_rate: of AdamW, at its peak (published: 6e-5 for batches of 4 clips of 243 frames).
        weight_decay: of AdamW.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    ranges = {"drop_path": (0, 1)}
    alphas_cumprod: Tensor

    def __init__(
        self,
        num_frames: int = 243,
        width: int = 512,
        num_blocks: int = 8,
        num_heads: int = 8,
        drop_path: float = 0.1,
        num_diffusion_steps: int = 1000,
        num_sampling_steps: int = 5,
        num_hypotheses: int = 5,
        aggregation: Aggregation = "mean",
        flip_augmentation: bool = True,
        flip_test: bool = True,
        normalisation: Normalisation = "screen",
        skeleton: str = "h36m_17",
        learning_rate: float = 6e-5,
        weight_decay: float = 0.1,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        if num_frames < 2:
            raise InputError("D3DP takes clips: set model.num_frames to 27, 81 or 243, and data.num_frames as well")
        if num_sampling_steps > num_diffusion_steps:
            raise InputError(
                f"model.num_sampling_steps is {num_sampling_steps}, expected 1 to model.num_diffusion_steps "
                f"({num_diffusion_steps})"
            )
        self.skeleton = skeletons.get(skeleton)
        self.num_frames = num_frames
        self.num_hypotheses = num_hypotheses
        self.num_steps = num_sampling_steps
        self.choose(aggregation)
        self.flip_augmentation = flip_augmentation
        self.flip_test = flip_test
        self.normalisation: Normalisation = normalisation
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.denoiser = Denoiser(
            num_frames, width, num_blocks, num_heads, drop_path, self.skeleton.num_joints, input_channels(normalisation)
        )
        self.timesteps = diffusion.ddim_timesteps(num_diffusion_steps, num_sampling_steps)
        alphas_cumprod = diffusion.cosine_alphas_cumprod(num_diffusion_steps)
        self.register_buffer("alphas_cumprod", alphas_cumprod, persistent=False)

    def choose(self, selector: Aggregation) -> None:
        """Sets another aggregation, which needs no training.

        Raises:
            InputError: if the name is unknown.
        """
        if selector not in get_args(Aggregation):
            raise InputError(f"selector `{selector}` is unknown, expected one of {', '.join(get_args(Aggregation))}")
        self.aggregation: Aggregation = selector
        self.title = "D3DP" if selector == "mean" else f"D3DP ({selector})"

    @property
    def needs_ground_truth(self) -> bool:
        return self.aggregation == "oracle"

    def forward(self, batch: PoseBatch) -> Prediction:
        batch, rotation = towards_person(batch, self.skeleton, self.normalisation)
        poses = self._sample(batch)
        prediction: Prediction = {"joints_3d": self._aggregate(poses, batch), "hypotheses": poses}
        if len(poses) > 1:
            prediction["uncertainty"] = hypotheses.spread(poses)
        return turned_back(prediction, rotation)

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        if self.flip_augmentation:
            batch = maybe_mirrored(batch, self.skeleton)
        batch, _ = towards_person(batch, self.skeleton, self.normalisation)
        target = centred(batch["keypoints_3d"][..., :3], self.skeleton.root)
        valid = batch["keypoints_3d"][..., 3]
        steps = torch.randint(0, len(self.alphas_cumprod), (len(target),), device=target.device)
        alpha = self.alphas_cumprod[steps, None, None, None]
        noisy = diffusion.add_noise(target, torch.randn_like(target), alpha)
        error = joint_error(self.denoiser(self._joints_2d(batch), noisy, steps), target)
        error = (error * valid).sum() / valid.sum().clamp_min(1.0)
        # The release multiplies the gradient of the mean error by the error: the gradient of half its square.
        loss = error.square() / 2.0
        self.log("train/loss_mpjpe", error, prog_bar=True)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        return scheduled(optimizer, self.warmup_steps, range(int(self.trainer.estimated_stepping_batches)))

    def _joints_2d(self, batch: PoseBatch) -> Float[Tensor, "B F J C"]:
        return input_joints(batch, self.skeleton, self.num_frames, self.normalisation)

    def _sample(self, batch: PoseBatch) -> Float[Tensor, "N B F J 3"]:
        """Hypotheses, relative to the root."""
        joints_2d = self._joints_2d(batch)
        mirrored = self._joints_2d(mirror_batch(batch, self.skeleton)) if self.flip_test else None
        keys: Int[Tensor, " B"] = keyed_random.keys_of(batch["sample_id"], device=joints_2d.device)
        shape = (self.num_hypotheses, *joints_2d.shape[1:3], 3)

        def draw(call: int) -> Float[Tensor, "B N F J 3"]:
            return keyed_random.normal(keys, shape, stream=_NOISE + call).to(joints_2d.dtype)

        def predict_clean(noisy: Float[Tensor, "B N F J 3"], step: int) -> Float[Tensor, "B N F J 3"]:
            steps = torch.full_like(keys, step)
            clean = self.denoiser(joints_2d, noisy, steps)
            if mirrored is None:
                return clean
            other = self.denoiser(mirrored, mirror_pose(noisy, self.skeleton), steps)
            return (clean + mirror_pose(other, self.skeleton)) / 2.0

        poses = diffusion.ddim_sample(predict_clean, draw, self.alphas_cumprod, self.timesteps).transpose(0, 1)
        # As the release: the network learns to put the root at the origin, and poses are not moved by what it is off.
        at_root = torch.arange(self.skeleton.num_joints, device=poses.device) == self.skeleton.root
        return poses.masked_fill(at_root[:, None], 0.0)

    def _aggregate(self, poses: Float[Tensor, "N B F J 3"], batch: PoseBatch) -> Float[Tensor, "B F J 3"]:
        mean = poses.mean(dim=0)
        if self.aggregation == "mean":
            return mean
        frames = as_frames(batch, self.num_frames)
        focal, principal_point = frames["camera"]["focal"], frames["camera"]["principal_point"]
        pixels, confidence = frames["keypoints_2d"][..., :2], frames["keypoints_2d"][..., 2].clamp_min(0.0)
        if self.aggregation == "oracle":
            if "keypoints_3d" not in frames:
                raise InputError("model.aggregation is oracle, which needs ground truth: set it to mean to predict")
            translation = frames["keypoints_3d"][:, self.skeleton.root, :3]
        else:
            translation = cameras.fit_translation(mean.flatten(0, 1), pixels, confidence, focal, principal_point)
        closest = hypotheses.closest_by_reprojection(poses.flatten(1, 2), pixels, translation, focal, principal_point)
        return closest.unflatten(0, mean.shape[:2])
