"""Published weights of DPMesh: the whole network, from the checkpoint of the release alone.

Files of the release hold the weights of Stable Diffusion up to three times, a body with a licence of its own, and text
encoders that nothing uses. Each part is read once: U-Net with LoRA, ControlNet and autoencoder from the names below
`backbone.sd_model.`, which are those of Stable Diffusion's own code; the rest by `methods.dpmesh.official_regressor`.
"""

import argparse
import re
import shlex
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.dpmesh.backbone.unet import Backbone, LoRAScope
from methods.dpmesh.losses import WEIGHTS, UncertaintyWeights
from methods.dpmesh.official_regressor import GRID, PublishedRegressor, load_regressor, read_state_dict
from methods.dpmesh.regressor.regressor import Estimate
from methods.dpmesh.stable_diffusion import weights as ldm_weights
from methods.dpmesh.stable_diffusion.networks import LATENT_CHANNELS
from methods.official_weights import Imported, check_body, read_published
from noise2pose.errors import InputError
from noise2pose.keypoints.heatmaps import heatmaps

__all__ = ["PublishedDPMesh", "load_backbone", "load_dpmesh", "load_regressor"]

DESCRIPTION = """DPMesh, whose file holds Stable Diffusion 1.5 as well.

  python scripts/import_checkpoint.py dpmesh 3dpw_best_ckpt.pth.tar dpmesh.ckpt --body smpl.npz
"""
SIGMA = 2.5  # of the heat-maps, cells
BACKBONE = "backbone.sd_model."
# Copies of what is below `BACKBONE`.
_COPIES = ("backbone.unet.", "backbone.encoder_vq.")
_HEAD = "backbone.outmodules."
# Where `methods.dpmesh.DPMesh` has the parts of a `PublishedDPMesh`.
_PARTS = {
    "backbone.": "network.features.backbone.",
    "head.context.": "network.features.context.linear.",
    "head.fusion.": "network.features.fusion.",
    "head.regressor.": "network.regressor.",
}
SD15_WIDTHS = (320, 640, 1280, 1280)


class PublishedDPMesh(nn.Module):
    """From an image and 2-D joints to a body.

    Args:
        backbone: from latents, heat-maps and tokens to a pyramid.
        head: from joints to tokens, and from the pyramid to a body.
    """

    def __init__(self, backbone: Backbone, head: PublishedRegressor) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, image: Float[Tensor, "B 3 256 256"], joints: Float[Tensor, "B 30 3"]) -> Estimate:
        """Estimates the body of each person.

        Args:
            image: RGB in [0, 1].
            joints: of the skeleton `dpmesh_30`: x and y in cells, of which the image is 32 wide, and 1 for joints that
                were found, else 0. As released, also the tokens of joints that were not found are made of x and y.
        """
        maps = heatmaps(joints[..., :2], (GRID, GRID), SIGMA) * joints[..., 2, None, None]
        return self.head(self.backbone(self.backbone.encode(image), maps, self.head.tokens(joints[..., :2])))


def load_backbone(state_dict: Mapping[str, Any], num_heads: int = 8) -> Backbone:
    """The released backbone: one step at time 1, attention maps appended to the levels 8 and 16.

    Args:
        state_dict: official names (`model.diffusion_model.*`, `control_model.*`, and `first_stage_model.*` to encode
            images), with or without a prefix that ends in `sd_model.`, to tensors or arrays; or a whole checkpoint of
            the release (see `methods.official_weights.state_dict_in`). Text encoder, tables of the diffusion, copies
            of the same weights and other parts of DPMesh are left out.
        num_heads: of attention, which no tensor shows.

    Returns:
        Backbone in evaluation mode. `forward(latents, heatmaps, context)`, with `context` (B, J, D) as a bare tensor,
        returns `level_4`, `level_8`, `level_16` and `level_32`.

    Raises:
        InputError: if a tensor is missing, superfluous or of the wrong shape.
    """
    weights = _sd_model(read_state_dict(state_dict))
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


