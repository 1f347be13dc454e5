"""The teacher of the noisy key-point reasoning: where it comes from, and what a run must say about it."""

from typing import Any

import lightning as L

from methods.checkpoints import find_checkpoint, read_torch_file
from methods.dpmesh.networks import MeshNetwork
from methods.dpmesh.reasoning import Reasoning
from noise2pose.errors import InputError

_PREFIX = "network."


def check_teacher(nkr: Reasoning, epochs: int, checkpoint: str | None) -> None:
    """Refuses settings that contradict each other.

    Raises:
        InputError: if there are two teachers, or one without a use.
    """
    if epochs and checkpoint:
        raise InputError(
            "model.teacher_epochs trains a teacher and model.teacher_checkpoint gives one: take one of them"
        )
    if nkr == "off" and (epochs or checkpoint):
        given = "teacher_epochs" if epochs else "teacher_checkpoint"
        raise InputError(f"model.{given} is for noisy key-point reasoning, and model.nkr is off")


def check_stages(trainer: L.Trainer, nkr: Reasoning, epochs: int, checkpoint: str | None) -> None:
    """Refuses a training whose student would never be taught.

    Raises:
        InputError: if there is no teacher, or no epoch for one of the two.
    """
    if nkr == "off" or checkpoint is not None or getattr(trainer, "fast_dev_run", False):
        return
    max_epochs = trainer.max_epochs or 0
    if epochs < 1:
        raise InputError(
            f"model.nkr {nkr} needs a teacher: give model.teacher_checkpoint, or model.teacher_epochs of at least 1"
        )
    if max_epochs < 0 or trainer.max_steps > 0:
        raise InputError(
            "model.teacher_epochs counts epochs: give trainer.max_epochs and no trainer.max_steps, or train the "
            "teacher by itself (model.train_keypoints clean) and give model.teacher_checkpoint"
        )
    if max_epochs <= epochs:
        raise InputError(
            f"trainer.max_epochs ({max_epochs}) must exceed model.teacher_epochs ({epochs}), or the student is never "
            "trained"
        )


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
