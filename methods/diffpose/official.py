"""Where published weights are renamed: GONGJIA0208/Diffpose, `GCNdiff` and `GCNpose`; Diffpose_video, `MixSTE2`.

Every size is read off the tensors. What tensors cannot tell (the number of attention heads) is a keyword with the
release's value.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from methods.diffpose.denoisers import GraphDenoiser, GraphLifter
from methods.diffpose.mixste import MixSTE
from noise2pose import skeletons
from noise2pose.errors import InputError

SKELETON = "h36m_17"
_DROPOUT = 0.25

_Network = TypeVar("_Network", bound=nn.Module)


def load_gcndiff(state_dict: Mapping[str, Any], num_heads: int = 4) -> GraphDenoiser:
    """The released noise predictor.

    Args:
        state_dict: official keys (`gconv_input.weight`, ...; a `module.` prefix is removed) to tensors or arrays.
        num_heads: of the attention, which no tensor tells.

    Returns:
        Network in evaluation mode: `forward(x: (B, 17, 5), t: (B,)) -> (B, 17, 5)`, the scaled noise of (u,v,x,y,z).

    Raises:
        InputError: if a key is missing, superfluous or of the wrong shape; all are named.
    """
    weights = _tensors(state_dict)
    sizes = _sizes(weights)
    parents = _parents(sizes)
    network = GraphDenoiser(sizes["in_channels"], sizes["width"], sizes["num_blocks"], num_heads, _DROPOUT, parents)
    return _fill(network, *_rename(weights, sizes["num_blocks"]), weights)


def load_gcnpose(state_dict: Mapping[str, Any], num_heads: int = 4) -> GraphLifter:
    """The released pose initialiser. Arguments and errors as in `load_gcndiff`.

    Its `temb.*` tensors never influence the output and are dropped.

    Returns:
        Network in evaluation mode: `forward(uv: (B, 17, 2)) -> (B, 17, 3)`, metres, not centred on the root.
    """
    weights = {key: value for key, value in _tensors(state_dict).items() if not key.startswith("temb.")}
    sizes = _sizes(weights)
    network = GraphLifter(sizes["width"], sizes["num_blocks"], num_heads, _DROPOUT, _parents(sizes))
    return _fill(network, *_rename(weights, sizes["num_blocks"]), weights)


def load_mixste(state_dict: Mapping[str, Any], num_heads: int = 8) -> MixSTE:
    """The context encoder for clips, MixSTE. Arguments and errors as in `load_gcndiff`.

    Returns:
        Network in evaluation mode: `forward(screen: (B, F, 17, 2)) -> (B, F, 17, 3)`, metres, not centred on the root,
        for clips of at most as many frames as there are position embeddings.
    """
    weights = _tensors(state_dict)
    for key in ("Spatial_patch_to_embedding.weight", "Spatial_pos_embed", "Temporal_pos_embed"):
        if key not in weights:
            raise InputError(f"key {key} is missing; this is not a MixSTE state dict")
    width, channels = weights["Spatial_patch_to_embedding.weight"].shape
    if channels != 2:
        raise InputError(
            f"Spatial_patch_to_embedding.weight takes {channels} channels, the context encoder 2; D3DP's denoiser, "
            "which takes 5, is another network"
        )
    blocks = {int(match[1]) for key in weights if (match := re.match(r"STEblocks\.(\d+)\.", key))}
    num_frames, num_joints = weights["Temporal_pos_embed"].shape[1], weights["Spatial_pos_embed"].shape[1]
    network = MixSTE(num_frames, width, len(blocks), num_heads, num_joints=num_joints)
    return _fill(network, *_rename_mixste(weights, len(blocks)), weights)


def extract_state_dict(checkpoint: Any, ema: bool = False) -> dict[str, Tensor]:
    """The state dict inside an official checkpoint file.

    Args:
        checkpoint: what `torch.load` returned: the release's list `[weights, optimizer, epoch, step, ema]`, a
            dictionary holding the weights under `state_dict`, `model` or `model_pos`, or the weights themselves.
        ema: take the exponential moving average (fifth entry of the list, or key `ema`) instead of the raw weights.

    Raises:
        InputError: if no weights, or no moving average when asked for, can be found.
    """
    if isinstance(checkpoint, (list, tuple)) and checkpoint:
        if ema and len(checkpoint) < 5:
            raise InputError(
                f"the checkpoint list has {len(checkpoint)} entries; the moving average would be the fifth"
            )
        checkpoint = checkpoint[4] if ema else checkpoint[0]
    elif isinstance(checkpoint, Mapping) and not _is_state_dict(checkpoint):
        keys = ("ema", "ema_state_dict") if ema else ("state_dict", "model", "model_pos", "model_state_dict")
        found = next((key for key in keys if key in checkpoint), None)
        if found is None:
            raise InputError(f"none of the keys {', '.join(keys)} is in the checkpoint; it has {sorted(checkpoint)}")
        checkpoint = checkpoint[found]
    elif ema:
        raise InputError("the checkpoint holds bare weights and no moving average")
    if not isinstance(checkpoint, Mapping) or not _is_state_dict(checkpoint):
        raise InputError("the checkpoint holds no state dict of tensors")
    return _tensors(checkpoint)


def _is_state_dict(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(isinstance(entry, (Tensor, np.ndarray)) for entry in value.values())


def _tensors(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    return {key.removeprefix("module."): torch.as_tensor(value) for key, value in state_dict.items()}


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    for key in ("gconv_input.weight", "atten_layers.0.feed_forward.A_hat"):
        if key not in weights:
            raise InputError(f"key {key} is missing; this is not a GCNdiff or GCNpose state dict")
    shape = weights["gconv_input.weight"].shape
    if len(shape) != 4 or shape[:2] != (3, 1):
        raise InputError(f"gconv_input.weight has shape {tuple(shape)}, expected (3, 1, channels, width)")
    blocks = {int(match[1]) for key in weights if (match := re.match(r"gconv_layers\.(\d+)\.", key))}
    return {
        "in_channels": shape[2],
        "width": shape[3],
        "num_blocks": len(blocks),
        "num_joints": weights["atten_layers.0.feed_forward.A_hat"].shape[0],
    }


def _parents(sizes: Mapping[str, int]) -> tuple[int, ...]:
    skeleton = skeletons.get(SKELETON)
    if sizes["num_joints"] != skeleton.num_joints:
        raise InputError(
            f"atten_layers.0.feed_forward.A_hat is for {sizes['num_joints']} joints; the release's graph, which no "
            f"tensor tells, has {skeleton.num_joints} ({SKELETON})"
        )
    return skeleton.parents


def _chebyshev(weight: Tensor) -> Tensor:
    """[K, 1, in, out] to the (K out, in) of one linear layer."""
    return weight[:, 0].transpose(1, 2).flatten(0, 1)


def _rename(weights: dict[str, Tensor], num_blocks: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Moves what it knows out of `weights`; returns our state dict and, for messages, where each entry came from."""
    renamed: dict[str, Tensor] = {}
    origin: dict[str, str] = {}

    def move(official: str, ours: str, convert: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> None:
        origin[ours] = official
        if official in weights:
            renamed[ours] = convert(weights.pop(official))

    def move_convolution(official: str, ours: str) -> None:
        move(f"{official}.weight", f"{ours}.linear.weight", _chebyshev)
        move(f"{official}.bias", f"{ours}.bias", torch.flatten)

    move_convolution("gconv_input", "input")
    move_convolution("gconv_output", "output")
    for i in range(num_blocks):
        block, attention, conv = f"blocks.{i}", f"atten_layers.{i}", f"gconv_layers.{i}"
        move_convolution(f"{conv}.gconv1.gconv", f"{block}.conv1")
        move_convolution(f"{conv}.gconv2.gconv", f"{block}.conv2")
        move(f"{attention}.feed_forward.A_hat", f"{block}.feed_forward.adjacency")
        for sublayer in (0, 1):
            move(f"{attention}.sublayer.{sublayer}.norm.a_2", f"{block}.norm{sublayer + 1}.weight")
            move(f"{attention}.sublayer.{sublayer}.norm.b_2", f"{block}.norm{sublayer + 1}.bias")
        for end in ("weight", "bias"):
            query_key_value = [f"{attention}.self_attn.linears.{part}.{end}" for part in range(3)]
            origin[f"{block}.attention.query_key_value.{end}"] = " + ".join(query_key_value)
            if all(key in weights for key in query_key_value):
                stacked = torch.cat([weights.pop(key) for key in query_key_value])
                renamed[f"{block}.attention.query_key_value.{end}"] = stacked
            move(f"{attention}.self_attn.linears.3.{end}", f"{block}.attention.output.{end}")
            move(f"{attention}.feed_forward.gconv1.fc.{end}", f"{block}.feed_forward.expand.{end}")
            move(f"{attention}.feed_forward.gconv2.fc.{end}", f"{block}.feed_forward.contract.{end}")
            move(f"{conv}.temb_proj.{end}", f"{block}.time_projection.{end}")
    for end in ("weight", "bias"):
        move(f"temb.dense.0.{end}", f"step_embedding.expand.{end}")
        move(f"temb.dense.1.{end}", f"step_embedding.refine.{end}")
    return renamed, origin


def _rename_mixste(weights: dict[str, Tensor], num_blocks: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As `_rename`, for MixSTE."""
    names = {
        "joint_embedding": "Spatial_pos_embed",
        "frame_embedding": "Temporal_pos_embed",
        "input": "Spatial_patch_to_embedding",
        "spatial_norm": "Spatial_norm",
        "temporal_norm": "Temporal_norm",
        "output.0": "head.0",
        "output.1": "head.1",
    }
    parts = {"norm1": "norm1", "query_key_value": "attn.qkv", "output": "attn.proj", "norm2": "norm2",
             "expand": "mlp.fc1", "contract": "mlp.fc2"}  # fmt: skip
    for ours, theirs in (("spatial_blocks", "STEblocks"), ("temporal_blocks", "TTEblocks")):
        for i in range(num_blocks):
            names |= {f"{ours}.{i}.{part}": f"{theirs}.{i}.{official}" for part, official in parts.items()}
    origin = {
        f"{ours}{end}": f"{theirs}{end}"
        for ours, theirs in names.items()
        for end in ([""] if ours.endswith("embedding") else [".weight", ".bias"])
    }
    return {ours: weights.pop(theirs) for ours, theirs in origin.items() if theirs in weights}, origin


def _fill(network: _Network, renamed: dict[str, Tensor], origin: dict[str, str], left: dict[str, Tensor]) -> _Network:
    """Loads renamed weights strictly, with nothing left over, and puts the network in evaluation mode."""
    expected = network.state_dict()
    problems = [f"{key} is not known" for key in sorted(left)]
    problems += [f"{origin[key]} is missing" for key in expected if key not in renamed]
    problems += [f"{origin[key]} belongs to another network" for key in renamed if key not in expected]
    problems += [
        f"{origin[key]} has shape {tuple(value.shape)} once renamed, expected {tuple(expected[key].shape)}"
        for key, value in renamed.items()
        if key in expected and value.shape != expected[key].shape
    ]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise InputError(f"the state dict does not fit {type(network).__name__}: {shown}")
    network.load_state_dict(renamed)
    return network.eval()
