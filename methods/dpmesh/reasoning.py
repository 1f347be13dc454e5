"""Noisy keypoint reasoning: a student that sees noisy keypoints learns from a teacher that sees true ones.

Equations 7 and 8 of the paper. Equation 8 has neither the minus sign nor the temperature of SimCLR (Chen et al., ICML
2020), which it cites: as printed, it would drive the features apart. This is SimCLR's loss, symmetric in both networks.

Shape letters: P processes, B samples, D values of a feature map.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from methods.checkpoints import read_checkpoint
from methods.dpmesh.networks import MeshNetwork
from methods.official_weights import check
from noise2pose.errors import InputError

Reasoning = Literal["off", "mse", "contrastive", "both"]

_NETWORK = "network."  # where a DPMesh has the student


def reasoning_losses(
    student: list[Tensor],
    teacher: list[Tensor],
    kind: Reasoning,
    temperature: float,
    gathered: list[Tensor] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """The terms of the loss, each a mean over the levels; none if `kind` is off.

    Args:
        student: feature maps (B, ...), one of each level.
        teacher: those of the teacher for the same samples; they get no gradient.
        kind: which terms.
        temperature: of the contrastive term.
        gathered: for the contrastive term, (P, 2, B, D) normalised features of student and teacher of all P processes
            at each level, see `stack_views`; by default those of this process alone.

    Raises:
        InputError: if there is no such kind.
    """
    if kind not in get_args(Reasoning):
        raise InputError(f"model.nkr is {kind}, expected one of {', '.join(get_args(Reasoning))}")
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


def read_teacher(path_or_name: str, teacher: MeshNetwork, student: MeshNetwork) -> None:
    """Fills the teacher with the network of a trained DPMesh.

    Args:
        path_or_name: of the checkpoint or model.
        teacher: to fill.
        student: shares the frozen parameters with the teacher; they are filled already.

    Raises:
        InputError: if the checkpoint is missing or damaged, or of a network with other settings or frozen weights.
    """
    try:
        state = read_checkpoint(path_or_name)["state_dict"]
        if any(key.startswith("backbone.unet.") for key in state):
            raise InputError("it is a diffusion prior, expected a trained DPMesh")
        weights = {key.removeprefix(_NETWORK): value for key, value in state.items() if key.startswith(_NETWORK)}
        weights = check(teacher, weights, "a DPMesh of these settings")
    except InputError as error:
        raise InputError(f"model.teacher_checkpoint: {path_or_name}: {error}") from error
    ours = dict(student.named_parameters())
    shared = [name for name, parameter in teacher.named_parameters() if parameter is ours[name]]
    if other := [name for name in shared if not torch.equal(ours[name], weights[name].to(ours[name].device))]:
        raise InputError(
            f"model.teacher_checkpoint: {path_or_name} was trained from other frozen weights ({other[0]}); give the "
            "model.prior_checkpoint, model.pretrained or model.codebook_checkpoint that it was trained with"
        )
    teacher.load_state_dict(weights)
