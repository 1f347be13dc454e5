"""Published weights of DPMesh: the whole network, from the checkpoint of the release alone.

Files of the release hold the weights of Stable Diffusion up to three times, a body with a licence of its own, and text
encoders that nothing uses. Each part is read once: U-Net with LoRA, ControlNet and autoencoder from the names below
`backbone.sd_model.`, which are those of Stable Diffusion's own code. Every size is read off the tensors, except the
number of attention heads, which no tensor shows.
"""

import argparse
import re
import shlex
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods import official_weights
from methods.dpmesh.backbone.features import FusionHead
from methods.dpmesh.backbone.unet import Backbone
from methods.dpmesh.conditions import GRID, SIGMA
from methods.dpmesh.losses import WEIGHTS, UncertaintyWeights
from methods.dpmesh.regressor.pose_heads import VPoserDecoder, VPoserHead
from methods.dpmesh.regressor.regressor import RELEASE, Estimate, Regressor
from methods.dpmesh.stable_diffusion import weights as ldm_weights
from methods.dpmesh.stable_diffusion.networks import LATENT_CHANNELS
from noise2pose.errors import InputError
from noise2pose.keypoints.heatmaps import heatmaps

DESCRIPTION = """DPMesh, whose file holds Stable Diffusion 1.5 as well.

  noise2pose import dpmesh 3dpw_best_ckpt.pth.tar dpmesh.ckpt --body smpl.npz
"""
BACKBONE = "backbone.sd_model."
_HEAD = "backbone.outmodules."
_COPIES = ("backbone.unet.", "backbone.encoder_vq.")  # of what is below `BACKBONE`
# Where `methods.dpmesh.DPMesh` has the parts of a `PublishedDPMesh`.
_PARTS = {
    "backbone.": "network.features.backbone.",
    "head.context.": "network.features.context.linear.",
    "head.fusion.": "network.features.fusion.",
    "head.regressor.": "network.regressor.",
}
SD15_WIDTHS = (320, 640, 1280, 1280)
_REGRESSOR = "DPMesh's regressor"
# Beginnings of our names and of the release's, which spells shape "shaoe".
REGRESSOR_NAMES = {
    r"context\.": "kp_lifting.",
    r"fusion\.from_32\.": "backbone.outmodules.0.",
    r"fusion\.from_16\.": "backbone.outmodules.1.0.",
    r"fusion\.merge\.": "backbone.outmodules.2.",
    r"regressor\.volume\.exponent": "exponent",
    r"regressor\.volume\.lift\.": "conv2d_to_3d.",
    r"regressor\.volume\.place\.": "conv_3d_coord.0.",
    r"regressor\.volume\.encoder\.": "refine_3d.",
    r"regressor\.to_plane\.": "down_linear.",
    r"regressor\.plane_encoder\.": "transformer.encoder.",
    r"regressor\.decoder\.body_start": "transformer.smpl_tgt",
    r"regressor\.decoder\.joint_start": "transformer.kp_tgt",
    r"regressor\.decoder\.locate\.": "transformer.decoder.joint_img_regress.",
    r"regressor\.decoder\.place\.": "transformer.decoder.fc_pos_3d.",
    r"regressor\.decoder\.": "transformer.decoder.",
    r"regressor\.body_queries": "spose_shape_cam_param",
    r"regressor\.joint_queries": "query.weight",
    r"regressor\.root_head\.layers\.": "cascade_root_pose_out.",
    r"regressor\.pose_head\.cascade\.layers\.": "cascade_pose_out.",
    r"regressor\.pose_head\.decoder\.": "vposer.vposer.",
    r"regressor\.shape_head\.layers\.": "cascade_shaoe_out.",
    r"regressor\.camera_head\.layers\.": "cascade_cam_out.",
}
# Other parts of the files, which are not needed.
_LEFT_OUT = ("human_model_layer.", "pos_embed_1d.", "vposer.vposer.bodyprior_enc_")
_SIZES = {
    "spose_shape_cam_param": 2,
    "down_linear.weight": 4,
    "conv2d_to_3d.weight": 4,
    "transformer.encoder.layers.0.linear1.weight": 2,
    "refine_3d.layers.0.linear1.weight": 2,
    "vposer.vposer.bodyprior_dec_fc1.weight": 2,
    "kp_lifting.weight": 2,
    **{f"backbone.outmodules.{part}.0.weight": 4 for part in range(3)},
}
# How names begin without wrappers such as `module.`; `model.` may also be one.
_FIRST = ("backbone.", "outmodules.", "sd_model.", "model.diffusion_model.", "kp_lifting.", "query.")


