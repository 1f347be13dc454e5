"""Published weights of the parts of DPMesh beside its backbone.

Every size is read off the tensors, except the number of attention heads, which no tensor shows.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from methods.dpmesh.backbone.fusion import FusionHead
from methods.dpmesh.regressor.pose_heads import VPoserDecoder, VPoserHead
from methods.dpmesh.regressor.regressor import RELEASE, Estimate, Regressor
from methods.official_weights import load, published_names, require, state_dict_in

_WHAT = "DPMesh's regressor"
GRID = 32  # cells across the crop, the unit of the release's 2-D joints

# Beginnings of our names and of the release's, which spells shape "shaoe".
_NAMES = {
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
        """Estimates the body of each person from the levels of a pyramid, as `FusionHead` takes them."""
        return self.regressor(self.fusion(pyramid))


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
        if not key.startswith(_LEFT_OUT) and (not key.startswith("backbone.") or key.startswith("backbone.outmodules."))
    }
    network = _network(weights, num_heads)
    return load(network, weights, _WHAT, official_names(network.state_dict())).eval()


def official_names(ours: Iterable[str]) -> dict[str, str]:
    """What the release calls each tensor of a `PublishedRegressor`."""
    return published_names(ours, _NAMES)


def read_state_dict(content: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint of DPMesh, without wrappers (see `methods.official_weights.state_dict_in`).

    The fusion head may be alone in it; its names begin with `backbone.` in any case.
    """
    weights = state_dict_in(content, _FIRST)
    return {f"backbone.{key}" if key.startswith("outmodules.") else key: value for key, value in weights.items()}


def _network(weights: Mapping[str, Tensor], num_heads: int) -> PublishedRegressor:
    """A network of the sizes of the weights."""
    require(weights, _SIZES, _WHAT)
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
    return PublishedRegressor(nn.Linear(tokens.shape[1], tokens.shape[0]), fusion, regressor)
