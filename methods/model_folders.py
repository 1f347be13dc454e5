"""A model as a folder: the form in which models are shipped and put on model hubs.

DIR/model.safetensors   every tensor of the method
   /config.yaml         class_path, init_args, trained_on (2-D keypoints), and the SHA-256 of model.safetensors
   /README.md           the model card
"""

import os
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from noise2pose.errors import InputError
from noise2pose.files import ASSETS, sha256

SHIPPED = ASSETS / "models"
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.yaml", "README.md"
_TYPES = {"class_path": str, "init_args": dict, "trained_on": str | None, "sha256": str}


class ModelConfig(NamedTuple):
    """What config.yaml says.

    Attributes:
        class_path: of the method.
        init_args: arguments of its constructor.
        trained_on: sources of the 2-D keypoints of the training; None if unknown.
        sha256: of model.safetensors.
    """

    class_path: str
    init_args: dict[str, Any]
    trained_on: str | None
    sha256: str


def shipped_models() -> dict[str, Path]:
    """The folders of the models that come with the project, by name."""
    return {path.name: path for path in sorted(SHIPPED.glob("*/"))}


def read_config(folder: Path) -> ModelConfig:
    """Reads config.yaml.

    Raises:
        InputError: if the folder is not a model, or a key is missing or has another type.
    """
    path = folder / CONFIG
    if (folder / "checkpoints").is_dir():
        raise InputError(f"{folder} is a run, expected a model: give {folder / 'checkpoints' / 'best.ckpt'}")
    if not path.is_file():
        raise InputError(f"{folder} is not a model folder: {CONFIG} is missing")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: it is cut off or damaged") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no keys, expected {', '.join(_TYPES)}")
    for key, kind in _TYPES.items():
        if key not in content:
            raise InputError(f"{path}: {key} is missing")
        if not isinstance(content[key], kind):
            raise InputError(f"{path}: {key} is {content[key]!r}, expected {getattr(kind, '__name__', kind)}")
    if unknown := sorted(map(str, content.keys() - _TYPES.keys())):
        raise InputError(f"{path}: {', '.join(unknown)} is not known; the keys are {', '.join(_TYPES)}")
    return ModelConfig(**content)


def read_model(folder: Path) -> dict[str, Any]:
    """Reads a model, as the checkpoint that the Trainer and `methods.checkpoints.load_method` take.

    Raises:
        InputError: if a file is missing or damaged, or if the weights are not those that config.yaml is about.
    """
    config, path = read_config(folder), folder / WEIGHTS
    if not path.is_file():
        raise InputError(f"{folder} is not a whole model: {WEIGHTS} is missing")
    if (found := sha256(path)) != config.sha256:
        raise InputError(
            f"{path} is damaged or of another model: its SHA-256 is {found}, and {folder / CONFIG} says {config.sha256}"
        )
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} cannot be read as safetensors ({error})") from error
    return {
        "state_dict": weights,
        "hyper_parameters": config.init_args,
        "class_path": config.class_path,
        "trained_on": config.trained_on,
        # What the Trainer reads of every checkpoint.
        **{"epoch": 0, "global_step": 0, "pytorch-lightning_version": version("lightning")},
    }


def write_model(
    folder: Path,
    class_path: str,
    init_args: Mapping[str, Any],
    trained_on: str | None,
    weights: Mapping[str, Tensor],
    card: Callable[[str], str],
) -> None:
    """Writes a model whole or not at all.

    Args:
        folder: to write.
        class_path: of the method.
        init_args: plain values, from which the method is made again.
        trained_on: sources of the 2-D keypoints of the training; None if unknown.
        weights: its state dict.
        card: makes the text of README.md from the SHA-256 of model.safetensors.

    Raises:
        InputError: if the folder exists.
    """
    if folder.exists():
        raise InputError(f"{folder} exists already: give the name of a folder to make, or remove it first")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        # Cloned, because safetensors refuses views that share memory.
        save_file({key: value.contiguous().clone() for key, value in weights.items()}, partial / WEIGHTS)
        checksum = sha256(partial / WEIGHTS)
        config = ModelConfig(class_path, dict(init_args), trained_on, checksum)
        (partial / CONFIG).write_text(yaml.safe_dump(config._asdict(), sort_keys=False, width=120), encoding="utf-8")
        (partial / CARD).write_text(card(checksum), encoding="utf-8")
        shutil.copymode(partial / CONFIG, partial / WEIGHTS)  # safetensors lets only the owner read it
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def weights_sha256(path: Path) -> str:
    """SHA-256 of the weights: of model.safetensors in a model folder, else of the whole file."""
    return sha256(path / WEIGHTS if path.is_dir() else path)
