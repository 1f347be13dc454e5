"""The three networks of a latent diffusion model, made with diffusers: autoencoder, U-Net and ControlNet.

Latents have 4 channels; their side is a quarter of the image's with `tiny`, an eighth with `sd15` (Stable Diffusion
1.5).
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import nn

Size = Literal["tiny", "sd15"]
LATENT_SIDE = 32
LATENT_CHANNELS = 4
# In `tiny`, groups of normalisation have at least two channels: with one, they would cancel biases and the time step.
UNET: dict[Size, dict[str, Any]] = {
    "tiny": {
        "block_out_channels": (32, 64, 128, 192),
        "layers_per_block": 1,
        "cross_attention_dim": 128,
        "attention_head_dim": 2,  # which diffusers takes for the number of heads
        "norm_num_groups": 16,
    },
    "sd15": {"cross_attention_dim": 768},
}
AUTOENCODER: dict[Size, dict[str, Any]] = {
    "tiny": {"block_out_channels": (16, 32, 64), "layers_per_block": 1, "norm_num_groups": 8},
    "sd15": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
}
# Latents times this have a variance of about 1; the factor of `tiny` is estimated in training.
LATENT_SCALE: dict[Size, float] = {"tiny": 1.0, "sd15": 0.18215}


class Networks(NamedTuple):
    """The networks. Their types are Any, because some of their layers are replaced here by others.

    Attributes:
        unet: `UNet2DConditionModel` with its output layers.
        autoencoder: `AutoencoderKL`, images to latents and back; None where latents are given.
        controlnet: `ControlNetModel` of latents and heat-maps; None where there are no heat-maps.
    """

    unet: Any
    autoencoder: Any
    controlnet: Any


class NoHint(nn.Module):
    """Replaces a ControlNet's network for hint images: the heat-maps are channels beside the latents."""

    def forward(self, hint: Any) -> float:
        return 0.0


def make_unet(config: dict[str, Any]) -> Any:
    """A U-Net with random weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**{"sample_size": LATENT_SIDE, **config})


def make_autoencoder(config: dict[str, Any]) -> Any:
    """An autoencoder with random weights."""
    from diffusers import AutoencoderKL

    levels = len(config["block_out_channels"])
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    return AutoencoderKL(**{"latent_channels": LATENT_CHANNELS, **blocks, **config})


def make_controlnet(unet: Any, num_joints: int, copied: bool = True) -> Any:
    """A ControlNet that takes heat-maps beside the latents and has no network for hint images.

    Its output layers are zero, so at first it changes nothing.

    Args:
        unet: of the same sizes.
        num_joints: number of heat-maps.
        copied: start from the weights of the U-Net's down and middle blocks; the weights of the heat-maps in the first
            layer are random in any case.
    """
    from diffusers import ControlNetModel

    latent_channels = unet.config["in_channels"]
    controlnet: Any = ControlNetModel.from_unet(unet, load_weights_from_unet=copied)
    controlnet.controlnet_cond_embedding = NoHint()
    first = controlnet.conv_in
    extended: Any = nn.Conv2d(
        latent_channels + num_joints, first.out_channels, first.kernel_size, padding=first.padding
    )
    if copied:
        with torch.no_grad():
            extended.weight[:, :latent_channels] = first.weight
            extended.bias.copy_(first.bias)
    controlnet.conv_in = extended
    controlnet.register_to_config(in_channels=latent_channels + num_joints)
    return controlnet


def make_networks(size: Size, num_joints: int, control: bool = True) -> Networks:
    """Networks with random weights.

    Args:
        size: of the networks.
        num_joints: heat-maps of the ControlNet.
        control: make a ControlNet.
    """
    unet = make_unet(UNET[size])
    return Networks(unet, make_autoencoder(AUTOENCODER[size]), make_controlnet(unet, num_joints) if control else None)
