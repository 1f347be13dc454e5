"""HMR's loss terms, one for every kind of ground truth, and its adversarial prior of rotations and shapes.

Shape letters: B batch, J joints, R real bodies.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.mesh_batches import known_bodies, masked_loss, root_relative_loss, rotations_of
from methods.mesh_regression import NUM_BETAS, NUM_ROTATIONS, Estimate, camera_prior, vertex_loss
from noise2pose.batch import PoseBatch
from noise2pose.bodies import BodyModel

Measure = Literal["squares", "distance"]

_NUM_JOINTS = NUM_ROTATIONS - 1  # without the root: people may face any direction
_JOINT_WIDTH = 32


def supervised_losses(
    estimate: Estimate,
    joints: Float[Tensor, "B J 3"],
    pixels: Float[Tensor, "B J 2"],
    box: Float[Tensor, "B 3"],
    batch: PoseBatch,
    root: int,
    body: BodyModel | None,
    measure: Measure = "squares",
) -> dict[str, Float[Tensor, ""]]:
    """Every term that the batch has ground truth for, not yet weighted; named as they are logged.

    Args:
        estimate: of the regressor.
        joints: of the estimated body, metres, before its translation.
        pixels: the same joints in the whole image.
        box: centre x, centre y and side, pixels.
        batch: `keypoints_3d` (with validity), `keypoints_2d` (with confidence) and `smpl` (with `has_smpl`) are used.
        root: joint that both poses are centred on.
        body: compared vertex by vertex, or None to leave that out.
        measure: of joints and rotations: `squares` as published (smooth L1, of which errors below one metre or half box
            side are squares), or the `distance`, for which a joint that nobody can tell counts less.
    """
    terms = {"camera": camera_prior(estimate.camera)}
    of_joints = F.smooth_l1_loss if measure == "squares" else distances
    if "keypoints_3d" in batch:
        terms["joints_3d"] = root_relative_loss(of_joints, joints, batch["keypoints_3d"], root)
    if "keypoints_2d" in batch:
        terms["joints_2d"] = joints_2d_loss(pixels, batch["keypoints_2d"], box, of_joints)
    if "smpl" in batch:
        smpl, known = batch["smpl"], known_bodies(batch)
        ours, theirs = estimate.rotations.flatten(-2), rotations_of(smpl).flatten(-2)
        terms["pose"] = masked_loss(F.mse_loss if measure == "squares" else distances, ours, theirs, known)
        terms["betas"] = masked_loss(F.mse_loss, estimate.betas, smpl["betas"], known)
        if body is not None:
            terms["vertices"] = vertex_loss(estimate, smpl, known, body)
    return terms


def joints_2d_loss(
    pixels: Float[Tensor, "B J 2"],
    target: Float[Tensor, "B J 3"],
    box: Float[Tensor, "B 3"],
    loss: Callable[..., Tensor] = F.smooth_l1_loss,
) -> Float[Tensor, ""]:
    """Smooth L1 of the projected joints in units of half the box's side, weighted by the confidence of the target."""
    half_side = box[:, None, 2:] / 2.0
    return masked_loss(loss, pixels / half_side, target[..., :2] / half_side, target[..., 2])


def distances(
    estimate: Float[Tensor, "*batch D"], target: Float[Tensor, "*batch D"], reduction: Literal["none"]
) -> Float[Tensor, "*batch"]:
    """Euclidean distance of each pair of vectors, as a loss of `torch.nn.functional` is called."""
    return torch.linalg.vector_norm(estimate - target, dim=-1)


class Discriminators(nn.Module):
    """One logit for each joint's rotation, one for the whole pose and one for the shape; mmhuman3d's tensor names."""

    def __init__(self) -> None:
        super().__init__()
        self.pose_discriminator = _JointDiscriminators()
        self.full_pose_discriminator = _Layers((_JOINT_WIDTH * _NUM_JOINTS, 1024, 1024, 1))
        self.shape_discriminator = _Layers((NUM_BETAS, 5, 1))

    def forward(self, rotations: Float[Tensor, "B 24 3 3"], betas: Float[Tensor, "B 10"]) -> Float[Tensor, "B 25"]:
        """Logits [23 joints | whole pose | shape]: 1 for a body of the data, 0 for an estimated one."""
        joints, features = self.pose_discriminator(rotations[:, 1:])
        whole = self.full_pose_discriminator(features.flatten(1))
        return torch.cat((joints, whole, self.shape_discriminator(betas)), dim=-1)


class _JointDiscriminators(nn.Module):
    """Two 1x1 convolutions that the joints share, without an activation, and a linear layer for each joint."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_blocks = nn.Sequential()
        for i, channels in enumerate((9, _JOINT_WIDTH)):
            layer = nn.Conv2d(channels, _JOINT_WIDTH, 1)
            nn.init.normal_(layer.weight, std=0.001)
            nn.init.constant_(layer.get_parameter("bias"), 0.0)
            self.conv_blocks.add_module(f"conv_{i}", layer)
        self.fc_layer = nn.ModuleList(nn.Linear(_JOINT_WIDTH, 1) for _ in range(_NUM_JOINTS))

    def forward(self, rotations: Float[Tensor, "B 23 3 3"]) -> tuple[Float[Tensor, "B 23"], Float[Tensor, "B 32 23"]]:
        features = self.conv_blocks(rotations.flatten(-2).transpose(1, 2)[:, :, None])[:, :, 0]
        logits = [layer(features[:, :, joint]) for joint, layer in enumerate(self.fc_layer)]
        return torch.cat(logits, dim=-1), features


class _Layers(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.fc_blocks = nn.Sequential()
        for i, (inputs, outputs) in enumerate(pairwise(sizes)):
            if i > 0:
                self.fc_blocks.add_module(f"relu_{i}", nn.ReLU())
            self.fc_blocks.add_module(f"regressor_fc_{i}", nn.Linear(inputs, outputs))

    def forward(self, x: Float[Tensor, "B inputs"]) -> Float[Tensor, "B outputs"]:
        return self.fc_blocks(x)


def prior_loss(
    discriminators: Discriminators, rotations: Float[Tensor, "B 24 3 3"], betas: Float[Tensor, "B 10"]
) -> Float[Tensor, ""]:
    """The regressor's loss (LSGAN): 1 is wanted for estimates; the discriminators get no gradient."""
    frozen = {name: weight.detach() for name, weight in discriminators.named_parameters()}
    return (torch.func.functional_call(discriminators, frozen, (rotations, betas)) - 1.0).square().mean()


def discriminator_loss(
    discriminators: Discriminators,
    estimated: tuple[Float[Tensor, "B 24 3 3"], Float[Tensor, "B 10"]],
    real: tuple[Float[Tensor, "R 24 3 3"], Float[Tensor, "R 10"]],
) -> Float[Tensor, ""]:
    """The discriminators' loss: 0 is wanted for estimates and 1 for bodies of the data; estimates get no gradient.

    Estimates and bodies are not compared in pairs, so their order does not matter; there may be no bodies.
    """
    of_estimates = discriminators(estimated[0].detach(), estimated[1].detach()).square().mean()
    of_bodies = (discriminators(*real) - 1.0).square().sum() / max(25 * len(real[0]), 1)
    return of_estimates + of_bodies
