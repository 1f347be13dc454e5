"""One step of the backbone with and without its maps, and a training step with each of its options (takes 7 GB)."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from methods.dpmesh.backbone.unet import Backbone
from methods.dpmesh.conditions import Conditions
from methods.dpmesh.networks import MeshNetwork, make_network
from methods.dpmesh.regressor.pose_heads import Rot6dHead
from methods.dpmesh.sizes import SIZES, sides_of
from methods.dpmesh.stable_diffusion.networks import (
    LATENT_CHANNELS,
    LATENT_SIDE,
    UNET,
    Networks,
    make_controlnet,
    make_unet,
)
from scripts.benchmarks.dpmesh_textbook import TextbookBackbone
from scripts.benchmarks.measure import Checks, Comparison, Prepared, Side

_JOINTS = 30  # the release's
_SAME = 1e-4  # relative: float32 results of two orders of summation
_SMALL = {**UNET["tiny"], "cross_attention_dim": 768}
_TRAINING_BATCH = 8
_PATTERN = 1 << 20  # random numbers that full-size weights repeat: drawing all of them takes half a minute


def comparisons(device: torch.device, quick: bool) -> list[Comparison]:
    """The rows of one step of the backbone, and of training.

    Args:
        device: where both sides run.
        quick: use small networks, to test the benchmark itself.
    """
    images = 1 if quick or device.type == "cpu" else 16
    where = " on a GPU" if device.type == "cuda" else ""
    size = "small widths" if quick else "Stable Diffusion 1.5's widths"
    setting = f"U-Net and ControlNet of {size}, latents of 32 x 32, {_JOINTS} tokens, batch {images}, float32, eager"
    full = _once(lambda: _networks(_SMALL if quick else UNET["sd15"], device))

    def row(
        name: str, against: str, at_least: float | None, theirs: Callable[..., Any], repeats: int = 5
    ) -> Comparison:
        return Comparison(
            name=name + where,
            setting=setting,
            against=against,
            at_least=at_least,
            unit="image",
            prepare=lambda: _step(full(), theirs, images, device),
            repeats=repeats,
        )

    rows = [
        row("one step, maps recorded", "the same without maps: fused attention in every layer", 1 / 1.10, _silent, 15),
        row(
            "one step against separate passes",
            "explicit softmax in every layer of both networks, one pass for features and one for maps",
            1.5,
            _two_passes,
        ),
        row("one step against explicit softmax", "explicit softmax in every layer, features alone", None, _one_pass),
    ]
    options: dict[str, dict[str, Any]] = {"channels-last": {"channels_last": True}, "compiled": {"compile": True}}
    options["gradient checkpointing"] = {"gradient_checkpointing": True}
    people = 2 if quick else _TRAINING_BATCH
    rows += [
        Comparison(
            name=f"training step, {name}{where}",
            setting=f"tiny, {people} images of {SIZES['tiny'].image} pixels: all parts, maps recorded, LoRA, AdamW",
            against="the same in float32, eager, without the option",
            at_least=None,
            unit="step",
            prepare=lambda option=option, autocast=autocast: _training(option, autocast, people, device),
            repeats=15,
        )
        for name, option, autocast in (
            *((name, option, False) for name, option in options.items() if not (quick and name == "compiled")),
            ("bfloat16", {}, True),
        )
    ]
    if device.type == "cuda":
        rows += [
            Comparison(
                name=f"one step, {name}{where}",
                setting=setting,
                against="the same in float32, eager",
                at_least=None,
                unit="image",
                prepare=lambda compiled=compiled, autocast=autocast: _faster(
                    full(), compiled, autocast, images, device
                ),
            )
            for name, compiled, autocast in (("compiled", True, False), ("bfloat16", False, True), ("both", True, True))
        ]
    return rows


def _step(networks: Networks, theirs: Callable[..., Any], batch: int, device: torch.device) -> Prepared:
    """One step of ours, and of another implementation with the same networks."""
    inputs = _inputs(batch, device)
    recording = _backbone(networks)
    other = theirs(networks)
    processors = dict(recording.unet.attn_processors)

    def ours() -> dict[str, Tensor]:
        recording.unet.set_attn_processor(dict(processors))  # the other side sets others in the shared networks
        with torch.inference_mode():
            return recording(*inputs)

    def run() -> dict[str, Tensor]:
        with torch.inference_mode():
            return other(*inputs)

    return Prepared(Side(ours, batch), Side(run, batch), _compare(ours(), run()))


def _silent(networks: Networks) -> Callable[..., Any]:
    backbone = _backbone(networks, maps=())
    from diffusers.models.attention_processor import AttnProcessor2_0

    fused = {name: AttnProcessor2_0() for name in networks.unet.attn_processors}

    def run(*inputs: Tensor) -> dict[str, Tensor]:
        backbone.unet.set_attn_processor(dict(fused))
        return backbone(*inputs)

    return run


def _two_passes(networks: Networks) -> Callable[..., Any]:
    return TextbookBackbone(networks.unet, networks.controlnet)


def _one_pass(networks: Networks) -> Callable[..., Any]:
    return TextbookBackbone(networks.unet, networks.controlnet).features


def _faster(networks: Networks, compiled: bool, autocast: bool, batch: int, device: torch.device) -> Prepared:
    """One step with options on a GPU; also measures the peak memory of each side."""
    inputs = _inputs(batch, device)
    plain = _backbone(networks)
    faster = copy.deepcopy(plain)
    if compiled:
        faster.unet.compile()
        assert faster.controlnet is not None
        faster.controlnet.compile()

    def side(backbone: Backbone, autocast: bool) -> Callable[[], dict[str, Tensor]]:
        def run() -> dict[str, Tensor]:
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                return backbone(*inputs)

        return run

    ours, theirs = side(faster, autocast), side(plain, False)
    peaks = {"our_peak_gib": _peak(ours), "their_peak_gib": _peak(theirs)}
    checks = _compare(ours(), theirs(), 0.1 if autocast else 1e-2)
    return Prepared(Side(ours, batch), Side(theirs, batch), Checks({**checks.values, **peaks}, checks.complaint))


def _training(option: dict[str, Any], autocast: bool, batch: int, device: torch.device) -> Prepared:
    """A training step with an option, and one without."""
    sides = [
        TrainingStep(batch, device, autocast=faster and autocast, **(option if faster else {}))
        for faster in (True, False)
    ]
    first, second = (float(side()) for side in sides)
    tolerance = 0.1 if autocast else 1e-2
    complaint = "" if abs(first - second) <= tolerance * abs(second) else "the two steps have different losses"
    peaks = {}
    if device.type == "cuda":
        peaks = {f"{whose}_peak_gib": _peak(side) for whose, side in zip(("our", "their"), sides, strict=True)}
    return Prepared(
        Side(sides[0], 1), Side(sides[1], 1), Checks({"loss": first, "their_loss": second, **peaks}, complaint)
    )


class TrainingStep:
    """Forward, backward and optimizer step of the tiny network on one batch of random numbers.

    Args:
        batch: people.
        device: of the network.
        autocast: mixed precision with bfloat16.
        options: of the backbone.
    """

    def __init__(self, batch: int, device: torch.device, autocast: bool = False, **options: Any) -> None:
        torch.manual_seed(0)
        sizes, sides, joints = SIZES["tiny"], sides_of("tiny"), 17
        head = Rot6dHead(sizes.width, sizes.num_decoder_layers)
        diffusion = {"lora_rank": 8, **options}
        network = make_network(
            "diffusion",
            "tiny",
            head,
            num_joints=joints,
            uncertainty=False,
            heatmaps=True,
            context="mlp2_visible",
            diffusion=diffusion,
        )
        self.network: MeshNetwork = network.to(device).train()
        for module in self.network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # so that both sides have the same loss
        self.optimizer = torch.optim.AdamW([p for p in self.network.parameters() if p.requires_grad], lr=1e-5)
        self.autocast, self.device = autocast, device
        self.image = torch.rand(batch, 3, sides.image, sides.image, device=device)
        maps = torch.rand(batch, joints, sides.latents, sides.latents, device=device)
        present = torch.rand(batch, joints, device=device) > 0.2
        self.conditions = Conditions(torch.rand(batch, joints, 2, device=device), present, maps)

    def __call__(self) -> Tensor:
        """Takes one step and returns its loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            estimate, levels = self.network(self.image, self.conditions)
        loss = estimate.rotations.square().sum() + sum(level.float().square().mean() for level in levels)
        loss = loss + estimate.betas.square().sum() + estimate.camera.square().sum() + estimate.joint_img.square().sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def _backbone(networks: Networks, **options: Any) -> Backbone:
    return Backbone(
        _JOINTS, "sd15", unet_training="frozen", train_controlnet=False, generative=True, networks=networks, **options
    ).eval()


