"""Where published weights are renamed: everything of DPMesh that comes after its backbone.

Every size is read off the tensors, but for the number of attention heads, which none tells.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.dpmesh.backbone.fusion import FusionHead
from methods.dpmesh.regressor.pose_heads import VPoserDecoder, VPoserHead
from methods.dpmesh.regressor.regressor import RELEASE, Estimate, Regressor
from noise2pose.errors import InputError

_KEYS_NAMED = 5  # at most, of a file that holds something else
GRID = 32  # cells across the crop, in which the release has its 2-D joints

# Beginnings of our names and of theirs; the first that fits is taken. "shaoe" is how they spell it.
_NAMES = {
    "context.": "kp_lifting.",
    "fusion.from_32.": "backbone.outmodules.0.",
    "fusion.from_16.": "backbone.outmodules.1.0.",
    "fusion.merge.": "backbone.outmodules.2.",
    "regressor.volume.exponent": "exponent",
    "regressor.volume.lift.": "conv2d_to_3d.",
    "regressor.volume.place.": "conv_3d_coord.0.",
    "regressor.volume.encoder.": "refine_3d.",
    "regressor.to_plane.": "down_linear.",
    "regressor.plane_encoder.": "transformer.encoder.",
    "regressor.decoder.body_start": "transformer.smpl_tgt",
    "regressor.decoder.joint_start": "transformer.kp_tgt",
    "regressor.decoder.locate.": "transformer.decoder.joint_img_regress.",
    "regressor.decoder.place.": "transformer.decoder.fc_pos_3d.",
    "regressor.decoder.": "transformer.decoder.",
    "regressor.body_queries": "spose_shape_cam_param",
    "regressor.joint_queries": "query.weight",
    "regressor.root_head.layers.": "cascade_root_pose_out.",
    "regressor.pose_head.cascade.layers.": "cascade_pose_out.",
    "regressor.pose_head.decoder.": "vposer.vposer.",
    "regressor.shape_head.layers.": "cascade_shaoe_out.",
    "regressor.camera_head.layers.": "cascade_cam_out.",
}
# What is in the files beside it, and is not needed.
_LEFT_OUT = ("human_model_layer.", "pos_embed_1d.", "vposer.vposer.bodyprior_enc_")
_SIZES = (
    "spose_shape_cam_param",
    *("down_linear.weight", "conv2d_to_3d.weight", "transformer.encoder.layers.0.linear1.weight"),
    *("refine_3d.layers.0.linear1.weight", "vposer.vposer.bodyprior_dec_fc1.weight", "kp_lifting.weight"),
    *("backbone.outmodules.0.0.weight", "backbone.outmodules.1.0.weight", "backbone.outmodules.2.0.weight"),
)


class PublishedRegressor(nn.Module):
    """From 2-D joints to the tokens of the backbone, and from the backbone's pyramid to a body.

    `methods.dpmesh.DPMesh` has these parts under the same names.

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
        """What the regressor says of each person; levels as `FusionHead` takes them."""
        return self.regressor(self.fusion(pyramid))


def load_regressor(state_dict: Mapping[str, Any], num_heads: int = 8) -> PublishedRegressor:
    """The published network after the backbone.

    Args:
        state_dict: as `extract_state_dict` takes it; what begins with `backbone.` counts only if it is of the fusion
            head (`backbone.outmodules.`). The body and VPoser's encoder are left out.
        num_heads: of all attention.

    Returns:
        Network in evaluation mode, with the release's quirks: see `Regressor`.

    Raises:
        InputError: if a key is missing, superfluous or of the wrong shape; all are named.
    """
    weights = {
        key: value
        for key, value in extract_state_dict(state_dict).items()
        if not key.startswith(_LEFT_OUT) and (not key.startswith("backbone.") or key.startswith("backbone.outmodules."))
    }
    network = _network(weights, num_heads)
    expected = network.state_dict()
    origin = official_names(expected)
    known = set(origin.values())
    problems = [f"{key} is not known" for key in sorted(weights) if key not in known]
    problems += [f"{key} is missing" for key in sorted(known - set(weights))]
    for ours, official in origin.items():
        if official in weights and weights[official].shape != expected[ours].shape:
            shape, wanted = tuple(weights[official].shape), tuple(expected[ours].shape)
            problems.append(f"{official} has shape {shape}, expected {wanted}")
    _complain(problems)
    network.load_state_dict({ours: weights[official].to(expected[ours].dtype) for ours, official in origin.items()})
    return network.eval()


def official_names(ours: Iterable[str]) -> dict[str, str]:
    """What the release calls each tensor of a `PublishedRegressor`."""
    prefixes = {name: next(prefix for prefix in _NAMES if name.startswith(prefix)) for name in ours}
    return {name: _NAMES[prefix] + name.removeprefix(prefix) for name, prefix in prefixes.items()}


def extract_state_dict(checkpoint: Any) -> dict[str, Tensor]:
    """The tensors inside an official checkpoint, without the prefix `module.` of distributed training.

    Args:
        checkpoint: official keys to tensors or arrays, or a dictionary that holds them under `network` (the release),
            `state_dict` or `model`.

    Raises:
        InputError: if there are none, or something else is among them.
    """
    if not isinstance(checkpoint, Mapping):
        raise InputError(f"the checkpoint is a {type(checkpoint).__name__} and holds no state dict of tensors")
    inner = next((checkpoint[key] for key in ("network", "state_dict", "model") if key in checkpoint), checkpoint)
    if not isinstance(inner, Mapping) or not any(isinstance(value, Tensor | np.ndarray) for value in inner.values()):
        some = ", ".join([str(key) for key in checkpoint][:_KEYS_NAMED]) or "nothing"
        raise InputError(f"no state dict of tensors is in the checkpoint; it has {some}")
    for key, value in inner.items():
        if not isinstance(value, Tensor | np.ndarray):
            raise InputError(f"{key} is a {type(value).__name__}, expected a tensor")
    weights = {str(key).removeprefix("module."): torch.as_tensor(value) for key, value in inner.items()}
    # Weights of the fusion head alone.
    return {f"backbone.{key}" if key.startswith("outmodules.") else key: value for key, value in weights.items()}


def _network(weights: Mapping[str, Tensor], num_heads: int) -> PublishedRegressor:
    """A network of the sizes of the weights."""
    _complain([f"{key} is missing" for key in _SIZES if key not in weights])
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
    # The two coarsest levels are never apart in the weights: any split of their channels fits.
    coarse = weights["backbone.outmodules.2.0.weight"].shape[1] - finest - fine
    fusion = FusionHead({"level_32": finest, "level_16": fine, "level_8": coarse, "level_4": 0}, feature_width)
    tokens = weights["kp_lifting.weight"]
    return PublishedRegressor(nn.Linear(tokens.shape[1], tokens.shape[0]), fusion, regressor)


def _complain(problems: list[str]) -> None:
    if problems:
        raise InputError(f"the state dict does not fit DPMesh: {'; '.join(problems)}")
