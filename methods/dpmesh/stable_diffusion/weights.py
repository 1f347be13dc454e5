"""Networks from tensors that have the names of Stable Diffusion's own code. Every size is read off them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from methods.dpmesh.stable_diffusion.names import LAYERS_PER_BLOCK, autoencoder_name, unet_name
from methods.dpmesh.stable_diffusion.networks import Networks, make_autoencoder, make_controlnet, make_unet
from methods.official_weights import load, require

UNET, CONTROLNET, AUTOENCODER = "model.diffusion_model.", "control_model.", "first_stage_model."
NUM_LEVELS = 4
_WHAT = "Stable Diffusion"
_KEYS = f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.{{}}weight"


def networks(weights: Mapping[str, Tensor], num_heads: int = 8, control: bool = False) -> Networks:
    """The networks of a model, without LoRA; see `fill_lora`.

    Args:
        weights: under their official names. Tensors of other networks are ignored.
        num_heads: of attention, which no tensor shows.
        control: there is a ControlNet without a network for hints, as in DPMesh.

    Returns:
        Networks; the autoencoder is None if there is none, and its decoder if only that is missing.

    Raises:
        InputError: if a tensor is missing, superfluous or of the wrong shape.
    """
    config = _unet_config(weights, num_heads)
    with torch.device("meta"):  # random weights of this size would take longer than reading them
        unet = make_unet(config)
    fill(unet, unet_name, _without_lora(weights), UNET)
    controlnet = None
    if control:
        first = f"{CONTROLNET}input_blocks.0.0.weight"
        require(weights, {first: 4}, _WHAT)
        with torch.device("meta"):
            controlnet = make_controlnet(unet, weights[first].shape[1] - config["in_channels"], copied=False)
        fill(controlnet, unet_name, _without_lora(weights), CONTROLNET)
    return Networks(unet, _autoencoder(weights), controlnet)


def _unet_config(weights: Mapping[str, Tensor], num_heads: int) -> dict[str, Any]:
    """Sizes of a U-Net, as diffusers takes them."""
    levels = [
        f"{UNET}input_blocks.{1 + level * (LAYERS_PER_BLOCK + 1)}.0.out_layers.3.weight" for level in range(NUM_LEVELS)
    ]
    keys = _KEYS.format("linear." if _KEYS.format("linear.") in weights else "")  # with LoRA, or without
    first, last = f"{UNET}input_blocks.0.0.weight", f"{UNET}out.2.weight"
    require(weights, {first: 4, **dict.fromkeys(levels, 4), keys: 2, last: 4}, _WHAT)
    return {
        "in_channels": weights[first].shape[1],
        "out_channels": len(weights[last]),
        "block_out_channels": tuple(len(weights[key]) for key in levels),
        "layers_per_block": LAYERS_PER_BLOCK,
        "cross_attention_dim": weights[keys].shape[1],
        "attention_head_dim": num_heads,  # which diffusers takes for the number of heads
    }


def _autoencoder(weights: Mapping[str, Tensor]) -> Any:
    """The autoencoder of a model; None if there is none; its decoder may be missing."""
    # Its attention is written as convolutions over single pixels.
    own = {
        key: value[..., 0, 0] if ".attn_1." in key and value.shape[2:] == (1, 1) else value
        for key, value in weights.items()
        if key.startswith(AUTOENCODER)
    }
    if not own:
        return None
    numbered = [f"{AUTOENCODER}encoder.down.{level}.block.0.conv1.weight" for level in range(8)]
    levels = [key for key in numbered if key in own]
    latents = f"{AUTOENCODER}quant_conv.weight"
    require(own, {numbered[0]: 4, **dict.fromkeys(levels, 4), latents: 4}, _WHAT)
    sizes = {
        "block_out_channels": tuple(len(own[key]) for key in levels),
        "layers_per_block": LAYERS_PER_BLOCK,
        "latent_channels": len(own[latents]) // 2,
    }
    with torch.device("meta"):
        network: Any = make_autoencoder(sizes)
    if not any(key.startswith(f"{AUTOENCODER}decoder.") for key in own):
        network.decoder = network.post_quant_conv = None
        own = {key: value for key, value in own.items() if not key.startswith(f"{AUTOENCODER}post_quant_conv.")}
    fill(network, lambda name: autoencoder_name(name, len(levels)), own, AUTOENCODER)
    return network


def has_lora(weights: Mapping[str, Tensor]) -> bool:
    """Whether the U-Net has LoRA layers."""
    return any(key.startswith(UNET) and ".lora_down." in key for key in weights)


def fill_lora(unet: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fills the LoRA layers of a U-Net, which must be those of the weights.

    Raises:
        InputError: as `networks`.
    """
    fill(unet, unet_name, weights, UNET)


def fill(network: nn.Module, official: Callable[[str], str], weights: Mapping[str, Tensor], prefix: str) -> None:
    """Loads the tensors below a prefix, with none missing and none left over.

    Args:
        network: to fill; may be on the meta device.
        official: name of each of its tensors below the prefix.
        weights: under their official names. Tensors that are not below the prefix are ignored.
        prefix: of the network's tensors.
    """
    names = {name: prefix + official(name) for name in network.state_dict()}
    load(network, {key: value for key, value in weights.items() if key.startswith(prefix)}, _WHAT, names)


def _without_lora(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.replace(".linear.", ".") if key.startswith((UNET, CONTROLNET)) else key: value
        for key, value in weights.items()
        if ".lora_" not in key
    }
