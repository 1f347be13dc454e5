"""Published weights of paTRICK-swk/D3DP, renamed.

Every size is read off the tensors, but the number of attention heads, which no tensor shows.
"""

import argparse
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from methods.d3dp.denoiser import Denoiser
from methods.d3dp.diffusion import cosine_alphas_cumprod
from methods.networks.mixste import PUBLISHED_NAMES
from methods.official_weights import Imported, load, published_names, read_published, require, state_dict_in
from noise2pose import skeletons
from noise2pose.errors import InputError

DESCRIPTION = """The denoiser of D3DP, for clips of 243 frames.

  noise2pose import d3dp h36m_best_epoch.bin d3dp.ckpt
  noise2pose import d3dp 3dhp_best_epoch.bin d3dp_3dhp.ckpt --skeleton mpi_inf_3dhp_17
  noise2pose train test -c configs/experiments/d3dp_human36m_clip.yaml --ckpt_path d3dp.ckpt --name imported

No tensor shows the order of the joints. in_the_wild_best_epoch.bin takes the 2-D joints of COCO and answers with those
of Human3.6M; it would load, and its answers would be wrong.
"""
_SKELETON = "h36m_17"  # of this project's batches, and of the weights for Human3.6M
_WHAT = "D3DP's denoiser"
_NETWORK = "pose_estimator."  # of the release's model, whose other tensors are the schedule
_CHANNELS = 5  # two of the 2-D joint, three of the noisy 3-D joint
_SIZES = {"Spatial_patch_to_embedding.weight": 2, "Spatial_pos_embed": 3, "Temporal_pos_embed": 3}
_SCHEDULE = ("betas", "alphas_cumprod")
_FIRST = (*_SIZES, _NETWORK, *_SCHEDULE)
_NAMES = {rf"network\.{ours}": theirs for ours, theirs in PUBLISHED_NAMES.items()} | {
    r"step_embedding\.expand\.": "time_mlp.1.",
    r"step_embedding\.contract\.": "time_mlp.3.",
}


def load_d3dp(state_dict: Mapping[str, Any], num_heads: int = 8) -> Denoiser:
    """The released denoiser.

    Args:
        state_dict: official names (`Spatial_pos_embed`, ...; also within `pose_estimator.` or `module.`, beside the
            tensors of the schedule) to tensors or arrays, or a checkpoint that holds them as `model_pos`.
        num_heads: of the attention, which no tensor shows.

    Returns:
        Network in evaluation mode: `forward(joints_2d: (B, F, 17, 2), noisy: (B, [N], F, 17, 3), steps: (B,))`, the
        clean poses in the shape of the noisy ones, metres; 2-D joints in screen coordinates.

    Raises:
        InputError: if a tensor is missing, superfluous or of the wrong shape.
    """
    weights, _ = _parts(state_dict)
    require(weights, _SIZES, _WHAT)
    width, channels = weights["Spatial_patch_to_embedding.weight"].shape
    if channels != _CHANNELS:
        raise InputError(
            f"Spatial_patch_to_embedding.weight takes {channels} channels, D3DP's denoiser {_CHANNELS}; MixSTE, which "
            "takes 2, is imported with `noise2pose import diffpose`"
        )
    num_frames, num_joints = weights["Temporal_pos_embed"].shape[1], weights["Spatial_pos_embed"].shape[1]
    num_blocks = len({match[1] for key in weights if (match := re.match(r"STEblocks\.(\d+)\.", key))})
    network = Denoiser(num_frames, width, num_blocks, num_heads, num_joints=num_joints)
    return load(network, weights, _WHAT, published_names(network.state_dict(), _NAMES)).eval()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `import_checkpoint`."""
    parser.add_argument("--num_heads", type=int, default=8, help="attention heads, which no tensor shows (default: 8)")
    parser.add_argument(
        "--skeleton",
        choices=(_SKELETON, "mpi_inf_3dhp_17"),
        default=_SKELETON,
        help=f"order of the joints that the weights were trained with; they are put in that of {_SKELETON}",
    )


def import_checkpoint(arguments: argparse.Namespace) -> Imported:
    """A whole `D3DP`, with five hypotheses of five calls as in the release's README.

    Raises:
        InputError: if the file is missing, broken or of another kind.
    """
    content = read_published(arguments.source)
    network = load_d3dp(content, arguments.num_heads)
    mixste = network.network
    # Joints are told apart by their embedding alone, so this puts the input and the output in another order.
    mixste.joint_embedding.data = skeletons.convert(mixste.joint_embedding.data, arguments.skeleton, _SKELETON)
    kind = {
        "num_frames": mixste.frame_embedding.shape[1],
        "width": mixste.input.out_features,
        "num_blocks": len(mixste.spatial_blocks),
        "num_heads": arguments.num_heads,
        "num_diffusion_steps": _num_diffusion_steps(_parts(content)[1]),
    }
    return Imported("methods.d3dp.D3DP", kind, network.state_dict(prefix="denoiser."))


def _parts(content: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of the network and those of the schedule, which a file of the network alone does not have."""
    weights = state_dict_in(content, _FIRST)
    inside = {key.removeprefix(_NETWORK): value for key, value in weights.items() if key.startswith(_NETWORK)}
    return (inside, {key: weights[key] for key in weights if not key.startswith(_NETWORK)}) if inside else (weights, {})


def _num_diffusion_steps(schedule: Mapping[str, Tensor]) -> int:
    """T of the schedule that the network was trained with: the release's, if the file does not hold it.

    Raises:
        InputError: if it is another than the cosine schedule.
    """
    if "alphas_cumprod" not in schedule:
        return 1000
    alphas = schedule["alphas_cumprod"]
    if not torch.allclose(alphas.float(), cosine_alphas_cumprod(len(alphas)), atol=1e-6):
        raise InputError("alphas_cumprod is not the cosine schedule that D3DP was published with")
    return len(alphas)
