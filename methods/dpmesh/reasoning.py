"""Noisy key-point reasoning: what a student that sees noisy key-points learns from a teacher that sees true ones.

Equations 7 and 8 of the paper. Equation 8 has neither the minus sign nor the temperature of SimCLR (Chen et al., ICML
2020), which it cites: as printed, it would drive the features apart. Here is SimCLR's loss, symmetric in both networks.

Shape letters: B samples, D values of a feature map.
"""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from methods.checkpoints import find_checkpoint, read_torch_file
from methods.dpmesh.networks import MeshNetwork
from noise2pose.errors import InputError

Reasoning = Literal["off", "mse", "contrastive", "both"]


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
        teacher: those of the teacher for the same samples; no gradient goes there.
        kind: which terms.
        temperature: of the contrastive term.
        gathered: for the contrastive term, (P, 2, B, D) normalised features of student and teacher of all P processes
            at each level, see `stack_views`; None for those at hand.

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
        values = [nt_xent_of_views(views, temperature) for views in gathered]
        terms["contrastive"] = torch.stack(values).mean()
    return terms


def stack_views(student: list[Tensor], teacher: list[Tensor]) -> list[Float[Tensor, "2 B D"]]:
    """What processes exchange: normalised features of each level, the student's and the teacher's.

    In float32 also where the networks compute in less: similarities are sums over many values.
    """
    return [
        F.normalize(torch.stack((ours.flatten(1).float(), theirs.detach().flatten(1).float())), dim=-1)
        for ours, theirs in zip(student, teacher, strict=True)
    ]


def nt_xent(student: Tensor, teacher: Tensor, temperature: float) -> Float[Tensor, ""]:
    """Symmetric NT-Xent: each sample's two views belong together, all other views of both networks are negatives.

    Args:
        student: (B, ...) one view, flattened here.
        teacher: (B, ...) the other view; no gradient goes there.
        temperature: divides the cosine similarities.
    """
    return nt_xent_of_views(stack_views([student], [teacher])[0][None], temperature)


def nt_xent_of_views(views: Float[Tensor, "P 2 B D"], temperature: float) -> Float[Tensor, ""]:
    """NT-Xent of normalised views of P processes; see `nt_xent`."""
    first, second = views.transpose(0, 1).flatten(1, 2)
    both = torch.cat((first, second))
    similarity = both @ both.T / temperature
    count = len(first)
    own = torch.eye(2 * count, dtype=torch.bool, device=views.device)
    partner = torch.arange(2 * count, device=views.device).roll(count)
    return F.cross_entropy(similarity.masked_fill(own, -torch.inf), partner)


_PREFIX = "network."


def read_teacher(path_or_name: str, teacher: MeshNetwork, student: MeshNetwork) -> None:
    """Fills the teacher from the checkpoint of a trained DPMesh, of which the network is taken.

    Args:
        path_or_name: of the checkpoint.
        teacher: to fill.
        student: has what is frozen in common with the teacher, and has its weights already.

    Raises:
        InputError: if there is no such checkpoint, it is of another network, or of one with other frozen weights.
    """
    checkpoint: Any = read_torch_file(find_checkpoint(path_or_name))
    state = checkpoint.get("state_dict", {}) if isinstance(checkpoint, dict) else {}
    weights = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
    expected = teacher.state_dict()
    wrong = sorted(
        key
        for key in expected.keys() | weights.keys()
        if key not in expected or key not in weights or expected[key].shape != weights[key].shape
    )
    if any(key.startswith("backbone.unet.") for key in state):
        raise InputError(f"model.teacher_checkpoint: {path_or_name} is a diffusion prior, expected a trained DPMesh")
    if wrong:
        raise InputError(
            f"model.teacher_checkpoint: {path_or_name} is no DPMesh of the same settings: {len(wrong)} tensors are "
            f"unknown, missing or of another shape, first {', '.join(wrong[:3])}"
        )
    ours = dict(student.named_parameters())
    shared = [name for name, parameter in teacher.named_parameters() if parameter is ours[name]]
    if other := [name for name in shared if not torch.equal(ours[name], weights[name].to(ours[name]))]:
        raise InputError(
            f"model.teacher_checkpoint: {path_or_name} was trained from other frozen weights ({other[0]}); give the "
            "model.prior_checkpoint, model.pretrained or model.codebook_checkpoint that it was trained with"
        )
    teacher.load_state_dict(weights)
