"""One step of the backbone with and without its maps, and a training step with each of its options (takes 7 GB).

The backbone as it is usually written is here too, as the slow reference: every attention layer computes its softmax
explicitly; one pass reads the features and another the attention maps, which are stored for every layer and selected
afterwards, as in prompt-to-prompt's attention store.

Shape letters: B batch, J joints, C latent channels, h side of the latents, T tokens, D their width.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.dpmesh.backbone.unet import Backbone
from methods.dpmesh.conditions import Conditions
from methods.dpmesh.settings import SIZES, sides_of
from methods.dpmesh.stable_diffusion.networks import (
    LATENT_CHANNELS,
    LATENT_SIDE,
    UNET,
    Networks,
    make_controlnet,
    make_unet,
)
from scripts.benchmarks.dpmesh_memory import TRAINING_JOINTS, training_network
from scripts.benchmarks.measure import Comparison, Prepared, Side

_JOINTS = 30  # the release's
_SAME = 1e-4  # relative: float32 results of two orders of summation
_SMALL = {**UNET["tiny"], "cross_attention_dim": 768}
_UP = {"up_blocks.0": "level_4", "up_blocks.1": "level_8", "up_blocks.2": "level_16", "up_blocks.3": "level_32"}
_PATTERN = 1 << 20  # random numbers that full-size weights repeat: drawing all of them takes half a minute


def comparisons(device: torch.device, quick: bool) -> list[Comparison]:
    """The rows of one step of the backbone, and of training; both sides run on the device."""
    images = 1 if quick or device.type == "cpu" else 16
    size = "small widths" if quick else "Stable Diffusion 1.5's widths"
    setting = f"U-Net and ControlNet of {size}, latents of 32 x 32, {_JOINTS} tokens, batch {images}, float32, eager"
    networks = functools.cache(lambda: _networks(_SMALL if quick else UNET["sd15"], device))

    def row(name: str, against: str, at_least: float | None, prepare: Callable[[], Prepared], repeats: int = 5):
        return Comparison(f"one step{name}", setting, against, at_least, "image", prepare, repeats)

    rows = [
        row(
            ", maps recorded",
            "the same without maps: fused attention in every layer",
            1 / 1.10,
            lambda: _step(networks(), _silent, images, device),
            repeats=15,
        ),
        row(
            " against separate passes",
            "explicit softmax in every layer of both networks, one pass for features and one for maps",
            1.5,
            lambda: _step(networks(), TextbookBackbone, images, device),
        ),
        row(
            " against explicit softmax",
            "explicit softmax in every layer, features alone",
            None,
            lambda: _step(networks(), lambda both: TextbookBackbone(both).features, images, device),
        ),
    ]
    people = 2 if quick else 8
    options: list[tuple[str, bool, dict[str, Any]]] = [
        ("channels-last", False, {"channels_last": True}),
        *([] if quick else [("compiled", False, {"compile": True})]),
        ("gradient checkpointing", False, {"gradient_checkpointing": True}),
        ("bfloat16", True, {}),
    ]
    rows += [
        Comparison(
            name=f"training step, {name}",
            setting=f"tiny, {people} images of {SIZES['tiny'].image} pixels: all parts, maps recorded, LoRA, AdamW",
            against="the same in float32, eager, without the option",
            at_least=None,
            unit="step",
            prepare=lambda autocast=autocast, option=option: _training(option, autocast, people, device),
            repeats=15,
        )
        for name, autocast, option in options
    ]
    if device.type == "cuda":
        rows += [
            row(
                f", {name}",
                "the same in float32, eager",
                None,
                lambda compiled=compiled, autocast=autocast: _faster(networks(), compiled, autocast, images, device),
            )
            for name, compiled, autocast in (("compiled", True, False), ("bfloat16", False, True), ("both", True, True))
        ]
    return rows


def _step(networks: Networks, make: Callable[..., Any], batch: int, device: torch.device) -> Prepared:
    """One step of ours, and of another implementation that `make` makes of the same networks."""
    inputs = _inputs(batch, device)
    recording = _backbone(networks)
    other = make(networks)
    processors = dict(recording.unet.attn_processors)

    @torch.inference_mode()
    def ours() -> dict[str, Tensor]:
        recording.unet.set_attn_processor(dict(processors))  # the other side sets others in the shared networks
        return recording(*inputs)

    theirs = torch.inference_mode()(lambda: other(*inputs))
    return Prepared(Side(ours, batch), Side(theirs, batch), *_compare(ours(), theirs()))


def _silent(networks: Networks) -> Callable[..., Any]:
    backbone = _backbone(networks, maps=())
    from diffusers.models.attention_processor import AttnProcessor2_0

    fused = {name: AttnProcessor2_0() for name in networks.unet.attn_processors}

    def run(*inputs: Tensor) -> dict[str, Tensor]:
        backbone.unet.set_attn_processor(dict(fused))
        return backbone(*inputs)

    return run


def _faster(networks: Networks, compiled: bool, autocast: bool, batch: int, device: torch.device) -> Prepared:
    """One step with options on a GPU; also measures the peak memory of each side."""
    inputs = _inputs(batch, device)
    plain = _backbone(networks)
    faster = copy.deepcopy(plain)
    if compiled:
        faster.unet.compile()
        assert faster.controlnet is not None
        faster.controlnet.compile()

    @torch.inference_mode()
    def ours() -> dict[str, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            return faster(*inputs)

    theirs = torch.inference_mode()(lambda: plain(*inputs))
    peaks = {"our_peak_gib": _peak(ours), "their_peak_gib": _peak(theirs)}
    checks, complaint = _compare(ours(), theirs(), 0.1 if autocast else 1e-2)
    return Prepared(Side(ours, batch), Side(theirs, batch), {**checks, **peaks}, complaint)


def _training(option: dict[str, Any], autocast: bool, batch: int, device: torch.device) -> Prepared:
    """A training step with an option, and one without."""
    ours, theirs = _training_step(batch, device, autocast, **option), _training_step(batch, device)
    checks = {"loss": float(ours()), "their_loss": float(theirs())}
    difference = abs(checks["loss"] - checks["their_loss"])
    same = difference <= (0.1 if autocast else 1e-2) * abs(checks["their_loss"])
    if device.type == "cuda":
        checks |= {"our_peak_gib": _peak(ours), "their_peak_gib": _peak(theirs)}
    return Prepared(Side(ours, 1), Side(theirs, 1), checks, "" if same else "the two steps have different losses")


def _training_step(batch: int, device: torch.device, autocast: bool = False, **options: Any) -> Callable[[], Tensor]:
    """Forward, backward and optimizer step of the tiny network on one batch of random numbers; each call has a loss.

    Args:
        batch: people.
        device: of the network.
        autocast: mixed precision with bfloat16.
        options: of the diffusion backbone.
    """
    torch.manual_seed(0)
    sides, joints = sides_of("tiny"), TRAINING_JOINTS
    network = training_network("tiny", lora_rank=8, **options).to(device)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # so that both sides have the same loss
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-5)
    image = torch.rand(batch, 3, sides.image, sides.image, device=device)
    maps = torch.rand(batch, joints, sides.latents, sides.latents, device=device)
    present = torch.rand(batch, joints, device=device) > 0.2
    conditions = Conditions(torch.rand(batch, joints, 2, device=device), present, maps)

    def run() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            estimate, levels = network(image, conditions)
        loss = estimate.rotations.square().sum() + sum(level.float().square().mean() for level in levels)
        loss = loss + estimate.betas.square().sum() + estimate.camera.square().sum() + estimate.joint_img.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run


def _backbone(networks: Networks, **options: Any) -> Backbone:
    return Backbone(
        _JOINTS, "sd15", unet_training="frozen", train_controlnet=False, generative=True, networks=networks, **options
    ).eval()


@torch.no_grad()
def _networks(config: dict[str, Any], device: torch.device) -> Networks:
    """Networks with random weights of about the scale of trained ones."""
    with torch.device("meta"):
        unet = make_unet(config)
        controlnet = make_controlnet(unet, _JOINTS, copied=False)
    pattern = torch.randn(_PATTERN, generator=torch.Generator().manual_seed(0)).to(device)
    for network in (unet.to_empty(device=device), controlnet.to_empty(device=device)):
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            else:
                repeated = pattern.repeat(-(-parameter.numel() // _PATTERN))[: parameter.numel()]
                parameter.copy_(repeated.view(parameter.shape) * parameter[0].numel() ** -0.5)
    return Networks(unet, None, controlnet)


def _inputs(batch: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE, generator=generator)
    heatmaps = torch.rand(batch, _JOINTS, LATENT_SIDE, LATENT_SIDE, generator=generator)
    tokens = torch.randn(batch, _JOINTS, 768, generator=generator)
    return latents.to(device), heatmaps.to(device), tokens.to(device)


def _compare(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = _SAME
) -> tuple[dict[str, float], str]:
    """Largest relative difference over the channels that both sides have, and the complaint about it."""
    difference = max(
        float((ours[name][:, : level.shape[1]].float() - level.float()).abs().max() / level.float().abs().max())
        for name, level in theirs.items()
    )
    complaint = "" if difference < tolerance else "the two sides compute different features"
    return {"difference": difference}, complaint


def _peak(run: Callable[[], Any]) -> float:
    """Peak GPU memory of a run in GiB, weights of both sides included."""
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 2**30


class TextbookBackbone(nn.Module):
    """One step of the networks of a `Backbone`, with other attention processors; `sides` of the levels with maps."""

    def __init__(self, networks: Networks, sides: tuple[int, ...] = (8, 16)) -> None:
        super().__init__()
        self.unet, self.controlnet, self.sides = networks.unet, networks.controlnet, sides

    def forward(
        self, latents: Float[Tensor, "B C h h"], heatmaps: Float[Tensor, "B J h h"], tokens: Float[Tensor, "B T D"]
    ) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """The pyramid, computed in two passes: one for the features, and one for the attention maps."""
        levels = self.features(latents, heatmaps, tokens)
        store: list[tuple[str, Tensor]] = []
        self._step(latents, heatmaps, tokens, store)
        for side in self.sides:
            chosen = [p for name, p in store if ".attn2." in name and "mid_block" not in name and p.shape[2] == side**2]
            mean = torch.stack([p.mean(dim=1) for p in chosen]).mean(dim=0)  # over heads and layers
            maps = mean.transpose(1, 2).reshape(len(mean), -1, side, side)
            levels[f"level_{side}"] = torch.cat((levels[f"level_{side}"], maps), dim=1)
        return levels

    def features(self, latents: Tensor, heatmaps: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """The pyramid without maps, in one pass."""
        found: dict[str, Tensor] = {}
        last = self.unet.config["layers_per_block"]
        handles = []
        for block, level in _UP.items():
            up = self.unet.get_submodule(block)
            module = up.resnets[last - 1] if level == "level_4" else up.attentions[last - (level != "level_32")]
            handles.append(
                module.register_forward_hook(lambda _, inputs, output, level=level: found.update({level: output}))
            )
        self._step(latents, heatmaps, tokens, [])
        for handle in handles:
            handle.remove()
        return {level: value if isinstance(value, Tensor) else value[0] for level, value in found.items()}

    def _step(self, latents: Tensor, heatmaps: Tensor, tokens: Tensor, store: list[tuple[str, Tensor]]) -> None:
        """One pass; the attention probabilities of the U-Net's layers go to the store."""
        processors = dict(self.unet.attn_processors), dict(self.controlnet.attn_processors)
        self.unet.set_attn_processor({name: _ExplicitAttention(name, store) for name in processors[0]})
        self.controlnet.set_attn_processor({name: _ExplicitAttention(name, []) for name in processors[1]})
        time = torch.ones(len(latents), dtype=torch.long, device=latents.device)
        joined = torch.cat((latents, heatmaps), dim=1)
        down, middle = self.controlnet(joined, time, tokens, None, return_dict=False)
        self.unet(latents, time, tokens, down_block_additional_residuals=down, mid_block_additional_residual=middle)
        self.unet.set_attn_processor(processors[0])
        self.controlnet.set_attn_processor(processors[1])


class _ExplicitAttention:
    """Attention processor with an explicit softmax, which stores the probabilities under the name of its layer."""

    def __init__(self, name: str, store: list[tuple[str, Tensor]]) -> None:
        self.name, self.store = name, store

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **unused: Any
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            x.unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        probabilities = torch.softmax(query @ key.transpose(-1, -2) * attn.scale, dim=-1)
        self.store.append((self.name, probabilities))
        return attn.to_out[1](attn.to_out[0]((probabilities @ value).transpose(1, 2).flatten(2)))
