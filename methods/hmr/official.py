"""Published weights: HMR and SPIN as mmhuman3d stores them, and SPIN's own files.

Every size is read off the tensors.
"""

import argparse
from collections.abc import Mapping
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from methods.mesh_regression import Regressor
from methods.networks.backbones import ResNet50
from methods.networks.pretrained import FIRST_NAMES, Parts
from methods.official_weights import (
    Imported,
    check_body,
    load,
    published_names,
    read_published,
    require,
    state_dict_in,
    without_parts,
)
from noise2pose.errors import InputError

DESCRIPTION = """HMR and SPIN, as mmhuman3d or SPIN published them.

  noise2pose import hmr resnet50_hmr_pw3d-04f40f58_20211201.pth hmr.ckpt --body smpl.npz
"""
Layout = Literal["mmhuman3d", "spin"]
# What a whole training of mmhuman3d saves beside the network.
_LEFT_OUT = {
    "disc.": "the discriminators of the training",
    **dict.fromkeys(
        ("body_model_train.", "body_model_test.", "smpl."), "the body of SMPL, which has a licence of its own"
    ),
}


class PublishedHMR(nn.Module):
    """Image to rotations, shape and camera; `methods.hmr.HMR` has the same two parts under the same names.

    Args:
        hidden: units of the regressor.
    """

    def __init__(self, hidden: int = 1024) -> None:
        super().__init__()
        self.backbone = ResNet50()
        self.regressor = Regressor(ResNet50.width, hidden)

    def forward(self, image: Float[Tensor, "B 3 S S"]) -> dict[str, Tensor]:
        """Answers RGB images in [0, 1], published for S = 224.

        Returns:
            `rotmat` (B, 24, 3, 3) with the root first, `betas` (B, 10) of SMPL, and `camera` (B, 3): (s, tx, ty) of
            the crop, whose body stands at (tx, ty, 2 f / (S s)) metres for the focal length f = 5000 pixels.
        """
        rotations, betas, camera = self.regressor(self.backbone(image))
        return {"rotmat": rotations, "betas": betas, "camera": camera}


def load_hmr(state_dict: Mapping[str, Any], layout: Layout = "mmhuman3d") -> PublishedHMR:
    """A published network.

    Args:
        state_dict: official names to tensors or arrays, or a checkpoint that holds them (see
            `methods.official_weights.state_dict_in`). A body and discriminators are left out, with a note on the
            standard error.
        layout: `mmhuman3d` has the prefixes `backbone.` and `head.`; `spin` has none.

    Returns:
        Network in evaluation mode.

    Raises:
        InputError: if a tensor is missing, superfluous or of the wrong shape.
    """
    weights = without_parts(state_dict_in(state_dict, FIRST_NAMES), _LEFT_OUT)
    backbone, head = ("backbone.", "head.") if layout == "mmhuman3d" else ("", "")
    first = f"{head}fc1.weight"
    require(weights, {first: 2}, f"HMR in the layout of {layout}")
    network = PublishedHMR(hidden=len(weights[first]))
    names = published_names(network.state_dict(), {r"backbone\.": backbone, r"regressor\.": head})
    return load(network, weights, "HMR", names).eval()


def layout_of(state_dict: Mapping[str, Any]) -> Layout:
    """Which layout the names of a state dict without wrappers are in.

    Raises:
        InputError: if they are in neither.
    """
    if "head.fc1.weight" in state_dict:
        return "mmhuman3d"
    if "fc1.weight" in state_dict:
        return "spin"
    raise InputError("these are not weights of HMR: neither head.fc1.weight (mmhuman3d) nor fc1.weight (SPIN) is there")


def published_parts(weights: Mapping[str, Tensor]) -> Parts | None:
    """Backbone and regressor of a published HMR, or None for weights of something else.

    Raises:
        InputError: as of `load_hmr`.
    """
    if "head.fc1.weight" not in weights and "fc1.weight" not in weights:
        return None
    network = load_hmr(weights, layout_of(weights))
    return Parts(network.backbone.state_dict(), network.regressor.state_dict())


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `import_checkpoint`."""
    parser.add_argument(
        "--layout", choices=["auto", "mmhuman3d", "spin"], default="auto", help="whose names the tensors have"
    )
    parser.add_argument("--body", default="free", help="body file (npz) that the weights were trained with")


def import_checkpoint(arguments: argparse.Namespace) -> Imported:
    """An `HMR` that answers with the body that the weights were trained with, or approximately with the free body.

    Raises:
        InputError: if the file or the body is missing, broken or of another kind.
    """
    weights = state_dict_in(read_published(arguments.source), FIRST_NAMES)
    network = load_hmr(weights, layout_of(weights) if arguments.layout == "auto" else arguments.layout)
    check_body(arguments.body)
    kind = {"input": "image", "backbone": "resnet50", "hidden": network.regressor.fc2.out_features}
    return Imported("methods.hmr.HMR", {**kind, "body": arguments.body}, network.state_dict())
