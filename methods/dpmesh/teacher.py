"""The teacher of the noisy key-point reasoning: where it comes from, and other weights that training starts from."""

from typing import Any

from methods.checkpoints import find_checkpoint, read_torch_file
from methods.dpmesh.features import check_prior
from methods.dpmesh.networks import MeshNetwork
from methods.dpmesh.reasoning import Reasoning
from methods.dpmesh.sd_files import WHERE
from methods.dpmesh.sizes import BackboneName
from noise2pose.errors import InputError

_PREFIX = "network."


def check_sources(
    backbone: BackboneName,
    pretrained: str | None,
    prior: str | None,
    nkr: Reasoning,
    epochs: int,
    checkpoint: str | None,
) -> None:
    """Refuses settings that contradict each other.

    Raises:
        InputError: if weights come from two files, or nothing would use them.
    """
    if pretrained and prior:
        raise InputError(
            "model.pretrained and model.prior_checkpoint both give weights to start from: take one of them"
        )
    if prior and backbone != "diffusion":
        raise InputError(f"model.prior_checkpoint is for the diffusion backbone, and model.backbone is {backbone}")
    if epochs and checkpoint:
        raise InputError(
            "model.teacher_epochs trains a teacher and model.teacher_checkpoint gives one: take one of them"
        )
    if nkr == "off" and (epochs or checkpoint):
        given = "teacher_epochs" if epochs else "teacher_checkpoint"
        raise InputError(f"model.{given} is for noisy key-point reasoning, and model.nkr is off")


def check_start(settings: Any, image_size: int) -> None:
    """Refuses a training whose frozen parts would be noise, or of pictures of another size.

    Args:
        settings: of a `DPMesh`, its hyper-parameters.
        image_size: side of its pictures.

    Raises:
        InputError: if weights are missing (says where to get them), or the prior does not fit.
    """
    start = settings.pretrained or settings.prior_checkpoint
    frozen = settings.backbone == "diffusion" and settings.unet_training != "full"
    if settings.size == "sd15" and frozen and start is None:
        raise InputError(f"model.size sd15 needs the weights of Stable Diffusion 1.5 (model.pretrained): {WHERE}")
    if settings.pose_head == "vposer" and settings.vposer_file is None:
        raise InputError("model.pose_head vposer needs the weights of VPoser, version 1: give model.vposer_file FILE")
    if settings.prior_checkpoint is not None:
        check_prior(settings.prior_checkpoint, image_size)


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
