"""Published weights of GONGJIA0208/Diffpose (`GCNdiff` and `GCNpose`) and Diffpose_video (`MixSTE2`).

Every size is read off the tensors. What no tensor shows, the number of attention heads, is an argument with the
release's value.
"""

import argparse
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from methods.diffpose.denoisers import GraphDenoiser, GraphLifter
from methods.diffpose.initialisation import empty_histogram
from methods.networks.mixste import PUBLISHED_NAMES, MixSTE
from methods.official_weights import Imported, load, published_names, read_published, require, state_dict_in
from noise2pose import skeletons
from noise2pose.errors import InputError

DESCRIPTION = """The denoiser (GCNdiff) and the context encoders (GCNpose; MixSTE for clips) of DiffPose.

  noise2pose import diffpose gcndiff.pth denoiser.ckpt
  noise2pose import diffpose gcnpose.pth encoder.ckpt
  noise2pose import diffpose mixste_cpn_243f.bin mixste.ckpt
  noise2pose train test -c configs/experiments/diffpose_synthetic_frame.yaml --ckpt_path denoiser.ckpt \\
      --model configs/methods/diffpose_release.yaml --model.context_checkpoint encoder.ckpt --name imported

The tensors show which of the three networks a file holds.
"""
SKELETON = "h36m_17"
_DROPOUT = 0.25
_GRAPH, _CLIP = "GCNdiff or GCNpose", "MixSTE"
_ADJACENCY = "atten_layers.0.feed_forward.A_hat"
_GRAPH_SIZES = {"gconv_input.weight": 4, _ADJACENCY: 2}
_CLIP_SIZES = {"Spatial_patch_to_embedding.weight": 2, "Spatial_pos_embed": 3, "Temporal_pos_embed": 3}
_FIRST = (*_GRAPH_SIZES, *_CLIP_SIZES)
_QUERY_KEY_VALUE = " + ".join(f"{{block}}.self_attn.linears.{part}.{{end}}" for part in range(3))
_GRAPH_NAMES = {
    r"(input|output)\.(?:linear\.)?": r"gconv_\1.",
    r"blocks\.(\d+)\.conv([12])\.(?:linear\.)?": r"gconv_layers.\1.gconv\2.gconv.",
    r"blocks\.(\d+)\.time_projection\.": r"gconv_layers.\1.temb_proj.",
    r"blocks\.(\d+)\.norm1\.weight": r"atten_layers.\1.sublayer.0.norm.a_2",
    r"blocks\.(\d+)\.norm1\.bias": r"atten_layers.\1.sublayer.0.norm.b_2",
    r"blocks\.(\d+)\.norm2\.weight": r"atten_layers.\1.sublayer.1.norm.a_2",
    r"blocks\.(\d+)\.norm2\.bias": r"atten_layers.\1.sublayer.1.norm.b_2",
    r"blocks\.(\d+)\.attention\.query_key_value\.(\w+)": _QUERY_KEY_VALUE.format(block=r"atten_layers.\1", end=r"\2"),
    r"blocks\.(\d+)\.attention\.output\.": r"atten_layers.\1.self_attn.linears.3.",
    r"blocks\.(\d+)\.feed_forward\.adjacency": r"atten_layers.\1.feed_forward.A_hat",
    r"blocks\.(\d+)\.feed_forward\.expand\.": r"atten_layers.\1.feed_forward.gconv1.fc.",
    r"blocks\.(\d+)\.feed_forward\.contract\.": r"atten_layers.\1.feed_forward.gconv2.fc.",
    r"step_embedding\.expand\.": "temb.dense.0.",
    r"step_embedding\.refine\.": "temb.dense.1.",
}


def load_gcndiff(state_dict: Mapping[str, Any], num_heads: int = 4) -> GraphDenoiser:
    """The released noise predictor.

    Args:
        state_dict: official names (`gconv_input.weight`, ...) to tensors or arrays, or a checkpoint that holds them
            (see `methods.official_weights.state_dict_in`).
        num_heads: of the attention, which no tensor shows.

    Returns:
        Network in evaluation mode: `forward(x: (B, 17, 5), t: (B,)) -> (B, 17, 5)`, the scaled noise of (u,v,x,y,z).

    Raises:
        InputError: if a tensor is missing, superfluous or of the wrong shape.
    """
    weights = state_dict_in(state_dict, _FIRST)
    channels, width, num_blocks, parents = _graph_sizes(weights)
    network = GraphDenoiser(channels, width, num_blocks, num_heads, _DROPOUT, parents)
    return load(network, _stacked(weights), "GCNdiff", published_names(network.state_dict(), _GRAPH_NAMES)).eval()


def load_gcnpose(state_dict: Mapping[str, Any], num_heads: int = 4) -> GraphLifter:
    """The released pose initialiser. Arguments and errors as in `load_gcndiff`.

    Its `temb.*` tensors never influence the output and are dropped.

    Returns:
        Network in evaluation mode: `forward(uv: (B, 17, 2)) -> (B, 17, 3)`, metres, not centred on the root.
    """
    weights = {key: value for key, value in state_dict_in(state_dict, _FIRST).items() if not key.startswith("temb.")}
    _, width, num_blocks, parents = _graph_sizes(weights)
    network = GraphLifter(width, num_blocks, num_heads, _DROPOUT, parents)
    return load(network, _stacked(weights), "GCNpose", published_names(network.state_dict(), _GRAPH_NAMES)).eval()


