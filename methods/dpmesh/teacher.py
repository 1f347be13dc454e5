"""The teacher of the noisy key-point reasoning, where it comes from a checkpoint."""

from typing import Any

from methods.checkpoints import find_checkpoint, read_torch_file
from methods.dpmesh.networks import MeshNetwork
from noise2pose.errors import InputError

_PREFIX = "network."


def read_teacher(path_or_name: str, teacher: MeshNetwork) -> None:
    """Fills the teacher from the checkpoint of a trained DPMesh, of which the network is taken.

    Raises:
        InputError: if there is no such checkpoint, or it is of another network.
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
    if wrong:
        raise InputError(
            f"model.teacher_checkpoint: {path_or_name} is no DPMesh of the same settings: {len(wrong)} tensors are "
            f"unknown, missing or of another shape, first {', '.join(wrong[:3])}"
        )
    teacher.load_state_dict(weights)
