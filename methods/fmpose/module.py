"""FMPose3D (CVPR 2026): a pose flows from noise to where the 2-D joints say, in few steps of Euler's method."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.base import PoseMethod
from methods.fmpose import aggregation as rules
from methods.fmpose.flow import Network, UncertainStart, euler, flow_loss
from methods.fmpose.networks import Rates, VelocityNetwork
from methods.fmpose.residual import ResidualVelocity
from methods.lifting import (
    Normalisation,
    centred,
    frame_keys,
    input_channels,
    input_joints,
    limbs_of,
    maybe_mirrored,
    towards_person,
    turned_back,
)
from methods.schedules import scheduled
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError
from noise2pose.images.mirroring import mirror_batch, mirror_pose
from noise2pose.metrics import hypotheses

Aggregation = Literal["mean", "reprojection", "oracle"]
_AGGREGATIONS = ("mean", "reprojection", "oracle")
_STREAM = 250  # of keyed_random


class FMPose(PoseMethod):
    """Lifts the 2-D joints of a frame to 3-D by flow matching; no encoder, no pre-training.

    Args:
        start: of the paths: `gaussian` noise of one metre, as published, or `uncertain`: the 2-D joints laid out flat
            at the size of a body, with the spread of true poses around them.
        network: `graph` as published, or `residual`, without graph or attention, for training on a CPU.
        width: channels per joint of the blocks (published: 512).
        num_blocks: of graph convolution and attention (published: 5), or of two layers (residual).
        num_heads: graph only: of the attention (published: 8).
        hidden: graph only: units of the two-layer nets (published: 1024).
        dropout: of the two-layer nets (published: 0.1).
        attention_dropout: graph only: of the attention's weights.
        output_dropout: graph only: of the attention's output.
        drop_path: graph only: of whole residual branches in the last block; it grows linearly from 0 in the first.
        flip_augmentation: mirror half of the batches, at random, while training.
        flip_test: as many hypotheses again from the mirror image.
        normalisation: of the 2-D joints: `screen` coordinates as published, or the seen `limbs` within their box, for
            people at any place and size in images of any camera.
        skeleton: joint order of the data, a name in `noise2pose.skeletons`.
        num_sampling_steps: of Euler's method (published: 3).
        num_hypotheses: N, combined to one answer; the mirror image's are further ones.
        aggregation: `mean` of the hypotheses; `reprojection`: of those that fit the detection of a joint best, with a
            position of the person that is fitted to the detections; `oracle`: the same with the true position, as the
            authors evaluate, which is logged under `oracle/` and cannot predict.
        num_nearest: hypotheses of a joint that reprojection averages (published: 8).
        temperature: of their weights, in screen coordinates (published: 0.005).
        learning_rate: of Adam, at its peak.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    ranges = {"drop_path": (0.0, 0.9), "temperature": (1e-6, 1e6)}

    def __init__(
        self,
        start: Literal["gaussian", "uncertain"] = "gaussian",
        network: Literal["graph", "residual"] = "graph",
        width: int = 512,
        num_blocks: int = 5,
        num_heads: int = 8,
        hidden: int = 1024,
        dropout: float = 0.1,
        attention_dropout: float = 0.2,
        output_dropout: float = 0.25,
        drop_path: float = 0.2,
        flip_augmentation: bool = False,
        flip_test: bool = False,
        normalisation: Normalisation = "screen",
        skeleton: str = "h36m_17",
        num_sampling_steps: int = 3,
        num_hypotheses: int = 8,
        aggregation: Aggregation = "mean",
        num_nearest: int = 8,
        temperature: float = 0.005,
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.skeleton = skeletons.get(skeleton)
        self.flip_augmentation = flip_augmentation
        self.flip_test = flip_test
        self.normalisation: Normalisation = normalisation
        self.num_nearest = num_nearest
        self.temperature = temperature
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.num_steps = num_sampling_steps
        self.num_hypotheses = num_hypotheses * (2 if flip_test else 1)
        channels = input_channels(normalisation)
        self.network: Network
        if network == "residual":
            self.network = ResidualVelocity(self.skeleton.num_joints, width, num_blocks, channels, dropout)
        else:
            rates = Rates(dropout, attention_dropout, output_dropout, drop_path)
            self.network = VelocityNetwork(self.skeleton, width, num_blocks, num_heads, hidden, channels, rates)
        self.start = UncertainStart(self.skeleton, normalisation == "limbs") if start == "uncertain" else None
        self.choose(aggregation)

    def choose(self, selector: Aggregation) -> None:
        """Sets another aggregation, which needs no training.

        Raises:
            InputError: if the name is unknown.
        """
        if selector not in _AGGREGATIONS:
            raise InputError(f"selector `{selector}` is unknown, expected one of {', '.join(_AGGREGATIONS)}")
        self.aggregation: Aggregation = selector
        kind = [] if self.start is None else ["uncertain start"]
        kind += [] if selector == "mean" else [selector]
        self.title = f"FMPose3D ({', '.join(kind)})" if kind else "FMPose3D"

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
        pose_2d = input_joints(batch, self.skeleton, normalisation=self.normalisation)
        pose = centred(batch["keypoints_3d"][..., :3], self.skeleton.root)
        valid = batch["keypoints_3d"][..., 3]
        noise, time = torch.randn_like(pose), torch.rand_like(pose[:, 0, 0])
        if self.start is not None:
            self.start.observe(batch["keypoints_2d"], pose, valid)
        loss = flow_loss(self.network, pose_2d, self._start(batch, noise), pose, time, valid)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate, amsgrad=True)
        return scheduled(optimizer, self.warmup_steps, range(int(self.trainer.estimated_stepping_batches)))

    def _start(self, batch: PoseBatch, noise: Float[Tensor, "*N B J 3"]) -> Float[Tensor, "*N B J 3"]:
        """Starts of the paths, from standard normal noise."""
        return noise if self.start is None else self.start(batch["keypoints_2d"], noise)

    def _sample(self, batch: PoseBatch) -> Float[Tensor, "N B J 3"]:
        """Hypotheses, root-relative; the second half are those of the mirror image if there are any."""
        keypoints = batch["keypoints_2d"]
        shape = (self.num_hypotheses, self.skeleton.num_joints, 3)
        keys = frame_keys(batch, 1, keypoints.device)
        noise = keyed_random.normal(keys, shape, stream=_STREAM).to(keypoints.dtype).transpose(0, 1)
        views = [batch, mirror_batch(batch, self.skeleton)] if self.flip_test else [batch]
        poses = []
        for view, part in zip(views, noise.chunk(len(views)), strict=True):
            pose_2d = input_joints(view, self.skeleton, normalisation=self.normalisation)
            sampled = euler(self.network, pose_2d, self._start(view, part), self.num_steps)
            poses.append(sampled if view is batch else mirror_pose(sampled, self.skeleton))
        return centred(torch.cat(poses), self.skeleton.root)

    def _aggregate(self, poses: Float[Tensor, "N B J 3"], batch: PoseBatch) -> Float[Tensor, "B J 3"]:
        if self.aggregation == "mean":
            return poses.mean(dim=0)
        oracle = self.aggregation == "oracle"
        root = rules.true_root(batch, self.skeleton.root) if oracle else rules.fitted_root(poses, batch)
        counted = batch["keypoints_2d"][..., 2] > 0
        if self.normalisation == "limbs":
            counted = counted & limbs_of(self.skeleton).to(counted.device)
        distance = rules.screen_distance(poses, root, batch)
        return rules.average_nearest(poses, distance, counted, self.num_nearest, self.temperature)
