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

from methods.base import PoseMethod
from noise2pose.errors import InputError
from noise2pose.files import ASSETS, replacing

SHIPPED = ASSETS / "checkpoints"
# What a checkpoint without a class path is, by the beginning of its tensors' names.
_CLASS_BY_PREFIX = {"encoder.": "methods.diffpose.DiffPose", "network.": "methods.diffpose.ContextEncoder"}
_OTHER_FILES = (
    *("context_checkpoint", "frontend_checkpoint", "pretrained", "control_pretrained"),
    *("prior_checkpoint", "codebook_checkpoint", "teacher_checkpoint", "vposer_file"),
)
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
        method = make_method(class_path, _hyper_parameters(checkpoint))
        method.load_state_dict(checkpoint["state_dict"])
    except (ImportError, AttributeError, TypeError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{path} does not hold a whole {class_path} ({error})") from error
    method.trained_on = checkpoint.get("trained_on")
    return method.eval()


def make_method(class_path: str, arguments: dict[str, Any]) -> PoseMethod:
    """A method with weights yet to be loaded.

    Raises:
        ImportError, AttributeError, TypeError: if there is no such method, or it takes other arguments.
    """
    module, _, name = class_path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, PoseMethod)):
        raise TypeError(f"{class_path} is not a method")
    # In a context of its own: as a part of a method that the command line makes, Lightning would record that one's
    # arguments as the part's.
    return contextvars.Context().run(found, **arguments)


def describe_method(method: PoseMethod) -> str:
    """What `make_described_method` makes the same method of: class path and arguments, as JSON."""
    kind = type(method)
    return json.dumps({"class_path": f"{kind.__module__}.{kind.__name__}", "arguments": dict(method.hparams)})


def make_described_method(description: str) -> PoseMethod:
    """A method like the one described, with weights yet to be loaded: a part of another method's checkpoint.

    Raises:
        InputError: if nothing is described.
    """
    try:
        described = json.loads(description)
        class_path, arguments = described["class_path"], described["arguments"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{description} describes no method, as `describe_method` does") from error
    return make_method(class_path, arguments).eval()


def export_checkpoint(source: Path, target: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes what predictions need of a training checkpoint: weights, hyper-parameters and class path.

    Args:
        source: checkpoint of a run; its `state_dict` is the moving average where the run kept one.
        target: file to write, which `load_method` reads.
        dtype: of the weights in the file; `torch.float16` halves it. They are computed with in float32 again.

    Raises:
        InputError: as `load_method` for the source.
    """
    load_method(source)  # refuses what could not be loaded again
    checkpoint = _read(source)
    hyper_parameters = _hyper_parameters(checkpoint)
    small = {
        "state_dict": {
            # Cloned, because a view would be saved with the whole tensor that it looks at.
            key: value.to(dtype).clone() if value.is_floating_point() else value.clone()
            for key, value in checkpoint["state_dict"].items()
        },
        "hyper_parameters": hyper_parameters,
        "class_path": _class_path(source, checkpoint),
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


def _hyper_parameters(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Constructor arguments, without what Lightning keeps beside them.

    Weights that came from other files (an encoder's, a front end's) are in the checkpoint; the files may be gone.
    """
    known = {key: value for key, value in checkpoint["hyper_parameters"].items() if not str(key).startswith("_")}
    return {key: None if key in _OTHER_FILES else value for key, value in known.items()}


def _class_path(path: Path, checkpoint: dict[str, Any]) -> str:
    """What the checkpoint says, as Lightning keeps it or as `export_checkpoint` does, else what its tensors look like.

    Raises:
        InputError: if neither tells, or if the class is not one of this project's methods.
    """
    stated = checkpoint.get("class_path", checkpoint["hyper_parameters"].get("_class_path"))
    if stated is None:
        guessed = (
            class_path
            for prefix, class_path in _CLASS_BY_PREFIX.items()
            if any(str(key).startswith(prefix) for key in checkpoint["state_dict"])
        )
        stated = next(guessed, None)
    if stated is None:
        raise InputError(
            f"{path}: has no class_path, and its weights are neither DiffPose with its encoder nor a context encoder"
        )
    if not str(stated).startswith(_ROOM):
        raise InputError(f"{path}: class_path is {stated}, expected a class of {_ROOM}")
    return str(stated)