class PublishedRegressor(nn.Module):
    """From 2-D joints to the tokens of the backbone, and from the backbone's pyramid to a body.

    Args:
        context: (x, y) to a token.
        fusion: pyramid to feature map.
        regressor: feature map to body.
    """

    def __init__(self, context: nn.Linear, fusion: FusionHead, regressor: Regressor) -> None:
        super().__init__()
        self.context = context
        self.fusion = fusion
        self.regressor = regressor

    def tokens(self, joints: Float[Tensor, "B J 2"]) -> Float[Tensor, "B J D"]:
        """Tokens of joints, in cells of the grid of 32; as released, those of absent joints too."""
        return self.context(joints / GRID)

    def forward(self, pyramid: Mapping[str, Tensor]) -> Estimate:
        """Estimates the body of each person from the levels of a pyramid, as `FusionHead` takes them."""
        return self.regressor(self.fusion(pyramid))


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
    weights = read_state_dict(state_dict)
    unet = re.compile(rf"((?:.*?\.)?sd_model\.){re.escape(ldm_weights.UNET)}")
    prefix = next((match[1] for key in weights if (match := unet.match(key))), "")
    weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not any(key.startswith(ldm_weights.UNET) for key in weights):
        raise InputError(f"no name begins with sd_model.{ldm_weights.UNET}: these are not weights of DPMesh's backbone")
    networks = ldm_weights.networks(weights, num_heads, control=True)
    scopes = {"attn_ff": ".ff.net.0.proj.lora_", "attn": ".attn1.to_q.lora_"}
    scope: Any = next((scope for scope, part in scopes.items() if any(part in key for key in weights)), "attn2")
    lora = [len(value) for key, value in weights.items() if key.endswith(".lora_down.weight")]
    backbone = Backbone(
        num_joints=networks.controlnet.config["in_channels"] - LATENT_CHANNELS,
        size="sd15",
        latent="release",
        unet_training="lora" if lora else "frozen",
        lora_scope=scope,
        lora_rank=lora[0] if lora else 0,
        train_controlnet=False,  # none of the release's optimizers had it
        generative=True,
        networks=networks,
    )
    if lora:
        ldm_weights.fill(backbone.unet, ldm_weights.unet_name, weights, ldm_weights.UNET)
    backbone.drop_outputs()
    return backbone.eval()


