"""The released backbone: its tensors carry the names of Stable Diffusion's own code, below the prefix `sd_model.`."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from methods.dpmesh.backbone.unet import Backbone, LoRAScope
from methods.dpmesh.official_regressor import extract_state_dict
from methods.dpmesh.stable_diffusion import weights as ldm_weights
from methods.dpmesh.stable_diffusion.networks import LATENT_CHANNELS
from noise2pose.errors import InputError


def load_backbone(state_dict: Mapping[str, Any], num_heads: int = 8) -> Backbone:
    """The released backbone: one step at time 1, attention maps appended to the levels 8 and 16.

    Args:
        state_dict: official keys (`model.diffusion_model.*`, `control_model.*`, and `first_stage_model.*` if latents
            are to be made of pictures), with or without a prefix that ends in `sd_model.`, to tensors or arrays; or a
            whole checkpoint of the release, as `extract_state_dict` takes it. Text encoder, tables of the diffusion,
            copies of the same weights and what is not of the backbone are left out.
        num_heads: of attention, which no tensor tells.

    Returns:
        Backbone in evaluation mode. `forward(latents, heatmaps, context)`, with `context` (B, J, D) as a bare tensor,
        answers `level_4`, `level_8`, `level_16` and `level_32`.

    Raises:
        InputError: if a key is missing, superfluous or of the wrong shape; all are named.
    """
    weights = _sd_model(extract_state_dict(state_dict))
    networks = ldm_weights.networks(weights, num_heads, control=True)
    assert networks.controlnet is not None
    with_lora = ldm_weights.has_lora(weights)
    backbone = Backbone(
        num_joints=networks.controlnet.config["in_channels"] - LATENT_CHANNELS,
        size="sd15",
        latent="release",
        unet_training="lora" if with_lora else "frozen",
        lora_scope=_scope(weights),
        lora_rank=_rank(weights) if with_lora else 1,
        train_controlnet=False,  # none of the release's optimizers had it
        generative=True,
        networks=networks,
    )
    if with_lora:
        ldm_weights.fill_lora(backbone.unet, weights)
    backbone.drop_outputs()
    return backbone.eval()


def _sd_model(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is below the first prefix that ends in `sd_model.` and has a U-Net; all of it where there is none."""
    unet = re.compile(rf"((?:.*?\.)?sd_model\.){re.escape(ldm_weights.UNET)}")
    prefix = next((match[1] for key in weights if (match := unet.match(key))), "")
    inner = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not any(key.startswith(ldm_weights.UNET) for key in inner):
        raise InputError(
            f"no key begins with sd_model.{ldm_weights.UNET}: this is not a state dict of DPMesh's backbone"
        )
    return inner


def _scope(weights: Mapping[str, Tensor]) -> LoRAScope:
    if any(".ff.net.0.proj.lora_" in key for key in weights):
        return "attn_ff"
    return "attn" if any(".attn1.to_q.lora_" in key for key in weights) else "attn2"


def _rank(weights: Mapping[str, Tensor]) -> int:
    return next(len(value) for key, value in weights.items() if key.endswith(".lora_down.weight"))
