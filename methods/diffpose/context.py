"""The context encoder of DiffPose: it lifts 2-D joints directly, and is the baseline of every table.

For single frames it is the graph network of the release (GraFormer), for clips MixSTE, for either a residual one, which
is faster.

Shape letters: B batch, F frames (clips only), J joints, W width.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.base import PoseMethod
from methods.checkpoints import read_checkpoint
from methods.diffpose.denoisers import GraphLifter
from methods.diffpose.residual import ResidualLifter
from methods.diffpose.variants import Lifted
from methods.lifting import (
    Normalisation,
    PointLoss,
    centred,
    input_channels,
    input_joints,
    joint_errors,
    maybe_mirrored,
    towards_person,
    turned_back,
)
from methods.networks.mixste import MixSTE
from methods.official_weights import check
from methods.schedules import scheduled
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError
from noise2pose.images.mirroring import mirror_batch, mirror_pose

Encoder = Literal["graph", "residual", "mixste"]
Network = GraphLifter | ResidualLifter | MixSTE
_GAUSSIAN = 43  # stream of keyed_random
_LEAST_DEVIATION, _DEVIATION_SCALE = 1e-3, 0.1  # metres


class ContextEncoder(PoseMethod):
    """Lifts the 2-D joints of a frame or of a clip to 3-D; DiffPose freezes it and starts from its answer.

    Trained as GraFormer was ([52] in the paper): mean squared error on root-relative joints in metres, Adam at 1e-3.
    With a Gaussian head it also says how far each coordinate may be off, in one call and without diffusion: the control
    for the uncertainty that diffusion gives.

    Args:
        encoder: `graph` for single frames, `mixste` for clips, or the faster `residual` for either.
        width: channels per joint of the blocks (release: 96; MixSTE: 512).
        head: `points`, or `gaussian`: mean and deviation of each coordinate, trained by their likelihood.
        num_hypotheses: gaussian only: N, drawn from the Gaussians and centred on the mean, which is the answer.
        num_blocks: of graph attention and convolution (release: 5), of two layers (residual), or of spatial and
            temporal attention (MixSTE: 8).
        num_heads: of the attention (release: 4; MixSTE: 8).
        dropout: of the attention sub-layers (release: 0.25); for MixSTE, of whole residual paths (published: 0.1).
        num_frames: of a clip, 1 for single frames.
        causal: clips only: a frame sees itself and those before it, for real time.
        flip_augmentation: mirror half of the batches, at random, while training.
        flip_test: average the answers to the image and to its mirror image.
        normalisation: of the 2-D joints: `screen` coordinates as published, or the seen `limbs` within their box, for
            people at any place and size in images of any camera.
        skeleton: joint order of the data, a name in `noise2pose.skeletons`.
        frame_checkpoint: residual clips only: a trained encoder of single frames, with the same width and blocks, from
            which the training of this one starts, or null.
        loss: points only: mean `squared` error, as published, or mean `distance`.
        learning_rate: of Adam, at its peak.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    title = "context encoder"
    weight_files = ("frame_checkpoint",)
    deviation: nn.Linear | None

    def __init__(
        self,
        encoder: Encoder = "graph",
        width: int = 96,
        head: Literal["points", "gaussian"] = "points",
        num_hypotheses: int = 5,
        num_blocks: int = 5,
        num_heads: int = 4,
        dropout: float = 0.25,
        num_frames: int = 1,
        causal: bool = False,
        flip_augmentation: bool = False,
        flip_test: bool = False,
        normalisation: Normalisation = "screen",
        skeleton: str = "h36m_17",
        frame_checkpoint: str | None = None,
        loss: PointLoss = "squared",
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.skeleton = skeletons.get(skeleton)
        self.num_frames = num_frames
        self.flip_augmentation = flip_augmentation
        self.flip_test = flip_test
        self.normalisation: Normalisation = normalisation
        self.loss: PointLoss = loss
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        if frame_checkpoint is not None and (encoder != "residual" or num_frames == 1):
            raise InputError("model.frame_checkpoint needs clips and encoder residual")
        self.frame_checkpoint = frame_checkpoint
        self._sizes = (encoder, width, num_blocks, num_heads, dropout)
        self.network = build_encoder(*self._sizes, num_frames, causal, self.skeleton, normalisation)
        # Beside the network, which DiffPose takes with either head.
        self.deviation = None
        if head == "gaussian":
            self.title = "context encoder, Gaussian head"
            self.num_hypotheses = num_hypotheses
            self.deviation = nn.Linear(width, 3)
            nn.init.zeros_(self.deviation.weight)
            nn.init.zeros_(self.deviation.bias)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.frame_checkpoint is not None and not self.resumed:
            frames = build_encoder(*self._sizes, 1, False, self.skeleton, self.normalisation)
            weights = read_encoder(self.frame_checkpoint, frames, "model.frame_checkpoint")
            self.network.load_state_dict(weights, strict=False)  # what only clips have starts as no change

    def forward(self, batch: PoseBatch) -> Prediction:
        batch, rotation = towards_person(batch, self.skeleton, self.normalisation)
        lifted = encode(self.network, batch, self.skeleton, self.num_frames, self.flip_test, self.normalisation)
        if self.deviation is None:
            return turned_back({"joints_3d": lifted.pose}, rotation)
        deviation = self._deviations(self.deviation, lifted.features)
        number, joints = self.num_hypotheses, lifted.pose.shape[-2]
        keys = keyed_random.keys_of(batch["sample_id"], device=lifted.pose.device)
        noise = keyed_random.normal(keys, (number, joints, 3), stream=_GAUSSIAN).to(lifted.pose.dtype).transpose(0, 1)
        noise = noise if self.num_frames == 1 else noise[:, :, None]  # the same for all frames, so clips do not jitter
        # Intervals of hypotheses allow for an error of their mean (`calibration.half_width`), which these have not.
        noise = (noise - noise.mean(dim=0)) / math.sqrt(1.0 + 1.0 / number)
        prediction: Prediction = {
            "joints_3d": lifted.pose,
            "hypotheses": lifted.pose + deviation * noise,
            "uncertainty": deviation.square().sum(dim=-1).sqrt(),
        }
        return turned_back(prediction, rotation)

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        if self.flip_augmentation:
            batch = maybe_mirrored(batch, self.skeleton)
        batch, _ = towards_person(batch, self.skeleton, self.normalisation)
        if self.deviation is None:
            loss = encoder_loss(self.network, batch, self.skeleton, self.num_frames, self.normalisation, self.loss)
        else:
            lifted = encode(self.network, batch, self.skeleton, self.num_frames, False, self.normalisation)
            deviation = self._deviations(self.deviation, lifted.features)
            loss = likelihood_loss(lifted.pose, deviation, batch["keypoints_3d"], self.skeleton.root)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def _deviations(self, head: nn.Linear, features: Float[Tensor, "B *F J W"]) -> Float[Tensor, "B *F J 3"]:
        """Standard deviation of each coordinate relative to the root, metres; zero for the root itself."""
        deviation = _LEAST_DEVIATION + _DEVIATION_SCALE * F.softplus(head(features))
        others = torch.arange(deviation.shape[-2], device=deviation.device) != self.skeleton.root
        return deviation * others[:, None]

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        return scheduled(optimizer, self.warmup_steps, range(int(self.trainer.estimated_stepping_batches)))


def build_encoder(
    encoder: Encoder,
    width: int,
    num_blocks: int,
    num_heads: int,
    dropout: float,
    num_frames: int,
    causal: bool,
    skeleton: skeletons.Skeleton,
    normalisation: Normalisation = "screen",
) -> Network:
    """The network of a context encoder; arguments as in `ContextEncoder`.

    Raises:
        InputError: if the encoder takes frames and the data are clips, or the other way round.
    """
    channels = input_channels(normalisation)
    if encoder == "residual":
        return ResidualLifter(width, num_blocks, dropout, skeleton.num_joints, channels, num_frames, causal)
    if encoder == "graph":
        if num_frames != 1 or causal:
            raise InputError(f"the graph encoder takes single frames; for clips of {num_frames} use mixste or residual")
        return GraphLifter(width, num_blocks, num_heads, dropout, skeleton.parents, channels)
    if num_frames < 2:
        raise InputError("the mixste encoder takes clips: set num_frames to 27, 81 or 243, in the data as well")
    return MixSTE(num_frames, width, num_blocks, num_heads, dropout, skeleton.num_joints, causal, channels)


def encode(
    network: Network,
    batch: PoseBatch,
    skeleton: skeletons.Skeleton,
    num_frames: int,
    flip: bool,
    normalisation: Normalisation = "screen",
) -> Lifted:
    """Lifts a batch; with `flip`, the pose is the mean of those of the image and of its mirror image."""
    joints = input_joints(batch, skeleton, num_frames, normalisation)
    features = network.features(joints)
    pose = centred(network.output(features), skeleton.root)
    if flip:
        mirrored = network(input_joints(mirror_batch(batch, skeleton), skeleton, num_frames, normalisation))
        pose = (pose + centred(mirror_pose(mirrored, skeleton), skeleton.root)) / 2.0
    return Lifted(joints[..., :2], pose, features)


def encoder_loss(
    network: Network,
    batch: PoseBatch,
    skeleton: skeletons.Skeleton,
    num_frames: int,
    normalisation: Normalisation = "screen",
    loss: PointLoss = "squared",
) -> Float[Tensor, ""]:
    """Mean squared error of the coordinates of root-relative joints, over the valid ones, or their mean distance."""
    pose = centred(network(input_joints(batch, skeleton, num_frames, normalisation)), skeleton.root)
    target, valid = batch["keypoints_3d"].split((3, 1), dim=-1)
    errors = joint_errors(pose - centred(target, skeleton.root), loss) * valid[..., 0]
    return errors.sum() / ((3.0 if loss == "squared" else 1.0) * valid.sum()).clamp_min(1.0)


def likelihood_loss(
    pose: Float[Tensor, "B *F J 3"],
    deviation: Float[Tensor, "B *F J 3"],
    keypoints_3d: Float[Tensor, "B *F J 4"],
    root: int,
) -> Float[Tensor, ""]:
    """Mean negative log-likelihood of the coordinates of valid joints but the root, up to a constant.

    Args:
        pose: root-relative mean, metres.
        deviation: metres.
        keypoints_3d: ground truth, metres, and validity.
        root: root joint, which is exact.
    """
    counted = keypoints_3d[..., 3] > 0
    counted[..., root] = False
    error = (pose - centred(keypoints_3d[..., :3], root))[counted]
    deviation = deviation[counted]
    return (0.5 * (error / deviation).square() + deviation.log()).sum() / max(error.numel(), 1)


def read_encoder(path_or_name: str, encoder: Network, option: str = "model.context_checkpoint") -> dict[str, Tensor]:
    """Weights of a trained `ContextEncoder` for an encoder.

    Args:
        path_or_name: of its checkpoint or model.
        encoder: which the weights are for.
        option: that names the checkpoint, for errors.

    Raises:
        InputError: if the checkpoint is missing or damaged, or of another size.
    """
    try:
        state = read_checkpoint(path_or_name)["state_dict"]
    except InputError as error:
        raise InputError(
            f"{option}: {error}; train one with `noise2pose train fit -c "
            "configs/experiments/context_....yaml`, or set it to null"
        ) from error
    weights = {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
    try:
        return check(encoder, weights, "an encoder of this size")
    except InputError as error:
        raise InputError(
            f"{option}: {path_or_name}: {error}; set the encoder's width and blocks to what it was trained with"
        ) from error
