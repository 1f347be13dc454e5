"""The interface of DPMesh's backbones, and the diffusion backbone with its context tokens and its fusion head.

Shape letters: B batch, S side of the image, J joints, F channels and c side of the feature map.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from methods.checkpoints import read_checkpoint
from methods.dpmesh.backbone.context import CONTEXTS, Context
from methods.dpmesh.backbone.fusion import FusionHead
from methods.dpmesh.backbone.unet import Backbone
from methods.dpmesh.conditions import Conditions
from methods.dpmesh.sizes import sides_of
from noise2pose.errors import InputError

_TAUGHT = ("level_8", "level_16", "level_32")  # levels of `Features` (paper)


class Features(NamedTuple):
    """Output of a backbone.

    Attributes:
        fused: feature map for the regressor.
        levels: feature maps of different depth, which a student learns from a teacher: see `methods.dpmesh.reasoning`.
    """

    fused: Float[Tensor, "B F c c"]
    levels: list[Tensor]


class ImageFeatures(nn.Module):
    """A network from an image and the conditions to one feature map."""

    @abstractmethod
    def forward(self, image: Float[Tensor, "B 3 S S"], conditions: Conditions) -> Features:
        """Features of an RGB image in [0, 1]."""

    def attention(self, image: Float[Tensor, "B 3 S S"], conditions: Conditions) -> dict[int, Float[Tensor, "B J _ _"]]:
        """Cross-attention to each joint, by the sides of the levels; empty where no token depends on a joint."""
        return {}

    @abstractmethod
    def load_pretrained(self, source: str) -> None:
        """Loads the weights that training starts from.

        Raises:
            InputError: if there is no such file, or if its weights are of another network.
        """


class DiffusionFeatures(ImageFeatures):
    """A diffusion model's U-Net, conditioned on heat-maps and context tokens of the joints, and its fusion head.

    Args:
        num_joints: J.
        width: F.
        heatmaps: make a ControlNet, which takes the heat-maps.
        context: how joints become tokens.
        settings: further arguments of `Backbone`.
    """

    def __init__(
        self, num_joints: int, width: int, heatmaps: bool, context: Context, settings: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.backbone = Backbone(num_joints, control=heatmaps, **settings)
        self.has_context = context != "none"
        self.context = CONTEXTS[context](num_joints, self.backbone.context_width)
        self.fusion = FusionHead(self.backbone.channels, width)

    def forward(self, image: Float[Tensor, "B 3 S S"], conditions: Conditions) -> Features:
        pyramid = self._pyramid(image, conditions)
        return Features(self.fusion(pyramid), [pyramid[name] for name in _TAUGHT])

    def attention(self, image: Float[Tensor, "B 3 S S"], conditions: Conditions) -> dict[int, Float[Tensor, "B J _ _"]]:
        return self.backbone.attention(self._pyramid(image, conditions)) if self.has_context else {}

    def _pyramid(self, image: Float[Tensor, "B 3 S S"], conditions: Conditions) -> dict[str, Float[Tensor, "B _ _ _"]]:
        latents = self.backbone.encode(image)
        tokens = self.context(conditions.joints, conditions.present)
        heatmaps = conditions.heatmaps if self.backbone.controlnet is not None else None
        return self.backbone(latents, heatmaps, tokens)

    def load_pretrained(self, source: str) -> None:
        """Loads autoencoder, U-Net, ControlNet and context from the checkpoint of a `methods.dpmesh.Prior`."""
        weights = _read_prior(source)["state_dict"]
        try:
            self.backbone.load_pretrained(_below("backbone.", weights))
        except InputError as error:
            raise InputError(f"model.prior_checkpoint: {source}: {error}") from error
        context, expected = _below("context.", weights), self.context.state_dict()
        if missing := [key for key in expected if key not in context or context[key].shape != expected[key].shape]:
            raise InputError(
                f"model.prior_checkpoint: {source} was trained with another context (no context.{missing[0]}); set "
                "model.context to the prior's"
            )
        self.context.load_state_dict({key: context[key] for key in expected})


def check_prior(path_or_name: str, image_size: int, skeleton: str) -> None:
    """Refuses a prior that was trained on images of another size or on other joints, whose weights would fit.

    Args:
        path_or_name: of its checkpoint.
        image_size: side of the images of the network that starts from it.
        skeleton: name of the joints of that network.

    Raises:
        InputError: if either differs, or if there is no such checkpoint or it is not of a prior.
    """
    settings = _read_prior(path_or_name).get("hyper_parameters", {})
    found = sides_of(settings.get("size", "tiny"), settings.get("image_size")).image
    if found != image_size:
        raise InputError(
            f"model.prior_checkpoint: {path_or_name} was trained on images of {found} pixels; set model.image_size "
            f"to {found} (it is {image_size})"
        )
    if (known := settings.get("skeleton", skeleton)) != skeleton:
        raise InputError(
            f"model.prior_checkpoint: {path_or_name} was trained on the joints {known} (model.skeleton: {skeleton})"
        )


def _read_prior(path_or_name: str) -> dict[str, Any]:
    try:
        checkpoint = read_checkpoint(path_or_name)
    except InputError as error:
        raise InputError(
            f"model.prior_checkpoint: {error}; train a prior first: python scripts/train.py fit -c "
            "configs/experiments/dpmesh_prior.yaml"
        ) from error
    if not any(key.startswith("backbone.unet.") for key in checkpoint["state_dict"]):
        raise InputError(f"model.prior_checkpoint: {path_or_name} is not a checkpoint of methods.dpmesh.Prior")
    return checkpoint


def _below(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
