"""The interface of DPMesh's backbones, and the diffusion backbone with its context tokens and its fusion head.

Levels of its pyramid are named after their sides where the latents have side 32.

Shape letters: B batch, S side of the image, J joints, F channels and c side of the feature map.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.dpmesh.backbone.attention import CONTEXTS, Context
from methods.dpmesh.backbone.unet import Backbone
from methods.dpmesh.conditions import Conditions
from methods.dpmesh.settings import read_prior
from methods.official_weights import load
from noise2pose.errors import InputError

_GROUPS = 16  # of the normalisations of the fusion head
_LEVELS = ("level_4", "level_8", "level_16", "level_32")
_TAUGHT = ("level_8", "level_16", "level_32")  # levels of `Features` (paper)


class Features(NamedTuple):
    """Output of a backbone.

    Attributes:
        fused: feature map for the regressor.
        levels: feature maps of different depth, which a student learns from a teacher (`losses.reasoning_losses`).
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
        heatmaps: take the heat-maps.
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
        heatmaps = conditions.heatmaps if self.backbone.takes_heatmaps else None
        return self.backbone(latents, heatmaps, tokens)

    def load_pretrained(self, source: str) -> None:
        """Loads autoencoder, U-Net, ControlNet and context from the checkpoint of a `methods.dpmesh.Prior`."""
        weights = read_prior(source)["state_dict"]
        try:
            self.backbone.load_pretrained(_below("backbone.", weights))
        except InputError as error:
            raise InputError(f"model.prior_checkpoint: {source}: {error}") from error
        context = _below("context.", weights)
        try:
            load(
                self.context, {key: context[key] for key in self.context.state_dict() if key in context}, "this context"
            )
        except InputError as error:
            raise InputError(
                f"model.prior_checkpoint: {source} was trained with another context ({error}); set model.context to "
                "the prior's"
            ) from error


class FusionHead(nn.Module):
    """One feature map from the pyramid (paper, section 3.2; release `outmodules`).

    Resizes four levels to the side of `level_8`, and merges them: the finest is halved twice, the next once, and the
    coarsest is doubled.

    Args:
        channels: of `level_4`, `level_8`, `level_16` and `level_32`, appended attention maps included.
        width: F, a multiple of 16 (published: 2048).
    """

    def __init__(self, channels: Mapping[str, int], width: int = 2048) -> None:
        super().__init__()
        coarsest, coarse, fine, finest = (channels[level] for level in _LEVELS)
        inner = finest - finest % _GROUPS  # with appended maps, the groups need not be whole
        self.from_32 = nn.Sequential(
            nn.Conv2d(finest, inner, 3, stride=2, padding=1),
            nn.GroupNorm(_GROUPS, inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride=2, padding=1),
        )
        self.from_16 = nn.Conv2d(fine, fine, 3, stride=2, padding=1)
        self.merge = nn.Sequential(
            nn.Conv2d(inner + fine + coarse + coarsest, width, 1), nn.GroupNorm(_GROUPS, width), nn.ReLU()
        )
        self.width = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, pyramid: Mapping[str, Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B F c c"]:
        """The feature map, of the side of `level_8`.

        Args:
            pyramid: the four levels; each is half as wide as the next.
        """
        doubled = F.interpolate(pyramid["level_4"], scale_factor=2.0, mode="nearest")
        fine, finest = self.from_16(pyramid["level_16"]), self.from_32(pyramid["level_32"])
        return self.merge(torch.cat((finest, fine, pyramid["level_8"], doubled), dim=1))


def _below(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
