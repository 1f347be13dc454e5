"""The two sizes of DPMesh, and checks of its settings: contradictions, missing weights.

Sizes of its diffusion backbone are in `methods.dpmesh.stable_diffusion.networks`.
"""

from typing import Any, Literal, NamedTuple

from methods.checkpoints import find_checkpoint, read_checkpoint
from methods.dpmesh.stable_diffusion.files import WHERE
from noise2pose.errors import InputError

Size = Literal["tiny", "sd15"]
BackboneName = Literal["diffusion", "resnet50", "transformer"]


class Sizes(NamedTuple):
    """Sizes of everything after the backbone, and of the transformer that the backbone is compared with.

    Attributes:
        image: default side of the images, pixels.
        stride: pixels of a latent, along each axis.
        features: channels of the feature map that the regressor reads.
        width, num_encoder_layers, num_decoder_layers, feedforward, volume_feedforward: of the regressor.
        dropout: of the regressor; with it, attention on a CPU takes several times as long.
        transformer: embedding, depth and heads.
    """

    image: int
    stride: int
    features: int
    width: int
    num_encoder_layers: int
    num_decoder_layers: int
    feedforward: int
    volume_feedforward: int
    dropout: float
    transformer: tuple[int, int, int]


SIZES: dict[Size, Sizes] = {
    "tiny": Sizes(64, 4, 256, 128, 1, 3, 256, 256, 0.0, (192, 6, 3)),
    "sd15": Sizes(256, 8, 2048, 256, 2, 4, 2048, 1024, 0.1, (1024, 24, 16)),  # as released; ViT-L/16 as in the paper
}


class Sides(NamedTuple):
    """Sides of a network's input and of its feature maps.

    Attributes:
        image: of the images, pixels.
        latents: of the latents and the heat-maps.
        cells: of the feature map that the regressor reads.
    """

    image: int
    latents: int
    cells: int


def sides_of(size: Size, image_size: int | None = None) -> Sides:
    """Sides for images of `image_size` pixels, by default those of the size.

    Raises:
        InputError: if the U-Net cannot halve such latents three times.
    """
    sizes = SIZES[size]
    image = sizes.image if image_size is None else image_size
    if image < 1 or image % (8 * sizes.stride):
        raise InputError(
            f"model.image_size is {image_size}, expected a multiple of {8 * sizes.stride} with size: {size}"
        )
    return Sides(image, image // sizes.stride, image // sizes.stride // 4)


def check_settings(settings: Any) -> None:
    """Refuses a temperature of 0, weights from two files, and files that would not be used.

    Args:
        settings: hyper-parameters of a `DPMesh`.

    Raises:
        InputError: for the first such setting.
    """
    if not settings.nkr_temperature > 0:
        raise InputError(f"model.nkr_temperature is {settings.nkr_temperature}, expected more than 0")
    if settings.pretrained and settings.prior_checkpoint:
        raise InputError(
            "model.pretrained and model.prior_checkpoint both give weights to start from: take one of them"
        )
    for name in ("prior_checkpoint", "control_pretrained"):
        if settings[name] and settings.backbone != "diffusion":
            raise InputError(f"model.{name} is for the diffusion backbone, and model.backbone is {settings.backbone}")
    if settings.heatmap_input != "control" and not (settings.backbone == "diffusion" and settings.heatmaps):
        raise InputError(
            f"model.heatmap_input {settings.heatmap_input} is for the diffusion backbone with model.heatmaps true"
        )
    if settings.heatmap_input != "control" and settings.control_pretrained:
        raise InputError("model.control_pretrained is for a ControlNet: set model.heatmap_input to control")
    if settings.teacher_epochs and settings.teacher_checkpoint:
        raise InputError(
            "model.teacher_epochs trains a teacher and model.teacher_checkpoint gives one: take one of them"
        )
    for name in ("teacher_epochs", "teacher_checkpoint"):
        if settings[name] and settings.nkr == "off":
            raise InputError(f"model.{name} is for noisy keypoint reasoning, and model.nkr is off")


def check_start(settings: Any, image_size: int) -> None:
    """Refuses a training without a teacher, or with frozen parts whose weights are random or for other images.

    Args:
        settings: of a `DPMesh`.
        image_size: side of its images.

    Raises:
        InputError: if the teacher or weights are missing (says where to get them), or if the prior does not fit.
    """
    if settings.nkr != "off" and not (settings.teacher_epochs or settings.teacher_checkpoint):
        raise InputError(
            f"model.nkr {settings.nkr} needs a teacher: give model.teacher_epochs of at least 1, or "
            "model.teacher_checkpoint"
        )
    start = settings.pretrained or settings.prior_checkpoint
    frozen = settings.backbone == "diffusion" and settings.unet_training != "full"
    if settings.size == "sd15" and frozen and start is None:
        raise InputError(f"model.size sd15 needs the weights of Stable Diffusion 1.5: {WHERE}")
    if settings.pose_head == "vposer" and settings.vposer_file is None:
        raise InputError("model.pose_head vposer needs the weights of VPoser, version 1: give model.vposer_file FILE")
    if settings.pose_head in ("vq_soft", "vq_ce"):
        if settings.codebook_checkpoint is None:
            raise InputError("model.codebook describes a codebook without its weights: give model.codebook_checkpoint")
        try:
            find_checkpoint(settings.codebook_checkpoint)
        except InputError as error:
            raise InputError(f"model.codebook_checkpoint: {error}") from error
    if settings.prior_checkpoint is not None:
        if settings.latent != "sd":
            raise InputError(f"model.latent is {settings.latent}, and a prior's latents are sd: set model.latent to sd")
        path = settings.prior_checkpoint
        trained = read_prior(path).get("hyper_parameters", {})
        found = sides_of(trained.get("size", "tiny"), trained.get("image_size")).image
        if found != image_size:
            raise InputError(
                f"model.prior_checkpoint: {path} was trained on images of {found} pixels; set model.image_size to "
                f"{found} (it is {image_size})"
            )
        if (known := trained.get("skeleton", settings.skeleton)) != settings.skeleton:
            raise InputError(
                f"model.prior_checkpoint: {path} was trained on the joints {known} (model.skeleton: "
                f"{settings.skeleton})"
            )


def read_prior(path_or_name: str) -> dict[str, Any]:
    """The checkpoint of a `methods.dpmesh.Prior`.

    Raises:
        InputError: if there is no such checkpoint or it is not of a prior.
    """
    try:
        checkpoint = read_checkpoint(path_or_name)
    except InputError as error:
        raise InputError(
            f"model.prior_checkpoint: {error}; train a prior first: noise2pose train fit -c "
            "configs/experiments/dpmesh_prior.yaml"
        ) from error
    if not any(key.startswith("backbone.unet.") for key in checkpoint["state_dict"]):
        raise InputError(f"model.prior_checkpoint: {path_or_name} is not a checkpoint of methods.dpmesh.Prior")
    return checkpoint
