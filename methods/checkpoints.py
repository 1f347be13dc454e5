"""What a checkpoint holds, how it reaches the disk and how a method comes back from it."""

import contextvars
import importlib
import json
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from methods.base import PoseMethod, class_path_of
from noise2pose.errors import InputError
from noise2pose.files import ASSETS, replacing

SHIPPED = ASSETS / "checkpoints"
_ROOM = "methods."


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a killed process leaves the previous checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with replacing(Path(path)) as partial:
            torch.save(checkpoint, partial)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_torch_file(Path(path))


def load_method(path_or_name: str | Path) -> PoseMethod:
    """A trained method in evaluation mode, on the CPU.

    Args:
        path_or_name: file of a checkpoint, or the name of one that is shipped, such as `diffpose-cmu`.

    Raises:
        InputError: if there is none, or if it does not hold a whole method of this project.
    """
    path = find_checkpoint(path_or_name)
    checkpoint = _read(path)
    class_path = _class_path(path, checkpoint)
    try:
        method = make_method(class_path, checkpoint["hyper_parameters"])
        method.load_state_dict(checkpoint["state_dict"])
    except (ImportError, AttributeError, TypeError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{path} does not hold a whole {class_path} ({error})") from error
    method.trained_on = checkpoint.get("trained_on")
    return method.eval()


def make_method(class_path: str, hyper_parameters: dict[str, Any]) -> PoseMethod:
    """A method whose weights are loaded next.

    Args:
        class_path: of the method.
        hyper_parameters: constructor arguments, which may have beside them what Lightning keeps there. Files of weights
            are not read: the state dict that is loaded next holds their content, and the files may be gone.

    Raises:
        ImportError, AttributeError, TypeError: if the class is missing or no method, or takes other arguments.
    """
    module, _, name = class_path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, PoseMethod)):
        raise TypeError(f"{class_path} is not a method")
    arguments = {
        key: None if key in found.weight_files else value
        for key, value in hyper_parameters.items()
        if not str(key).startswith("_")
    }
    # In a context of its own: as a part of a method that the command line makes, Lightning would record that one's
    # arguments as the part's.
    return contextvars.Context().run(found, **arguments)


def describe_method(method: PoseMethod) -> str:
    """Class path and arguments as JSON, from which `make_described_method` makes the same method."""
    return json.dumps({"class_path": class_path_of(type(method)), "arguments": dict(method.hparams)})


def make_described_method(description: str) -> PoseMethod:
    """A part of another method's checkpoint: the described method, whose weights are loaded next.

    Raises:
        InputError: if the text is not a description by `describe_method`.
    """
    try:
        described = json.loads(description)
        return make_method(described["class_path"], described["arguments"]).eval()
    except InputError:
        raise
    except (ImportError, AttributeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{description} does not describe a method of this version ({error})") from error


def export_checkpoint(source: Path, target: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes what predictions need of a training checkpoint: weights, hyper-parameters and class path.

    Args:
        source: checkpoint of a run; its `state_dict` is the moving average where the run kept one.
        target: file to write, which `load_method` reads.
        dtype: of the weights in the file; `torch.float16` halves it. They are computed with in float32 again.

    Raises:
        InputError: as `load_method` for the source.
    """
    method = load_method(source)  # refuses what could not be loaded again
    checkpoint = _read(source)
    small = {
        "state_dict": {
            # Cloned, because a view would be saved with the whole tensor that it looks at.
            key: value.to(dtype).clone() if value.is_floating_point() else value.clone()
            for key, value in checkpoint["state_dict"].items()
        },
        "hyper_parameters": dict(method.hparams),
        "class_path": class_path_of(type(method)),
        "trained_on": checkpoint.get("trained_on"),
        # What the Trainer asks of a checkpoint, so that it can be tested as well.
        **{"epoch": 0, "global_step": 0, "pytorch-lightning_version": L.__version__},
    }
    AtomicCheckpointIO().save_checkpoint(small, target)


def find_checkpoint(path_or_name: str | Path) -> Path:
    """The file of a checkpoint; what has neither a folder nor an ending is the name of a shipped one.

    Raises:
        InputError: if there is none.
    """
    path = Path(path_or_name)
    if len(path.parts) != 1 or path.suffix or path.is_file():
        if not path.is_file():
            raise InputError(f"checkpoint {path} does not exist")
        return path
    shipped = {file.stem: file for file in sorted(SHIPPED.glob("*.ckpt"))}
    if path.name not in shipped:
        raise InputError(
            f"no checkpoint named {path_or_name} is shipped; there is {', '.join(shipped) or 'none'}. Give the path of "
            "one that was trained: runs/NAME/checkpoints/best.ckpt"
        )
    return shipped[path.name]


def read_torch_file(path: Path, allowed: Sequence[Any] = ()) -> Any:
    """What `torch.save` wrote, on the CPU, without running what may be hidden in it.

    Args:
        path: the file.
        allowed: functions and classes that may be in it beside tensors and plain values, as
            `torch.serialization.safe_globals` takes them.

    Raises:
        InputError: if the file is not there, broken, or holds anything else.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        with torch.serialization.safe_globals(list(allowed)):
            # Mapped, so that what is not looked at (the state of an optimizer) is never read.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            is_pickle = file.read(1) == pickle.PROTO
        if is_pickle or zipfile.is_zipfile(path):
            raise InputError(
                f"{path} holds more than weights, and nothing of it was run: save its state dict alone, where it was "
                "made, with torch.save(model.state_dict(), FILE)"
            ) from error
        raise InputError(f"{path} cannot be read as a checkpoint: PyTorch did not write it") from error
    except Exception as error:
        raise InputError(f"{path} cannot be read as a checkpoint: it is empty, cut off or damaged") from error


def _read(path: Path) -> dict[str, Any]:
    checkpoint = read_torch_file(path)
    for key in ("state_dict", "hyper_parameters"):
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(key), dict):
            raise InputError(f"{path} has no {key}: it is not a checkpoint of this project")
    return checkpoint


def _class_path(path: Path, checkpoint: dict[str, Any]) -> str:
    """The class of a checkpoint: what the method wrote, or the command line of the training.

    Raises:
        InputError: if neither did, or the class is not one of this project's methods.
    """
    stated = checkpoint.get("class_path", checkpoint["hyper_parameters"].get("_class_path"))
    if stated is None:
        raise InputError(f"{path} has no class_path, so it does not say which method it holds")
    if not str(stated).startswith(_ROOM):
        raise InputError(f"{path}: class_path is {stated}, expected a class of {_ROOM}")
    return str(stated)
