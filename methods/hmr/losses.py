"""HMR's loss terms: one for every kind of ground truth, each over the samples that have it.

Shape letters: B batch, J joints.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from methods.hmr.regressor import Estimate
from methods.mesh_batches import known_bodies, masked_loss, rotations_of
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
        pixels: the same joints in the whole image.
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
        smpl, known = batch["smpl"], known_bodies(batch)
        terms["pose"] = masked_loss(F.mse_loss, estimate.rotations, rotations_of(smpl), known)
        terms["betas"] = masked_loss(F.mse_loss, estimate.betas, smpl["betas"], known)
        if body is not None:
            terms["vertices"] = vertex_loss(estimate, smpl, known, body)
    return terms


def joints_3d_loss(joints: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 4"], root: int) -> Float[Tensor, ""]:
    """Smooth L1 of the joints relative to the root, metres; over the valid joints of samples whose root is valid."""
    valid = target[..., 3] * target[:, root, None, 3]
    target = target[..., :3]
    return masked_loss(F.smooth_l1_loss, joints - joints[:, root, None], target - target[:, root, None], valid)


def joints_2d_loss(
    pixels: Float[Tensor, "B J 2"], target: Float[Tensor, "B J 3"], box: Float[Tensor, "B 3"]
) -> Float[Tensor, ""]:
    """Smooth L1 of the projected joints in units of half the box's side, weighted by the confidence of the target."""
    half_side = box[:, None, 2:] / 2.0
    return masked_loss(F.smooth_l1_loss, pixels / half_side, target[..., :2] / half_side, target[..., 2])


def vertex_loss(estimate: Estimate, smpl: Smpl, known: Bool[Tensor, " B"], body: BodyModel) -> Float[Tensor, ""]:
    """L1 of the vertices of both bodies, each with its root joint where its rest pose has it, metres."""
    rotations, betas = estimate.rotations[known], estimate.betas[known]
    ours = body(rotations[:, 0], rotations[:, 1:], betas).vertices
    theirs = body(smpl["global_orient"][known], smpl["body_pose"][known], smpl["betas"][known]).vertices
    return (ours - theirs).abs().sum() / max(ours.numel(), 1)


def camera_prior(camera: Float[Tensor, "B 3"]) -> Float[Tensor, ""]:
    """exp(-10 s)^2, which keeps the scale of the camera from falling to zero and below (SPIN)."""
    return torch.exp(-10.0 * camera[:, 0]).square().mean()
