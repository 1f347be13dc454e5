"""The context encoder of DiffPose for single frames: a GraFormer-style lifter, and the baseline of every table."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from methods.base import PoseMethod, warmup_cosine
from methods.diffpose.denoisers import GraphLifter
from noise2pose import cameras, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError


class ContextEncoder(PoseMethod):
    """Lifts the 2-D joints of one frame to 3-D; DiffPose freezes it and starts from its answer.

    Trained as GraFormer was ([52] in the paper): mean squared error on root-relative joints in metres, Adam at 1e-3.

    Args:
        width: channels of the blocks (release: 96).
        num_blocks: of graph attention and convolution (release: 5).
        num_heads: of the attention (release: 4).
        dropout: of the attention sub-layers (release: 0.25).
        skeleton: joint order of the data, a name in `noise2pose.skeletons`.
        learning_rate: of Adam, at its peak.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    title = "context encoder"

    def __init__(
        self,
        width: int = 96,
        num_blocks: int = 5,
        num_heads: int = 4,
        dropout: float = 0.25,
        skeleton: str = "h36m_17",
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.skeleton = skeletons.get(skeleton)
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.network = GraphLifter(width, num_blocks, num_heads, dropout, self.skeleton.parents)

    def forward(self, batch: PoseBatch) -> Prediction:
        pose = self.network(screen_joints(batch, self.skeleton))
        return {"joints_3d": centred(pose, self.skeleton.root)}

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        loss = regression_loss(self(batch)["joints_3d"], batch, self.skeleton.root)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, warmup_cosine(num_steps, min(self.warmup_steps, num_steps // 2)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def screen_joints(batch: PoseBatch, skeleton: skeletons.Skeleton) -> Float[Tensor, "B J 2"]:
    """2-D joints of a batch in screen coordinates: x in [-1, 1] across the image, y in the same unit.

    Raises:
        InputError: if the batch has another number of joints than the skeleton, or clips instead of frames.
    """
    keypoints = batch["keypoints_2d"]
    if keypoints.ndim != 3 or keypoints.shape[-2] != skeleton.num_joints:
        raise InputError(
            f"keypoints_2d has shape {tuple(keypoints.shape)}; this method takes single frames of "
            f"{skeleton.num_joints} joints in the order of {skeleton.name}: (batch, {skeleton.num_joints}, 3)"
        )
    return cameras.to_screen(keypoints[..., :2], batch["camera"]["image_size"][:, None])


def centred(pose: Float[Tensor, "*batch J 3"], root: int) -> Float[Tensor, "*batch J 3"]:
    """The pose relative to its root joint. Out of place: in place, the root would alias the subtrahend."""
    return pose - pose[..., root : root + 1, :]


def regression_loss(pose: Float[Tensor, "B J 3"], batch: PoseBatch, root: int) -> Float[Tensor, ""]:
    """Mean squared error of root-relative joints, over the valid ones."""
    target, valid = batch["keypoints_3d"][..., :3], batch["keypoints_3d"][..., 3:]
    squared = F.mse_loss(pose, centred(target, root), reduction="none") * valid
    return squared.sum() / (3.0 * valid.sum()).clamp_min(1.0)
