"""What HMR is trained with: every kind of ground truth that a sample has, and none that it has not.

Shape letters: B batch, J joints, V vertices.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from methods.hmr.regressor import Estimate
from noise2pose.batch import PoseBatch, Smpl
from noise2pose.bodies import BodyModel


def supervised_losses(
    estimate: Estimate,
    joints: Float[Tensor, "B J 3"],
    pixels: Float[Tensor, "B J 2"],
    box: Float[Tensor, "B 3"],
    batch: PoseBatch,
    root: int,
    body: BodyModel | None,
) -> dict[str, Float[Tensor, ""]]:
    """Every term that the batch has ground truth for, not yet weighted; named as they are logged.

    Args:
        estimate: of the regressor.
        joints: of the estimated body, metres, before its translation.
        pixels: the same joints in the whole picture.
        box: centre x, centre y and side, pixels.
        batch: `keypoints_3d` (with validity), `keypoints_2d` (with confidence) and `smpl` (with `has_smpl`) are used.
        root: joint that both poses are centred on.
        body: compared vertex by vertex, or None to leave that out.
    """
    terms = {"camera": camera_prior(estimate.camera)}
    if "keypoints_3d" in batch:
        terms["joints_3d"] = joints_3d_loss(joints, batch["keypoints_3d"], root)
    if "keypoints_2d" in batch:
        terms["joints_2d"] = joints_2d_loss(pixels, batch["keypoints_2d"], box)
    if "smpl" in batch:
        smpl = batch["smpl"]
        known = known_bodies(batch)
        terms["pose"] = masked_mean(F.mse_loss(estimate.rotations, rotations_of(smpl), reduction="none"), known)
        terms["betas"] = masked_mean(F.mse_loss(estimate.betas, smpl["betas"], reduction="none"), known)
        if body is not None:
            terms["vertices"] = vertex_loss(estimate, smpl, known, body)
    return terms


def joints_3d_loss(joints: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 4"], root: int) -> Float[Tensor, ""]:
    """Smooth L1 of the joints relative to the root, metres; over the valid joints of samples whose root is valid."""
    valid = target[..., 3] * target[:, root, None, 3]
    target = target[..., :3]
    error = F.smooth_l1_loss(joints - joints[:, root : root + 1], target - target[:, root : root + 1], reduction="none")
    return masked_mean(error, valid)


def joints_2d_loss(
    pixels: Float[Tensor, "B J 2"], target: Float[Tensor, "B J 3"], box: Float[Tensor, "B 3"]
) -> Float[Tensor, ""]:
    """Smooth L1 of the projected joints in units of half the box's side, weighted by the confidence of the target."""
    half_side = box[:, None, 2:] / 2.0
    # Masked before the loss: a joint that was never seen may lie anywhere.
    places = torch.where(target[..., 2:] > 0, target[..., :2], pixels.detach())
    error = F.smooth_l1_loss(pixels / half_side, places / half_side, reduction="none")
    return masked_mean(error, target[..., 2])


def vertex_loss(estimate: Estimate, smpl: Smpl, known: Bool[Tensor, " B"], body: BodyModel) -> Float[Tensor, ""]:
    """L1 of the vertices of both bodies, each with its root joint where its rest pose has it, metres."""
    rotations, betas = estimate.rotations[known], estimate.betas[known]
    ours = body(rotations[:, 0], rotations[:, 1:], betas).vertices
    theirs = body(smpl["global_orient"][known], smpl["body_pose"][known], smpl["betas"][known]).vertices
    return (ours - theirs).abs().sum() / max(ours.numel(), 1)


def camera_prior(camera: Float[Tensor, "B 3"]) -> Float[Tensor, ""]:
    """exp(-10 s)^2, which keeps the scale of the camera from falling to zero and below (SPIN)."""
    return torch.exp(-10.0 * camera[:, 0]).square().mean()


def rotations_of(smpl: Smpl) -> Float[Tensor, "B 24 3 3"]:
    """All rotations of a body, root first."""
    return torch.cat((smpl["global_orient"][:, None], smpl["body_pose"]), dim=1)


def known_bodies(batch: PoseBatch) -> Bool[Tensor, " B"]:
    """Which samples have body parameters: `has_smpl`, or all."""
    betas = batch["smpl"]["betas"]
    return batch["has_smpl"] if "has_smpl" in batch else torch.ones_like(betas[:, 0], dtype=torch.bool)


def masked_mean(values: Tensor, weights: Tensor) -> Float[Tensor, ""]:
    """Mean of values of which the leading dimensions are weighted; 0 if nothing has a weight."""
    weights = weights.to(values).view(*weights.shape, *[1] * (values.ndim - weights.ndim)).expand_as(values)
    return (values * weights).sum() / weights.sum().clamp_min(1e-6)