def _networks(config: dict[str, Any], device: torch.device) -> Networks:
    with torch.device("meta"):
        unet = make_unet(config)
        controlnet = make_controlnet(unet, _JOINTS, copied=False)
    for network in (unet, controlnet):
        _fill(network.to_empty(device=device))
    return Networks(unet, None, controlnet)


@torch.no_grad()
def _fill(network: nn.Module) -> None:
    """Fills a network with random weights of about the scale of trained ones."""
    pattern = torch.randn(_PATTERN, generator=torch.Generator().manual_seed(0)).to(next(network.parameters()).device)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            repeated = pattern.repeat(-(-parameter.numel() // _PATTERN))[: parameter.numel()]
            parameter.copy_(repeated.view(parameter.shape) * parameter[0].numel() ** -0.5)


def _inputs(batch: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE, generator=generator)
    heatmaps = torch.rand(batch, _JOINTS, LATENT_SIDE, LATENT_SIDE, generator=generator)
    tokens = torch.randn(batch, _JOINTS, 768, generator=generator)
    return latents.to(device), heatmaps.to(device), tokens.to(device)


def _compare(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = _SAME) -> Checks:
    """Largest relative difference over the channels that both sides have."""
    difference = max(
        float((ours[name][:, : level.shape[1]].float() - level.float()).abs().max() / level.float().abs().max())
        for name, level in theirs.items()
    )
    complaint = "" if difference < tolerance else "the two sides compute different features"
    return Checks({"difference": difference}, complaint)


def _peak(run: Callable[[], Any]) -> float:
    """Peak GPU memory of a run in GiB, weights of both sides included."""
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 2**30


def _once(make: Callable[[], Networks]) -> Callable[[], Networks]:
    """Defers making the full-size networks to the first call, and makes them once."""
    made: list[Networks] = []

    def get() -> Networks:
        if not made:
            made.append(make())
        return made[0]

    return get
