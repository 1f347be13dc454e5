"""Networks from tensors that have the names of Stable Diffusion's own code. Every size is read off them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from methods.dpmesh.stable_diffusion.names import LAYERS_PER_BLOCK, autoencoder_name, unet_name
from methods.dpmesh.stable_diffusion.networks import Networks, make_autoencoder, make_controlnet, make_unet
from noise2pose.errors import InputError

UNET, CONTROLNET, AUTOENCODER = "model.diffusion_model.", "control_model.", "first_stage_model."
NUM_LEVELS = 4


def networks(weights: Mapping[str, Tensor], num_heads: int = 8, control: bool = False) -> Networks:
    """The networks of a model, without LoRA; see `fill_lora`.

    Args:
        weights: under their official names. What belongs to none of the networks is left aside.
        num_heads: of attention, which no tensor tells.
        control: there is a ControlNet without a network for hints, as in DPMesh.

    Returns:
        Networks; the autoencoder is None if there is none, and its decoder if only that is missing.

    Raises:
        InputError: if a key is missing, superfluous or of the wrong shape; all are named.
    """
    unet_weights = _below(UNET, weights)
    config = unet_config(unet_weights, num_heads)
    with torch.device("meta"):  # random weights of this size would take longer than reading them
        unet = make_unet(config)
    fill(unet, unet_name, _without_lora(unet_weights), UNET)
    controlnet = None
    if control:
        control_weights = _without_lora(_below(CONTROLNET, weights))
        channels = require(control_weights, "input_blocks.0.0.weight", CONTROLNET).shape[1]
        with torch.device("meta"):
            controlnet = make_controlnet(unet, channels - config["in_channels"], copied=False)
        fill(controlnet, unet_name, control_weights, CONTROLNET)
    return Networks(unet, autoencoder(_below(AUTOENCODER, weights)), controlnet)


def unet_config(weights: Mapping[str, Tensor], num_heads: int) -> dict[str, Any]:
    """Sizes of a U-Net, as diffusers takes them."""
    first = [1 + level * (LAYERS_PER_BLOCK + 1) for level in range(NUM_LEVELS)]
    widths = tuple(len(require(weights, f"input_blocks.{i}.0.out_layers.3.weight", UNET)) for i in first)
    keys = "middle_block.1.transformer_blocks.0.attn2.to_k.{}weight"
    with_lora = keys.format("linear.") in weights
    return {
        "in_channels": require(weights, "input_blocks.0.0.weight", UNET).shape[1],
        "out_channels": len(require(weights, "out.2.weight", UNET)),
        "block_out_channels": widths,
        "layers_per_block": LAYERS_PER_BLOCK,
        "cross_attention_dim": require(weights, keys.format("linear." if with_lora else ""), UNET).shape[1],
        "attention_head_dim": num_heads,  # which diffusers takes for the number of heads
    }


def autoencoder(weights: Mapping[str, Tensor]) -> Any:
    """An autoencoder from tensors below its prefix; None if there are none; its decoder may be missing."""
    if not weights:
        return None
    levels = sum(f"encoder.down.{level}.block.0.conv1.weight" in weights for level in range(8))
    widths = tuple(len(weights[f"encoder.down.{level}.block.0.conv1.weight"]) for level in range(levels))
    latent_channels = require(weights, "quant_conv.weight", AUTOENCODER).shape[0] // 2
    with torch.device("meta"):
        network: Any = make_autoencoder(
            {"block_out_channels": widths, "layers_per_block": LAYERS_PER_BLOCK, "latent_channels": latent_channels}
        )
    if not any(key.startswith("decoder.") for key in weights):
        network.decoder = network.post_quant_conv = None
        weights = {key: value for key, value in weights.items() if not key.startswith("post_quant_conv.")}
    fill(network, lambda name: autoencoder_name(name, levels), weights, AUTOENCODER)
    return network


def has_lora(weights: Mapping[str, Tensor]) -> bool:
    """Whether the U-Net has LoRA layers."""
    return any(key.startswith(UNET) and ".lora_down." in key for key in weights)


def fill_lora(unet: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fills the LoRA layers of a U-Net, which must be those of the weights.

    Raises:
        InputError: as `networks`.
    """
    fill(unet, unet_name, _below(UNET, weights), UNET)


def fill(network: nn.Module, official: Callable[[str], str], weights: Mapping[str, Tensor], prefix: str) -> None:
    """Loads tensors strictly, in float32, with nothing left over.

    Args:
        network: to fill; may be on the meta device.
        official: name of each of its tensors below the prefix.
        weights: under their names below the prefix.
        prefix: which problems are reported with.
    """
    origin = {name: official(name) for name in network.state_dict()}
    known = set(origin.values())
    problems = [f"{prefix}{key} is not known" for key in sorted(weights) if key not in known]
    filled = {}
    for name, value in network.state_dict().items():
        key = origin[name]
        if key not in weights:
            problems.append(f"{prefix}{key} is missing")
            continue
        found = weights[key]
        if found.ndim == 4 and value.ndim == 2 and found.shape[2:] == (1, 1):
            found = found[..., 0, 0]  # the autoencoder's attention, written as convolutions
        if found.shape != value.shape:
            problems.append(f"{prefix}{key} has shape {tuple(found.shape)}, expected {tuple(value.shape)}")
        filled[name] = found.float()
    if problems:
        raise InputError(f"the state dict does not fit Stable Diffusion: {'; '.join(problems)}")
    network.load_state_dict(filled, assign=True)


def require(weights: Mapping[str, Tensor], key: str, prefix: str) -> Tensor:
    """A tensor that must be there.

    Raises:
        InputError: if it is not.
    """
    if key not in weights:
        raise InputError(f"the state dict does not fit Stable Diffusion: {prefix}{key} is missing")
    return weights[key]


def _below(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _without_lora(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace(".linear.", "."): value for key, value in weights.items() if ".lora_" not in key}