def load_regressor(state_dict: Mapping[str, Any], num_heads: int = 8) -> PublishedRegressor:
    """The published network after the backbone.

    Args:
        state_dict: as `read_state_dict` takes it; of the names below `backbone.`, only the fusion head's
            (`backbone.outmodules.`) are read. The body and VPoser's encoder are left out.
        num_heads: of all attention.

    Returns:
        Network in evaluation mode, with the release's quirks: see `Regressor`.

    Raises:
        InputError: if a tensor is missing, superfluous or of the wrong shape.
    """
    weights = {
        key: value
        for key, value in read_state_dict(state_dict).items()
        if not key.startswith(_LEFT_OUT) and (not key.startswith("backbone.") or key.startswith(_HEAD))
    }
    official_weights.require(weights, _SIZES, _REGRESSOR)
    width = weights["spose_shape_cam_param"].shape[-1]
    layers, decoder_layers = (
        len({key.split(".")[3] for key in weights if key.startswith(f"transformer.{part}.layers.")})
        for part in ("encoder", "decoder")
    )
    feature_width, depth = weights["down_linear.weight"].shape[1], len(weights["conv2d_to_3d.weight"]) // width
    hidden, code_width = weights["vposer.vposer.bodyprior_dec_fc1.weight"].shape
    regressor = Regressor(
        feature_width,
        VPoserHead(VPoserDecoder(code_width, hidden), width, decoder_layers),
        width=width,
        depth=depth,
        num_heads=num_heads,
        num_encoder_layers=layers,
        num_decoder_layers=decoder_layers,
        feedforward=len(weights["transformer.encoder.layers.0.linear1.weight"]),
        volume_feedforward=len(weights["refine_3d.layers.0.linear1.weight"]),
        **RELEASE,
    )
    finest, fine = (weights[f"backbone.outmodules.{part}.0.weight"].shape[1] for part in (0, 1))
    # The weights do not separate the two coarsest levels, so any split of their channels fits.
    coarse = weights["backbone.outmodules.2.0.weight"].shape[1] - finest - fine
    fusion = FusionHead({"level_32": finest, "level_16": fine, "level_8": coarse, "level_4": 0}, feature_width)
    tokens = weights["kp_lifting.weight"]
    network = PublishedRegressor(nn.Linear(tokens.shape[1], tokens.shape[0]), fusion, regressor)
    names = official_weights.published_names(network.state_dict(), REGRESSOR_NAMES)
    return official_weights.load(network, weights, _REGRESSOR, names).eval()


def read_state_dict(content: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint of DPMesh, without wrappers (see `methods.official_weights.state_dict_in`).

    The fusion head may be alone in it; its names begin with `backbone.` in any case.
    """
    weights = official_weights.state_dict_in(content, _FIRST)
    return {f"backbone.{key}" if key.startswith("outmodules.") else key: value for key, value in weights.items()}


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


def import_checkpoint(arguments: argparse.Namespace) -> official_weights.Imported:
    """A `DPMesh` that answers with the body that the weights were trained with, or approximately with the free body.

    Raises:
        InputError: if the file or the body is missing, broken or of another kind.
    """
    state, kind = method_state(load_dpmesh(official_weights.read_published(arguments.source)))
    official_weights.check_body(arguments.body)
    state["student_steps"] = torch.ones((), dtype=torch.int64)
    output, body = shlex.quote(str(arguments.output)), shlex.quote(arguments.body)
    commands = f"""  noise2pose predict --checkpoint {output} photo.jpg --output bodies
  noise2pose train test -c configs/experiments/dpmesh_threedpw.yaml \\
      --model configs/methods/dpmesh_release.yaml --model.body {body} \\
      --data configs/data/occlusion_benchmarks.yaml --ckpt_path {output} --name imported"""
    return official_weights.Imported("methods.dpmesh.DPMesh", {**kind, "body": arguments.body}, state, commands)


def method_state(network: PublishedDPMesh) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state dict and the constructor arguments of a `methods.dpmesh.DPMesh` like the published network.

    Raises:
        InputError: if its sizes are not those of Stable Diffusion 1.5.
    """
    widths = tuple(network.backbone.unet.config["block_out_channels"])
    if widths != SD15_WIDTHS:
        raise InputError(f"the U-Net has widths {widths}, expected {SD15_WIDTHS} of Stable Diffusion 1.5")
    state = {}
    for name, value in network.state_dict().items():
        prefix = next(prefix for prefix in _PARTS if name.startswith(prefix))
        state[_PARTS[prefix] + name.removeprefix(prefix)] = value
    # The release learns the weights of its losses and does not save them; these are the initial ones.
    balance = UncertaintyWeights((*WEIGHTS, "tokens")).state_dict(prefix="network.balance.")
    return state | balance, {
        "backbone": "diffusion",
        "size": "sd15",
        "context": "linear30",
        "maps": "8-16",
        "unet_training": "lora" if network.backbone.lora_rank else "frozen",
        "lora_scope": network.backbone.lora_scope,
        "lora_rank": network.backbone.lora_rank or 64,
        "train_controlnet": False,
        "latent": "release",
        "timestep": 1,
        "pose_head": "vposer",
        "release": True,
        "uncertainty": True,
    }