def load_mixste(state_dict: Mapping[str, Any], num_heads: int = 8) -> MixSTE:
    """The context encoder for clips, MixSTE. Arguments and errors as in `load_gcndiff`.

    Returns:
        Network in evaluation mode: `forward(screen: (B, F, 17, 2)) -> (B, F, 17, 3)`, metres, not centred on the root,
        for clips of at most as many frames as there are position embeddings.
    """
    weights = state_dict_in(state_dict, _FIRST)
    require(weights, _CLIP_SIZES, _CLIP)
    width, channels = weights["Spatial_patch_to_embedding.weight"].shape
    if channels != 2:
        raise InputError(
            f"Spatial_patch_to_embedding.weight takes {channels} channels, the context encoder 2; D3DP's denoiser, "
            "which takes 5, is imported with `noise2pose import d3dp`"
        )
    num_frames, num_joints = weights["Temporal_pos_embed"].shape[1], weights["Spatial_pos_embed"].shape[1]
    network = MixSTE(num_frames, width, _count(r"STEblocks\.(\d+)\.", weights), num_heads, num_joints=num_joints)
    return load(network, weights, _CLIP, published_names(network.state_dict(), PUBLISHED_NAMES)).eval()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `import_checkpoint`."""
    parser.add_argument("--num_heads", type=int, help="attention heads, which no tensor shows (default: 4; MixSTE: 8)")
    parser.add_argument("--ema", action="store_true", help="take the moving average of the weights")


def import_checkpoint(arguments: argparse.Namespace) -> Imported:
    """A `ContextEncoder`, or a `DiffPose` without its encoder, which is given beside it as `context_checkpoint`.

    Raises:
        InputError: if the file is missing, broken or of another kind.
    """
    weights = state_dict_in(read_published(arguments.source), _FIRST, arguments.ema)
    is_clip = "Temporal_pos_embed" in weights
    num_heads = arguments.num_heads or (8 if is_clip else 4)
    kind: dict[str, Any] = {"num_heads": num_heads}
    if is_clip:
        network = load_mixste(weights, num_heads)
        kind |= {"encoder": "mixste", "num_frames": network.frame_embedding.shape[1], "flip_test": True}
        kind |= {"width": network.input.out_features, "num_blocks": len(network.spatial_blocks)}
        return Imported("methods.diffpose.ContextEncoder", kind, network.state_dict(prefix="network."))
    is_denoiser = any(".temb_proj." in key for key in weights)
    network = (load_gcndiff if is_denoiser else load_gcnpose)(weights, num_heads)
    kind |= {"width": network.output.linear.in_features, "num_blocks": len(network.blocks)}
    if not is_denoiser:
        return Imported("methods.diffpose.ContextEncoder", kind, network.state_dict(prefix="network."))
    state = {
        **network.state_dict(prefix="diffusion.denoiser."),
        # Buffers that the release's variant does not use, but a whole checkpoint holds.
        "depth_spread": torch.full((17,), 0.08),
        "depth_histogram": empty_histogram(17),
        "denoiser_steps": torch.ones((), dtype=torch.int64),
        "spread_factor": torch.ones(()),
    }
    return Imported("methods.diffpose.DiffPose", {**kind, "variant": "release", "context_epochs": 0}, state)


def _graph_sizes(weights: Mapping[str, Tensor]) -> tuple[int, int, int, tuple[int, ...]]:
    """Channels, width, number of blocks and parents of the joints."""
    require(weights, _GRAPH_SIZES, _GRAPH)
    shape = weights["gconv_input.weight"].shape
    if shape[:2] != (3, 1):
        raise InputError(f"gconv_input.weight has shape {tuple(shape)}, expected (3, 1, channels, width)")
    skeleton = skeletons.get(SKELETON)
    if len(weights[_ADJACENCY]) != skeleton.num_joints:
        raise InputError(
            f"{_ADJACENCY} is for {len(weights[_ADJACENCY])} joints; the release's graph, which no tensor shows, has "
            f"{skeleton.num_joints} ({SKELETON})"
        )
    return shape[2], shape[3], _count(r"gconv_layers\.(\d+)\.", weights), skeleton.parents


def _count(pattern: str, weights: Mapping[str, Tensor]) -> int:
    """Number of layers that are numbered as the pattern says."""
    return len({match[1] for key in weights if (match := re.match(pattern, key))})


def _stacked(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a graph network in our shapes: one matrix for each graph convolution, and one for each attention.

    A graph convolution comes as [K, 1, in, out], and the projections to query, key and value come apart; together they
    are named `A + B + C`.
    """
    stacked = {
        key: value[:, 0].mT.flatten(0, 1)
        if "gconv" in key and value.ndim == 4 and value.shape[1] == 1
        else value.flatten()
        if "gconv" in key and value.ndim == 3
        else value
        for key, value in weights.items()
    }
    for key in weights:
        if match := re.fullmatch(r"(atten_layers\.\d+)\.self_attn\.linears\.0\.(weight|bias)", key):
            together = _QUERY_KEY_VALUE.format(block=match[1], end=match[2])
            parts = [stacked.get(part) for part in together.split(" + ")]
            if all(part is not None and part.shape == weights[key].shape for part in parts):
                stacked[together] = torch.cat([stacked.pop(part) for part in together.split(" + ")])
    return stacked
