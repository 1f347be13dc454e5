"""The U-Net of a latent diffusion model as a backbone: the features of one step (paper, sections 3.1 and 3.2).

Shape letters: B batch, J joints (one context token each), D width of a token, C latent channels, S side of the image, h
side of the latents.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.dpmesh.backbone.attention import ContextTokens, OutputHook, Record, RecordingProcessor
from methods.dpmesh.stable_diffusion.files import read_networks
from methods.dpmesh.stable_diffusion.networks import LATENT_SCALE, Networks, Size, make_networks
from methods.official_weights import load
from noise2pose.errors import InputError

LatentConvention = Literal["sd", "release"]
Training = Literal["lora", "full", "frozen"]
HeatmapInput = Literal["control", "add"]
LoRAScope = Literal["attn2", "attn", "attn_ff"]
# Linear layers that LoRA is added to: those of the paper, and two wider choices, of which the last is the release's.
LORA_LAYERS: dict[LoRAScope, str] = {
    "attn2": r".*attn2\.(to_q|to_k|to_v|to_out\.0)",
    "attn": r".*attn[12]\.(to_q|to_k|to_v|to_out\.0)",
    "attn_ff": r".*(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.0\.proj)",
}
SIDES = (4, 8, 16, 32)  # of the levels, where latents have 32
_ADAPTER = "default"
# Blocks of the U-Net whose cross-attention has maps of this side, without the middle block.
_ATTENDING = {
    8: ("down_blocks.2.", "up_blocks.1."),
    16: ("down_blocks.1.", "up_blocks.2."),
    32: ("down_blocks.0.", "up_blocks.3."),
}


class Backbone(nn.Module):
    """Autoencoder's encoder, U-Net and ControlNet, whose one step makes a pyramid of features and attention maps.

    `requires_grad` says what is trained, and is set here once: of the U-Net (`unet.*`) its LoRA layers (`*.lora_A.*`,
    `*.lora_B.*`), all of it or nothing, see `unet_training`; the ControlNet (`controlnet.*`), see `train_controlnet`.
    The autoencoder (`autoencoder.*`) is frozen; the linear map of added heat-maps (`to_latents.*`) is trained.

    Args:
        num_joints: J, the number of heat-maps and of context tokens.
        size: `tiny`, or `sd15` for the sizes of Stable Diffusion 1.5.
        weights: of Stable Diffusion 1.5: a folder as diffusers saves it, or one `.safetensors` or `.ckpt` file, see
            `methods.dpmesh.stable_diffusion.files`; only with `sd15`. None starts from random weights.
        control_weights: of a published ControlNet, folder or file. None starts from the U-Net's weights.
        latent: `sd` encodes pixels in [-1, 1] and scales latents to unit variance, as the U-Net was trained; `release`
            leaves pixels in [0, 1] and latents as they are.
        timestep: of the one step.
        maps: sides of the levels that attention maps are appended to: 8, 16 and 32.
        control: take heat-maps.
        heatmap_input: `control` for a ControlNet, which takes them beside the latents; `add` for a linear map of them
            that is added to the latents. The paper does not say how N maps are added to four channels.
        unet_training: `lora`, `full` or `frozen`.
        lora_scope: which layers have LoRA.
        lora_rank: of LoRA; its scale is 1.
        train_controlnet: train the ControlNet.
        generative: keep the U-Net's output layers and the autoencoder's decoder, which only `epsilon` and `decode` use.
        gradient_checkpointing, channels_last, compile: as in `methods.dpmesh.DPMesh`.
        networks: used instead of networks of `size` and `weights`.

    Raises:
        InputError: if the weights are missing or do not fit.
    """

    def __init__(
        self,
        num_joints: int = 17,
        size: Size = "tiny",
        weights: str | Path | None = None,
        control_weights: str | Path | None = None,
        latent: LatentConvention = "sd",
        timestep: int = 1,
        maps: Iterable[int] = (8, 16),
        control: bool = True,
        heatmap_input: HeatmapInput = "control",
        unet_training: Training = "lora",
        lora_scope: LoRAScope = "attn2",
        lora_rank: int = 64,
        train_controlnet: bool = True,
        generative: bool = False,
        gradient_checkpointing: bool = False,
        channels_last: bool = False,
        compile: bool = False,
        networks: Networks | None = None,
    ) -> None:
        super().__init__()
        self.num_joints, self.size, self.latent, self.timestep = num_joints, size, latent, timestep
        self.lora_scope, self.lora_rank = lora_scope, lora_rank if unet_training == "lora" else 0
        if networks is None:
            networks = _networks(size, num_joints, weights, control and heatmap_input == "control", control_weights)
        self.unet, self.autoencoder, self.controlnet = networks
        self.latent_scale: Tensor
        self.register_buffer("latent_scale", torch.tensor(LATENT_SCALE[size]))
        if not generative:
            self.drop_outputs()
        self._choose_trained(unet_training, lora_scope, lora_rank, train_controlnet)
        added = control and heatmap_input == "add"
        self.to_latents = nn.Conv2d(num_joints, self.unet.config["in_channels"], 1, bias=False) if added else None
        self._record = Record()
        self._map_layers = {side: _cross_attention(self.unet, side) for side in sorted(set(maps))}
        widths = self.unet.config["block_out_channels"]
        self.channels = {
            f"level_{side}": width + (num_joints if side in self._map_layers else 0)
            for side, width in zip(SIDES, reversed(widths), strict=True)
        }
        self._record_layers(self.unet)
        if gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
            if self.controlnet is not None:
                self.controlnet.enable_gradient_checkpointing()
        if channels_last:
            self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if compile:
            self.unet.compile()
            if self.controlnet is not None:
                self.controlnet.compile()

    @property
    def takes_heatmaps(self) -> bool:
        """Whether `forward` needs heat-maps."""
        return self.controlnet is not None or self.to_latents is not None

    @property
    def context_width(self) -> int:
        """D, width of a context token."""
        return self.unet.config["cross_attention_dim"]

    def forward(
        self,
        latents: Float[Tensor, "B C h h"],
        heatmaps: Float[Tensor, "B J h h"] | None,
        context: ContextTokens | Float[Tensor, "B J D"],
    ) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """Features of one step without noise.

        Args:
            latents: of the image, see `encode`.
            heatmaps: of the joints; None where none are taken.
            context: tokens of the joints; if they are a plain tensor, all are attended to.

        Returns:
            `level_4`, `level_8`, `level_16`, `level_32`, named after their sides where h is 32; their channels are in
            `channels`. Attention maps, one a token, come after the features.
        """
        times = latents.new_full((len(latents),), self.timestep, dtype=torch.long)
        self._record.start()
        try:
            self._step(latents, heatmaps, context, times)
        finally:
            recorded = self._record.take()
        levels = {name: recorded[name] for name in self.channels}
        for side, layers in self._map_layers.items():
            mean = torch.stack([recorded[layer] for layer in layers]).mean(dim=0)
            features = levels[f"level_{side}"]
            levels[f"level_{side}"] = torch.cat((features, mean.to(features.dtype)), dim=1)
        return levels

    def attention(self, levels: Mapping[str, Tensor]) -> dict[int, Float[Tensor, "B J _ _"]]:
        """The attention maps, one a token, in the output of `forward`, by the sides of their levels."""
        return {side: levels[f"level_{side}"][:, -self.num_joints :] for side in self._map_layers}

    def epsilon(
        self,
        latents: Float[Tensor, "B C h h"],
        times: Int[Tensor, " B"],
        heatmaps: Float[Tensor, "B J h h"] | None,
        context: ContextTokens | Float[Tensor, "B J D"],
    ) -> Float[Tensor, "B C h h"]:
        """Predicted noise of latents; only for a `generative` backbone.

        Args:
            latents: with noise.
            times: of the diffusion, 0 to 999.
            heatmaps: as for `forward`.
            context: as for `forward`.

        Raises:
            InputError: if the backbone is not generative.
        """
        if isinstance(self.unet.conv_out, nn.Identity):
            raise InputError("this backbone has no output layers: it was made with generative=False")
        return self._step(latents, heatmaps, context, times)

    def encode(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h h"]:
        """Latents of RGB images in [0, 1]: the mean of the posterior, in the convention of `latent`."""
        assert self.autoencoder is not None, "these networks came without an autoencoder"
        pixels = 2.0 * image - 1.0 if self.latent == "sd" else image
        latents = self.autoencoder.encode(pixels).latent_dist.mode()
        return latents * self.latent_scale if self.latent == "sd" else latents

    def decode(self, latents: Float[Tensor, "B C h h"]) -> Float[Tensor, "B 3 S S"]:
        """Images of latents, which may leave [0, 1]; only for a `generative` backbone.

        Raises:
            InputError: if the backbone is not generative.
        """
        assert self.autoencoder is not None, "these networks came without an autoencoder"
        if self.autoencoder.decoder is None:
            raise InputError("this backbone has no decoder: it was made with generative=False")
        if self.latent == "release":
            return self.autoencoder.decode(latents).sample
        return 0.5 * self.autoencoder.decode(latents / self.latent_scale).sample + 0.5

    def load_pretrained(self, state_dict: Mapping[str, Tensor]) -> None:
        """Loads the weights of another backbone of the same sizes, such as a trained prior's.

        The other one may be `generative` and may lack LoRA; the LoRA layers of this one stay as they are, and so does
        the linear map of heat-maps.

        Raises:
            InputError: if a weight is missing or of another shape.
        """
        own = self.state_dict()
        names = {name: name.replace(".base_layer.", ".") for name in own}
        known = set(names.values())
        weights = {key: value for key, value in state_dict.items() if key in known}
        weights |= {name: value for name, value in own.items() if ".lora_" in name or name.startswith("to_latents.")}
        load(self, weights, "this backbone", names)

    def _step(self, latents: Tensor, heatmaps: Tensor | None, context: ContextTokens | Tensor, times: Tensor) -> Tensor:
        tokens, present = context if isinstance(context, ContextTokens) else (context, None)
        residuals: dict[str, Any] = {}
        if self.controlnet is not None:
            assert heatmaps is not None, "a ControlNet needs heat-maps"
            controlled = torch.cat((latents, heatmaps.to(latents.dtype)), dim=1)
            down, middle = self.controlnet(controlled, times, tokens, None, return_dict=False)
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        if self.to_latents is not None:
            assert heatmaps is not None, "heat-maps are added to the latents"
            latents = latents + self.to_latents(heatmaps.to(latents.dtype))
        return self.unet(latents, times, tokens, encoder_attention_mask=present, return_dict=False, **residuals)[0]

    def drop_outputs(self) -> None:
        """Removes the layers that only `epsilon` and `decode` use."""
        self.unet.conv_norm_out = self.unet.conv_act = self.unet.conv_out = nn.Identity()
        if self.autoencoder is not None:
            self.autoencoder.decoder = self.autoencoder.post_quant_conv = None

    def _choose_trained(self, unet: Training, scope: LoRAScope, rank: int, controlnet: bool) -> None:
        self.requires_grad_(False)
        if unet == "lora":
            if rank < 1:
                raise InputError(f"model.lora_rank is {rank}, expected at least 1")
            from peft import LoraConfig

            self.unet.add_adapter(
                LoraConfig(r=rank, lora_alpha=rank, target_modules=LORA_LAYERS[scope]), adapter_name=_ADAPTER
            )
        elif unet == "full":
            self.unet.requires_grad_(True)
        if self.controlnet is not None:
            self.controlnet.requires_grad_(controlnet)

    def _record_layers(self, unet: Any) -> None:
        """Makes layers of the U-Net record their features and attention maps."""
        last = unet.config["layers_per_block"]
        levels = {
            "level_4": unet.up_blocks[0].resnets[last - 1],
            "level_8": unet.up_blocks[1].attentions[last - 1],
            "level_16": unet.up_blocks[2].attentions[last - 1],
            "level_32": unet.up_blocks[3].attentions[last],
        }
        for name, module in levels.items():
            module.register_forward_hook(OutputHook(name, self._record))
        processors = dict(unet.attn_processors)
        for layers in self._map_layers.values():
            for layer in layers:
                processors[f"{layer}.processor"] = RecordingProcessor(layer, self._record)
        unet.set_attn_processor(processors)


def _networks(
    size: Size, num_joints: int, weights: str | Path | None, control: bool, control_weights: str | Path | None
) -> Networks:
    if weights is None and control_weights is None:
        return make_networks(size, num_joints, control)
    if size != "sd15" or weights is None:
        raise InputError(
            "weights of Stable Diffusion (model.pretrained) need model.size sd15, and weights of a ControlNet "
            "(model.control_pretrained) need model.pretrained as well"
        )
    return read_networks(weights, num_joints, control, control_weights)


def _cross_attention(unet: Any, side: int) -> list[str]:
    """Names of the cross-attention layers whose maps have a side, from the down and the up path."""
    names = (name.removesuffix(".processor") for name in unet.attn_processors)
    return [name for name in names if name.endswith("attn2") and name.startswith(_ATTENDING[side])]
