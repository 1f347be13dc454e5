"""The teacher of the noisy key-point reasoning, where it comes from a checkpoint."""

from typing import Any

import torch

from methods.checkpoints import find_checkpoint, read_torch_file
from methods.dpmesh.networks import MeshNetwork
from noise2pose.errors import InputError

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
