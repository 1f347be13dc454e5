"""From names of tensors in diffusers to those in Stable Diffusion's own code (ldm, cldm), for models of version 1."""

import re

LAYERS_PER_BLOCK = 2  # in version 1
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
