"""Settings of DPMesh that cannot work: numbers out of range, contradictions, weights that are not there."""

from typing import Any

from methods.dpmesh.features import check_prior
from methods.dpmesh.losses import WEIGHTS
from methods.dpmesh.sd_files import WHERE
from noise2pose.errors import InputError

# None of these is below 0, and some are at most this.
_LARGEST = {"timestep": 999, "joint_dropout": 1.0, "image_noise": 1.0}
_NOT_NEGATIVE = (
    *(*_LARGEST, "nkr_weight", "teacher_epochs", "token_weight", *(f"{name}_weight" for name in WEIGHTS)),
    *("learning_rate", "weight_decay", "warmup_steps"),
)


def check_settings(settings: Any) -> None:
    """Refuses numbers out of range, weights from two files, and files that nothing would use.

    Args:
        settings: of a `DPMesh`, its hyper-parameters.

    Raises:
        InputError: if there is something of that.
    """
    for name in _NOT_NEGATIVE:
        if not 0 <= settings[name] <= _LARGEST.get(name, float("inf")):
            expected = f"0 to {_LARGEST[name]:g}" if name in _LARGEST else "at least 0"
            raise InputError(f"model.{name} is {settings[name]}, expected {expected}")
    if not settings.nkr_temperature > 0:
        raise InputError(f"model.nkr_temperature is {settings.nkr_temperature}, expected more than 0")
    if settings.pretrained and settings.prior_checkpoint:
        raise InputError(
            "model.pretrained and model.prior_checkpoint both give weights to start from: take one of them"
        )
    for name in ("prior_checkpoint", "control_pretrained"):
        if settings[name] and settings.backbone != "diffusion":
            raise InputError(f"model.{name} is for the diffusion backbone, and model.backbone is {settings.backbone}")
    if settings.teacher_epochs and settings.teacher_checkpoint:
        raise InputError(
            "model.teacher_epochs trains a teacher and model.teacher_checkpoint gives one: take one of them"
        )
    for name in ("teacher_epochs", "teacher_checkpoint"):
        if settings[name] and settings.nkr == "off":
            raise InputError(f"model.{name} is for noisy key-point reasoning, and model.nkr is off")


def check_start(settings: Any, image_size: int) -> None:
    """Refuses a training whose frozen parts would be noise, or of pictures of another size.

    Args:
        settings: of a `DPMesh`.
        image_size: side of its pictures.

    Raises:
        InputError: if weights are missing (says where to get them), or the prior does not fit.
    """
    start = settings.pretrained or settings.prior_checkpoint
    frozen = settings.backbone == "diffusion" and settings.unet_training != "full"
    if settings.size == "sd15" and frozen and start is None:
        raise InputError(f"model.size sd15 needs the weights of Stable Diffusion 1.5: {WHERE}")
    if settings.pose_head == "vposer" and settings.vposer_file is None:
        raise InputError("model.pose_head vposer needs the weights of VPoser, version 1: give model.vposer_file FILE")
    if settings.prior_checkpoint is not None:
        check_prior(settings.prior_checkpoint, image_size)
