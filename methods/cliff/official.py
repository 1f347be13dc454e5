"""Published weights: CLIFF's own, and those of BEDLAM's training code, which has CLIFF for SMPL-X and for SMPL.

Every size is read off the tensors.
"""

import argparse
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.cliff.regressor import BACKBONES, HEADS, BoxNorm, Crop, HeadSize, regressor_for
from methods.networks.backbones import Backbone, ResNet50
from methods.networks.hrnet import ClassificationHRNet, PoseHRNet
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

DESCRIPTION = """CLIFF, as its authors published it or as BEDLAM's training code saves it.

  noise2pose import cliff hr48-PA43.0_MJE69.0_MVE81.2_3dpw.pt cliff.ckpt --body smpl.npz
  noise2pose import cliff bedlam_cliff.ckpt bedlam_cliff.ckpt --body smplx.npz
"""
Layout = Literal["cliff", "bedlam"]
BODIES = ("smplx.", "smpl.", "J_regressor")  # beside the network in BEDLAM's checkpoints, without its prefix
_BODY = "the body of SMPL or SMPL-X, which has a licence of its own"
_LEFT_OUT = {
    **dict.fromkeys(BODIES, _BODY),
    "backbone.final_layer.": "the heat-map layer of the 2-D network, which no answer depends on",
    "head.downsample_module.": "convolutions that were made and never used, which no answer depends on",
}


class PublishedCLIFF(nn.Module):
    """Crop and box to rotations, shape and camera; `CLIFF` has the same two parts under the same names.

    Args:
        backbone: of images.
        head: what is estimated.
        bbox_norm: unit of the box information that the weights were trained with.
        crop: of the image that they were trained with.
        hidden: units of the regressor.
    """

    def __init__(self, backbone: Backbone, head: HeadSize, bbox_norm: BoxNorm, crop: Crop, hidden: int) -> None:
        super().__init__()
        self.head = head
        self.bbox_norm: BoxNorm = bbox_norm
        self.crop: Crop = crop
        self.backbone = backbone
        self.regressor = regressor_for(backbone, head, hidden)

    def forward(self, image: Float[Tensor, "B 3 height width"], box: Float[Tensor, "B 3"]) -> dict[str, Tensor]:
        """Answers RGB crops in [0, 1].

        Args:
            image: published for 256 x 192 (`portrait`) or 224 x 224 pixels.
            box: `box_information` in this network's unit.

        Returns:
            `rotmat` (B, R, 3, 3) with the root first, `betas` (B, S), and `camera` (B, 3): (s, tx, ty) of the crop.
        """
        rotations, betas, camera = self.regressor(torch.cat((self.backbone(image), box), dim=-1))
        return {"rotmat": rotations, "betas": betas, "camera": camera}


def layout_of(weights: Mapping[str, Any]) -> Layout | None:
    """Whose names the tensors have, without wrappers; None if neither CLIFF's nor BEDLAM's."""
    if "encoder.conv1.weight" in weights and "fc1.weight" in weights:
        return "cliff"
    return "bedlam" if "backbone.downsample_stage_1.0.weight" in weights and "head.fc1.weight" in weights else None


def load_cliff(state_dict: Mapping[str, Any]) -> PublishedCLIFF:
    """A published network.

    Args:
        state_dict: official names to tensors or arrays, or a checkpoint that holds them (see
            `methods.official_weights.state_dict_in`). CLIFF's names begin with `encoder.`, `fc1.`, ...; BEDLAM's with
            `model.backbone.` and `model.head.`. Bodies, and layers that no answer depends on, are left out with a note
            on the standard error.

    Returns:
        Network in evaluation mode.

    Raises:
        InputError: if the weights are not of CLIFF, or a tensor is missing, superfluous or of the wrong shape.
    """
    weights = state_dict_in(state_dict, FIRST_NAMES, beside=BODIES)
    layout = layout_of(weights)
    if layout is None:
        raise InputError(
            "these are not weights of CLIFF: there are neither encoder.conv1 and fc1 (CLIFF) nor "
            "backbone.downsample_stage_1 and head.fc1 (BEDLAM, HRNet with strided convolutions)"
        )
    weights = without_parts(weights, _LEFT_OUT)
    encoder, head = ("encoder.", "") if layout == "cliff" else ("backbone.", "head.")
    sizes = {f"{head}{name}.weight": 2 for name in ("fc1", "decpose", "decshape")}
    require(weights, sizes, "CLIFF")
    hidden, rotations, betas = (len(weights[name]) for name in sizes)
    backbone = _backbone(weights, encoder, layout)
    size = HeadSize(rotations // 6, betas)
    network = PublishedCLIFF(backbone, size, layout, "portrait" if layout == "cliff" else "square", hidden)
    if weights[f"{head}fc1.weight"].shape[1] == network.regressor.fc1.in_features - 3:
        raise InputError("these weights know nothing of the box: they are of HMR, not of CLIFF")
    names = published_names(network.state_dict(), {r"backbone\.": encoder, r"regressor\.": head})
    return load(network, weights, "CLIFF", names).eval()


def published_parts(weights: Mapping[str, Tensor]) -> Parts | None:
    """Backbone and regressor of a published CLIFF, or None for weights of something else.

    Raises:
        InputError: as of `load_cliff`.
    """
    if layout_of(weights) is None:
        return None
    network = load_cliff(weights)
    return Parts(network.backbone.state_dict(), network.regressor.state_dict())


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `import_checkpoint`."""
    parser.add_argument("--body", default="free", help="body file (npz) that the weights were trained with")


def import_checkpoint(arguments: argparse.Namespace) -> Imported:
    """A `CLIFF` that answers with the body that the weights were trained with, or approximately with the free body.

    Raises:
        InputError: if the file or the body is missing, broken or of another kind.
    """
    network = load_cliff(read_published(arguments.source))
    # HRNets of another width have no name of their own.
    names = [name for name, kind in BACKBONES.items() if isinstance(network.backbone, kind)]
    heads = [name for name, size in HEADS.items() if size == network.head]
    if not heads or getattr(network.backbone, "channels", [48])[0] != 48:
        raise InputError(
            f"expected 24 rotations and 10 shape coefficients, or 22 and 11, on ResNet-50 or HRNet-W48; found "
            f"{network.head.num_rotations} and {network.head.num_betas} on {type(network.backbone).__name__}"
        )
    check_body(arguments.body)
    kind = {
        "backbone": names[0],
        "head": heads[0],
        "bbox_norm": network.bbox_norm,
        "crop": network.crop,
        "hidden": network.regressor.fc2.out_features,
        "body": arguments.body,
    }
    return Imported("methods.cliff.CLIFF", kind, network.state_dict())


def _backbone(weights: Mapping[str, Tensor], prefix: str, layout: Layout) -> Backbone:
    first = weights.get(f"{prefix}transition1.0.0.weight")
    if layout == "bedlam":
        return PoseHRNet() if first is None else PoseHRNet(len(first))
    return ResNet50() if first is None else ClassificationHRNet(len(first))
