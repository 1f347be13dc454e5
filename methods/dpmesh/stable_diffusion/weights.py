"""Networks from tensors that have the names of Stable Diffusion's own code (ldm, cldm), for models of version 1.

Every size is read off the tensors.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from methods.dpmesh.stable_diffusion.networks import Networks, make_autoencoder, make_controlnet, make_unet
from methods.official_weights import load, require

UNET, CONTROLNET, AUTOENCODER = "model.diffusion_model.", "control_model.", "first_stage_model."
NUM_LEVELS = 4
LAYERS_PER_BLOCK = 2
_WHAT = "Stable Diffusion"
_KEYS = f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.{{}}weight"


_BLOCK = 2  # in version 1
_BLOCK = LAYERS_PER_BLOCK + 1  # numbered layers of a block: with a down-sampler, or one layer more on the way up
_UNET_LAYERS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "controlnet_mid_block": "middle_block_out.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_LORA = {".base_layer.": ".linear.", ".lora_A.default.": ".lora_down.", ".lora_B.default.": ".lora_up."}
_AUTOENCODER_PARTS = (
    (r"^(encoder|decoder)\.conv_norm_out\.", r"\1.norm_out."),
    (r"\.down_blocks\.(\d+)\.resnets\.(\d+)\.", r".down.\1.block.\2."),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.up_blocks\.(\d+)\.resnets\.(\d+)\.", r".up.\1.block.\2."),
    (r"\.up_blocks\.(\d+)\.upsamplers\.0\.", r".up.\1.upsample."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
)


def networks(weights: Mapping[str, Tensor], num_heads: int = 8, control: bool = False) -> Networks:
    """The networks of a model, without LoRA, whose layers `fill` fills.

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
    levels = [f"{UNET}input_blocks.{1 + level * _BLOCK}.0.out_layers.3.weight" for level in range(NUM_LEVELS)]
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


def unet_name(name: str) -> str:
    """The name of a U-Net's tensor below `model.diffusion_model.`, or of a ControlNet's below `control_model.`.

    LoRA has the names of cloneofsimo's code, where `linear` is the layer itself.
    """
    for ours, theirs in _LORA.items():
        name = name.replace(ours, theirs)
    for ours, theirs in _UNET_LAYERS.items():
        if name.startswith(ours + "."):
            return theirs + _inside(name.removeprefix(ours))
    match = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)(\..*)", name)
    if match is not None:
        path, block, kind, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
        if kind == "downsamplers":
            return f"input_blocks.{(block + 1) * _BLOCK}.0.op{rest.removeprefix('.conv')}"
        if kind == "upsamplers":
            # After the block's last attention, which the first block lacks.
            return f"output_blocks.{block * _BLOCK + LAYERS_PER_BLOCK}.{1 if block == 0 else 2}{rest}"
        start = (
            f"input_blocks.{1 + block * _BLOCK + layer}"
            if path == "down"
            else f"output_blocks.{block * _BLOCK + layer}"
        )
        return f"{start}.0{_inside(rest)}" if kind == "resnets" else f"{start}.1{rest}"
    match = re.match(r"controlnet_down_blocks\.(\d+)(\..*)", name)
    return name if match is None else f"zero_convs.{match[1]}.0{match[2]}"


def autoencoder_name(name: str, num_levels: int) -> str:
    """The name of an autoencoder's tensor below `first_stage_model.`, where levels are numbered from the finest."""
    for pattern, replacement in _AUTOENCODER_PARTS:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"^decoder\.up\.(\d+)\.", lambda match: f"decoder.up.{num_levels - 1 - int(match[1])}.", name)


def _inside(rest: str) -> str:
    """The part of a name inside a residual block; unknown parts are kept."""
    _, part, *end = rest.split(".")
    return "." + ".".join([_UNET_RESNET.get(part, part), *end])