def load_dpmesh(state_dict: Mapping[str, Any], num_heads: int = 8) -> PublishedDPMesh:
    """The published network.

    Args:
        state_dict: of a checkpoint of the release (see `methods.official_weights.state_dict_in`).
        num_heads: of all attention, in U-Net and regressor.

    Returns:
        Network in evaluation mode.

    Raises:
        InputError: if a tensor is missing, superfluous or of the wrong shape.
    """
    weights = read_state_dict(state_dict)
    known = (BACKBONE, _HEAD, *_COPIES)
    strange = [key for key in sorted(weights) if key.startswith("backbone.") and not key.startswith(known)]
    if strange:
        raise InputError(f"the weights do not fit DPMesh: {'; '.join(f'{key} is not known' for key in strange[:5])}")
    below = {key.removeprefix(BACKBONE): value for key, value in weights.items() if key.startswith(BACKBONE)}
    if not below:
        raise InputError(f"the weights do not fit DPMesh: no name begins with {BACKBONE}")
    head = load_regressor(weights, num_heads)
    network = PublishedDPMesh(load_backbone(below, num_heads), head)
    width, tokens = network.backbone.context_width, head.context.out_features
    if width != tokens:
        raise InputError(f"the weights do not fit DPMesh: kp_lifting makes tokens of {tokens}, expected {width}")
    return network.eval()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `import_checkpoint`."""
    parser.add_argument("--body", default="free", help="body file (npz) that the weights were trained with")


def import_checkpoint(arguments: argparse.Namespace) -> Imported:
    """A `DPMesh` that answers with the body that the weights were trained with, or approximately with the free body.

    Raises:
        InputError: if the file or the body is missing, broken or of another kind.
    """
    state, kind = method_state(load_dpmesh(read_published(arguments.source)))
    check_body(arguments.body)
    state["student_steps"] = torch.ones((), dtype=torch.int64)
    output, body = shlex.quote(str(arguments.output)), shlex.quote(arguments.body)
    commands = f"""  python scripts/predict.py --checkpoint {output} photo.jpg --output bodies
  python scripts/train.py test -c configs/experiments/dpmesh_threedpw.yaml \\
      --model configs/methods/dpmesh_release.yaml --model.body {body} \\
      --data configs/data/occlusion_benchmarks.yaml --ckpt_path {output} --name imported"""
    return Imported("methods.dpmesh.DPMesh", {**kind, "body": arguments.body}, state, commands)


def method_state(network: PublishedDPMesh) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state dict and the constructor arguments of a `methods.dpmesh.DPMesh` like the published network.

    Raises:
        InputError: if its sizes are not those of Stable Diffusion 1.5.
    """
    widths = tuple(network.backbone.unet.config["block_out_channels"])
    if widths != SD15_WIDTHS:
        raise InputError(f"the U-Net has widths {widths}, expected {SD15_WIDTHS} of Stable Diffusion 1.5")
    updates = {name: value for name, value in network.backbone.unet.state_dict().items() if ".lora_A." in name}
    wider = [scope for scope, part in (("attn_ff", ".ff.net."), ("attn", ".attn1.")) if any(part in n for n in updates)]
    # The release learns the weights of its losses and does not save them; these are the initial ones.
    balance = UncertaintyWeights((*WEIGHTS, "tokens")).state_dict(prefix="network.balance.")
    return renamed(network) | balance, {
        "backbone": "diffusion",
        "size": "sd15",
        "context": "linear30",
        "maps": "8-16",
        "unet_training": "lora" if updates else "frozen",
        "lora_scope": (*wider, "attn2")[0],
        "lora_rank": len(next(iter(updates.values()))) if updates else 64,
        "train_controlnet": False,
        "latent": "release",
        "timestep": 1,
        "pose_head": "vposer",
        "release": True,
        "uncertainty": True,
    }


def renamed(network: PublishedDPMesh) -> dict[str, Tensor]:
    """The tensors under the names that `methods.dpmesh.DPMesh` has for them."""
    state = {}
    for name, value in network.state_dict().items():
        prefix = next(prefix for prefix in _PARTS if name.startswith(prefix))
        state[_PARTS[prefix] + name.removeprefix(prefix)] = value
    return state


def _sd_model(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below the first prefix that ends in `sd_model.` and has a U-Net; all if there is no such prefix."""
    unet = re.compile(rf"((?:.*?\.)?sd_model\.){re.escape(ldm_weights.UNET)}")
    prefix = next((match[1] for key in weights if (match := unet.match(key))), "")
    inner = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not any(key.startswith(ldm_weights.UNET) for key in inner):
        raise InputError(f"no name begins with sd_model.{ldm_weights.UNET}: these are not weights of DPMesh's backbone")
    return inner


def _scope(weights: Mapping[str, Tensor]) -> LoRAScope:
    if any(".ff.net.0.proj.lora_" in key for key in weights):
        return "attn_ff"
    return "attn" if any(".attn1.to_q.lora_" in key for key in weights) else "attn2"


def _rank(weights: Mapping[str, Tensor]) -> int:
    return next(len(value) for key, value in weights.items() if key.endswith(".lora_down.weight"))
