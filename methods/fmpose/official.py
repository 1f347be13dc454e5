"""Published weights of AdaptiveMotorControlLab/FMPose3D (`fmpose3d_humans`).

Every size is read off the tensors. What no tensor shows, the number of attention heads, is an argument with the
release's value. The weights may be used for non-commercial purposes only, so none are shipped here.
"""

import argparse
import re
import shlex
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from methods.fmpose.networks import TIME_WIDTH, VelocityNetwork, adjacency
from methods.official_weights import Imported, load, published_names, read_published, require, state_dict_in
from noise2pose import skeletons
from noise2pose.errors import InputError

DESCRIPTION = """The velocity network of FMPose3D for people (fmpose3d_humans).

  noise2pose import fmpose fmpose3d_humans.pth fmpose.ckpt
  noise2pose predict --checkpoint fmpose.ckpt keypoints.json --output lifted

The published weights may be used for non-commercial purposes only.
"""
SKELETON = "h36m_17"
_NETWORK = "FMPose3D's network"
_WRAPPER = "CFM"  # of the state dict in published files
_FIRST = ("time_embed.", "encoder.fc", "FMPose3D.", "pred_mu.")
_FIRST_LAYER, _TWO_LAYER_NET = "encoder.fc1.weight", "FMPose3D.blocks.0.mlp.fc1.weight"
_SIZES = {_FIRST_LAYER: 2, "encoder.fc2.weight": 2, _TWO_LAYER_NET: 2}
_ADJACENCY = re.compile(r"A|FMPose3D\.blocks\.\d+\.gcn1\.adj")
_NAMES = {
    r"time_embedding\.frequencies": "time_embed.B",
    r"time_embedding\.expand\.": "time_embed.proj.0.",
    r"time_embedding\.contract\.": "time_embed.proj.2.",
    r"input_expand\.": "encoder.fc1.",
    r"input\.": "encoder.fc2.",
    r"norm\.": "FMPose3D.norm_mu.",
    r"output_contract\.": "pred_mu.fc1.",
    r"output\.": "pred_mu.fc2.",
} | {
    rf"blocks\.(\d+)\.{ours}\.": rf"FMPose3D.blocks.\1.{official}."
    for ours, official in (
        *(("graph_norm", "norm1"), ("graph.linear", "gcn1.conv1d"), ("norm1", "norm_att1"), ("norm2", "norm_mlp")),
        *(("attention.query_key_value", "attn.qkv"), ("attention.output", "attn.proj")),
        *(("expand", "mlp.fc1"), ("contract", "mlp.fc2")),
    )
}


def load_fmpose3d(state_dict: Mapping[str, Any], num_heads: int = 8) -> VelocityNetwork:
    """The released velocity network.

    Args:
        state_dict: official names (`time_embed.B`, ...) to tensors or arrays, or a checkpoint that holds them as `CFM`
            or as `methods.official_weights.state_dict_in` says. The fixed adjacency matrices may be left out.
        num_heads: of the attention, which no tensor shows.

    Returns:
        Network in evaluation mode: `forward(pose_2d: (B, 17, 2), pose: (B, 17, 3), t: (B,)) -> (B, 17, 3)`, the
        velocity in metres; 2-D joints in screen coordinates.

    Raises:
        InputError: if a tensor is missing, superfluous or of the wrong shape, or the adjacency is of another skeleton.
    """
    weights = state_dict_in(state_dict.get(_WRAPPER, state_dict), _FIRST)
    skeleton = skeletons.get(SKELETON)
    expected = adjacency(skeleton)
    for key in [key for key in weights if _ADJACENCY.fullmatch(key)]:
        given = weights.pop(key)
        if given.shape != expected.shape or not torch.allclose(given.to(expected.dtype), expected, atol=1e-5):
            raise InputError(f"{key} is not the adjacency of {SKELETON}, which is the released one")
    require(weights, _SIZES, _NETWORK)
    in_channels = weights[_FIRST_LAYER].shape[1] - 3 - TIME_WIDTH
    if in_channels != 2:
        raise InputError(
            f"{_FIRST_LAYER} takes {weights[_FIRST_LAYER].shape[1]} channels, expected {5 + TIME_WIDTH}: 2-D joints, "
            f"pose and {TIME_WIDTH} of the time"
        )
    num_blocks = len({match[1] for key in weights if (match := re.match(r"FMPose3D\.blocks\.(\d+)\.", key))})
    width, hidden = len(weights["encoder.fc2.weight"]), len(weights[_TWO_LAYER_NET])
    network = VelocityNetwork(skeleton, width, num_blocks, num_heads, hidden)
    return load(network, _as_matrices(weights), _NETWORK, published_names(network.state_dict(), _NAMES)).eval()


def _as_matrices(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with each graph convolution (4 W, W, 1) as the matrix of a linear layer."""
    return {
        key: value[..., 0] if key.endswith("conv1d.weight") and value.ndim == 3 and value.shape[-1] == 1 else value
        for key, value in weights.items()
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `import_checkpoint`."""
    parser.add_argument("--num_heads", type=int, default=8, help="attention heads, which no tensor shows (default: 8)")


def import_checkpoint(arguments: argparse.Namespace) -> Imported:
    """A whole `FMPose` as published: Gaussian start, three Euler steps.

    Raises:
        InputError: if the file is missing, broken or of another kind.
    """
    content = read_published(arguments.source)
    weights = content if isinstance(content, Mapping) else state_dict_in(content, _FIRST)
    network = load_fmpose3d(weights, arguments.num_heads)
    kind = {
        "start": "gaussian",
        "width": network.input.out_features,
        "num_blocks": len(network.blocks),
        "num_heads": arguments.num_heads,
        "hidden": network.hidden,
        "skeleton": SKELETON,
    }
    output = shlex.quote(str(arguments.output))
    commands = f"""  noise2pose predict --checkpoint {output} keypoints.json --output lifted
  noise2pose train test -c configs/experiments/fmpose_human36m_frame.yaml --ckpt_path {output} --name imported"""
    return Imported("methods.fmpose.FMPose", kind, network.state_dict(prefix="network."), commands)
