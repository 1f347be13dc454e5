"""CLIFF's loss terms as BEDLAM trains it, each for its kind of ground truth.

Shape letters: B batch, J joints, R rotations.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from methods.mesh_batches import known_bodies, masked_loss
from methods.mesh_regression import NUM_BETAS, Estimate, camera_prior, vertex_loss
from noise2pose.batch import PoseBatch
from noise2pose.bodies import BodyModel


def supervised_losses(
    estimate: Estimate,
    joints: Float[Tensor, "B J 3"],
    pixels: Float[Tensor, "B J 2"],
    box: Float[Tensor, "B 3"],
    image_size: Float[Tensor, "B 2"],
    batch: PoseBatch,
    *,
    body: BodyModel,
    skeleton: str,
    root: int,
    num_rotations: int,
    vertices: bool,
) -> dict[str, Float[Tensor, ""]]:
    """Every term that the batch has ground truth for, not yet weighted; named as they are logged.

    Args:
        estimate: as SMPL's parameters.
        joints: of the estimated body, metres, before its translation.
        pixels: the same joints in the whole image.
        box: centre x, centre y and side, pixels.
        image_size: width and height, pixels.
        batch: `keypoints_3d` (with validity), `keypoints_2d` (with confidence) and `smpl` (with `has_smpl`) are used.
        body: whose parameters are estimated.
        skeleton: of the joints, a regressor of the body.
        root: joint that joints are relative to where the body is not known.
        num_rotations: R, that are estimated; further ones have no loss.
        vertices: whether meshes are compared.
    """
    terms = {"camera": camera_prior(estimate.camera)}
    if "keypoints_2d" in batch:
        terms["joints_2d"] = full_image_loss(pixels, batch["keypoints_2d"], box, image_size)
    if "keypoints_3d" in batch:
        terms["joints_3d"] = joints_3d_loss(joints, batch, root, body, skeleton)
    if "smpl" in batch:
        smpl, known = batch["smpl"], known_bodies(batch)
        # The root's rotation is left to joints and vertices.
        ours, theirs = estimate.rotations[:, 1:num_rotations], smpl["body_pose"][:, : num_rotations - 1]
        terms["pose"] = masked_loss(F.mse_loss, ours, theirs, known)
        terms["betas"] = masked_loss(F.mse_loss, estimate.betas, smpl["betas"][:, :NUM_BETAS], known)
        if vertices:
            terms["vertices"] = vertex_loss(estimate, smpl, known, body)
    return terms


def full_image_loss(
    pixels: Float[Tensor, "B J 2"],
    target: Float[Tensor, "B J 3"],
    box: Float[Tensor, "B 3"],
    image_size: Float[Tensor, "B 2"],
) -> Float[Tensor, ""]:
    """Squared error in the whole image from -1 to 1, times the image's size over the box's side, axis by axis.

    The last factor makes people alike who are small in their images. Weighted by the confidence of the target.
    """
    unit = (image_size * box[:, 2:]).sqrt()[:, None] / 2.0  # (2 d / size)^2 size / side = (d / unit)^2
    return masked_loss(F.mse_loss, pixels / unit, target[..., :2] / unit, target[..., 2])


def joints_3d_loss(
    joints: Float[Tensor, "B J 3"], batch: PoseBatch, root: int, body: BodyModel, skeleton: str
) -> Float[Tensor, ""]:
    """Squared error of joints, metres.

    Where the true body is known, joints of both bodies are compared as the model places them, the root joint where its
    rest pose has it; elsewhere those of the batch, both relative to the root.
    """
    measured = batch["keypoints_3d"]
    valid = measured[..., 3] * measured[:, root, None, 3]
    ours, theirs = joints - joints[:, root, None], measured[..., :3] - measured[:, root, None, :3]
    if "smpl" in batch:
        smpl, known = batch["smpl"], known_bodies(batch)[:, None]
        true = body.joints(smpl["global_orient"], body.complete(smpl["body_pose"]), smpl["betas"], regressor=skeleton)
        ours, theirs = (
            torch.where(known[..., None], placed, relative) for placed, relative in ((joints, ours), (true, theirs))
        )
        valid = torch.where(known, torch.ones_like(valid), valid)
    return masked_loss(F.mse_loss, ours, theirs, valid)
