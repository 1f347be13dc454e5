"""DPMesh's loss terms: L1 on everything that a batch has ground truth for (release, after JOTR).

Three things differ from the release. Means are taken over what is known; the release includes the unknown entries as
zeros. Rotations are compared as matrices: rotation vectors jump at a half turn, and a body that faces the camera is
turned by just that. True betas are used as they are, also above 3.

Shape letters: B batch, J joints of the data, I image joints (`regressor.IMAGE_JOINTS`), T tokens, K codebook entries,
P processes, D values of a feature map.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from methods.dpmesh.regressor.regressor import IMAGE_JOINTS, Estimate
from methods.mesh_batches import (
    PinholeCamera,
    known_bodies,
    masked_loss,
    masked_mean,
    project_to_image,
    root_relative_loss,
    rotations_of,
)
from noise2pose.batch import PoseBatch
from noise2pose.bodies import BodyModel
from noise2pose.skeletons import Skeleton

Reasoning = Literal["off", "mse", "contrastive", "both"]

DEPTH = 2.0  # metres from front to back of the volume (release: `bbox_3d`)

# Fixed weights, for terms in the units of `supervised_losses`. The release has 1, 1, 2 and 2 for the first four (for
# pose 3 here, because errors of matrices are about two thirds of those of its rotation vectors). The last two are
# JOTR's; the release leaves the balance to `UncertaintyWeights`.
WEIGHTS = {"image": 1.0, "fitted_image": 1.0, "pose": 3.0, "betas": 2.0, "joints_2d": 8.0, "joints_3d": 5.0}


def supervised_losses(
    estimate: Estimate,
    joints: Float[Tensor, "B J 3"],
    pixels: Float[Tensor, "B J 2"],
    keypoints: Float[Tensor, "B J 3"],
    box: Float[Tensor, "B 3"],
    camera: PinholeCamera,
    batch: PoseBatch,
    skeleton: Skeleton,
    body: BodyModel,
) -> dict[str, Float[Tensor, ""]]:
    """Every term that the batch has ground truth for, not yet weighted.

    Args:
        estimate: of the regressor.
        joints: of the estimated body, metres, before its translation.
        pixels: the same joints in the whole image.
        keypoints: true joints, pixels and confidence; not the noisy ones that a method may be given.
        box: centre x, centre y and side, pixels.
        camera: of the whole image.
        batch: `keypoints_3d` (with validity), `smpl` (with `has_smpl`) and `camera_translation` are used.
        skeleton: of the joints.
        body: whose parameters are estimated.

    Returns:
        `image`: image joints, in sides of the box and of the volume; `fitted_image`: the same against the true body,
        if the batch places it in the camera; `pose`: entries of rotation matrices; `betas`; `joints_2d`: in sides of
        the box; `joints_3d`: metres, relative to the root.
    """
    points = batch.get("keypoints_3d")
    terms = {"image": image_loss(estimate.joint_img, keypoints, points, box, skeleton)}
    side = box[:, None, 2:]
    terms["joints_2d"] = masked_loss(F.l1_loss, pixels / side, keypoints[..., :2] / side, keypoints[..., 2])
    if points is not None:
        terms["joints_3d"] = root_relative_loss(F.l1_loss, joints, points, skeleton.root)
    if "smpl" in batch:
        smpl, known = batch["smpl"], known_bodies(batch)
        terms["pose"] = masked_loss(F.l1_loss, estimate.rotations, rotations_of(smpl), known)
        terms["betas"] = masked_loss(F.l1_loss, estimate.betas, smpl["betas"], known)
        if "camera_translation" in batch:
            orient, pose, betas = smpl["global_orient"], smpl["body_pose"], smpl["betas"]
            placed = body.joints(orient, pose, betas, regressor=skeleton.name) + batch["camera_translation"][:, None]
            valid = known.to(betas)[:, None, None].expand(-1, placed.shape[1], -1)
            fitted_pixels = torch.cat((project_to_image(placed, camera), valid), dim=-1)
            fitted = torch.cat((placed, valid), dim=-1)
            terms["fitted_image"] = image_loss(estimate.joint_img, fitted_pixels, fitted, box, skeleton)
    return terms


def image_loss(
    joint_img: Float[Tensor, "L B I 3"],
    keypoints: Float[Tensor, "B J 3"],
    points: Float[Tensor, "B J 4"] | None,
    box: Float[Tensor, "B 3"],
    skeleton: Skeleton,
) -> Float[Tensor, ""]:
    """L1 between the image joints after the last layer and the true ones; see `image_targets`."""
    target, valid = image_targets(keypoints, points, box, skeleton)
    # Each layer corrects the one before it, so only the last one needs supervision.
    return masked_mean((joint_img[-1] - target).abs(), valid)


def image_targets(
    keypoints: Float[Tensor, "B J 3"],
    points: Float[Tensor, "B J 4"] | None,
    box: Float[Tensor, "B 3"],
    skeleton: Skeleton,
) -> tuple[Float[Tensor, "B I 3"], Float[Tensor, "B I 3"]]:
    """Where the image joints are in the volume, in [0, 1], and the weight of each coordinate; 0 outside the volume.

    Args:
        keypoints: pixels and confidence.
        points: camera frame, metres, and validity; None if no depth is known.
        box: centre x, centre y and side, pixels.
        skeleton: of the joints.
    """
    chosen = [skeleton.index(joint) for joint in IMAGE_JOINTS]
    places = (keypoints[:, chosen, :2] - box[:, None, :2]) / box[:, None, 2:] + 0.5
    depth, valid = torch.full_like(places[..., :1], 0.5), torch.zeros_like(places[..., :1])
    if points is not None:
        root = points[:, skeleton.root, None]
        depth = 0.5 + (points[:, chosen, 2:3] - root[..., 2:3]) / DEPTH
        valid = points[:, chosen, 3:] * root[..., 3:]
    target = torch.cat((places, depth), dim=-1)
    inside = (target >= 0.0) & (target <= 1.0)  # false for NaN
    in_box = inside[..., :2].all(dim=-1, keepdim=True)
    weight = keypoints[:, chosen, 2:].clamp(0.0, 1.0) * in_box
    known = torch.cat((weight.expand(-1, -1, 2), weight * valid * inside[..., 2:]), dim=-1)
    return torch.where(known > 0, target, 0.5), known


def token_loss(
    logits: Float[Tensor, "B T K"], indices: Int64[Tensor, "B T"], known: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """Cross-entropy against the codes that the codebook's encoder gives the true pose, over the known bodies."""
    return masked_mean(F.cross_entropy(logits.transpose(1, 2), indices, reduction="none"), known)


def reasoning_losses(
    student: list[Tensor],
    teacher: list[Tensor],
    kind: Reasoning,
    temperature: float,
    gathered: list[Tensor] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Noisy keypoint reasoning: a student that sees noisy keypoints learns from a teacher that sees true ones.

    Equations 7 and 8 of the paper, each a mean over the levels; none if `kind` is off. Equation 8 has neither the minus
    sign nor the temperature of SimCLR (Chen et al., ICML 2020), which it cites: as printed, it would drive the features
    apart. This is SimCLR's loss, symmetric in both networks.

    Args:
        student: feature maps (B, ...), one of each level.
        teacher: those of the teacher for the same samples; they get no gradient.
        kind: which terms.
        temperature: of the contrastive term.
        gathered: for the contrastive term, (P, 2, B, D) normalised features of student and teacher of all P processes
            at each level, see `stack_views`; by default those of this process alone.
    """
    terms: dict[str, Tensor] = {}
    if kind in ("mse", "both"):
        pairs = zip(student, teacher, strict=True)
        errors = [F.mse_loss(ours.float(), theirs.detach().float()) for ours, theirs in pairs]
        terms["mse"] = torch.stack(errors).mean()
    if kind in ("contrastive", "both"):
        if gathered is None:
            gathered = [views[None] for views in stack_views(student, teacher)]
        values = [nt_xent(views, temperature) for views in gathered]
        terms["contrastive"] = torch.stack(values).mean()
    return terms


def stack_views(student: list[Tensor], teacher: list[Tensor]) -> list[Float[Tensor, "2 B D"]]:
    """Normalised features of each level, the student's and the teacher's, which processes exchange.

    They are float32 also under mixed precision: similarities are sums over many values.
    """
    return [
        F.normalize(torch.stack((ours.flatten(1).float(), theirs.detach().flatten(1).float())), dim=-1)
        for ours, theirs in zip(student, teacher, strict=True)
    ]


def nt_xent(views: Float[Tensor, "P 2 B D"], temperature: float) -> Float[Tensor, ""]:
    """Symmetric NT-Xent: the two views of a sample are a positive pair, all other views of both networks negatives.

    Args:
        views: normalised features of all P processes, see `stack_views`.
        temperature: divides the cosine similarities.
    """
    first, second = views.transpose(0, 1).flatten(1, 2)
    both = torch.cat((first, second))
    similarity = both @ both.T / temperature
    count = len(first)
    own = torch.eye(2 * count, dtype=torch.bool, device=views.device)
    partner = torch.arange(2 * count, device=views.device).roll(count)
    return F.cross_entropy(similarity.masked_fill(own, -torch.inf), partner)


class UncertaintyWeights(nn.Module):
    """Learned weights: each term l becomes l / (2 p^2) + ln(1 + p^2) (Liebel and Körner, 2018, as released).

    Args:
        names: of the terms; a batch need not have all of them. Weight decay must not be applied to these parameters.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.scales = nn.ParameterDict({name: torch.ones(()) for name in sorted(names)})

    def forward(self, terms: Mapping[str, Float[Tensor, ""]]) -> dict[str, Float[Tensor, ""]]:
        """The weighted terms."""
        weighted = {}
        for name, term in terms.items():
            square = self.scales[name].square()
            weighted[name] = 0.5 / square * term + torch.log1p(square)
        return weighted

    def total(self, terms: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """Their sum. Weights of absent terms get zero gradients: data-parallel training waits for all gradients."""
        absent = [0.0 * scale for name, scale in self.scales.items() if name not in terms]
        return torch.stack([*self(terms).values(), *absent]).sum()
