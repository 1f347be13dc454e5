"""Checkpoints: how they are written and found, and how a method is made from one or from a model folder."""

import contextvars
import json
import math
import os
import pickle
import textwrap
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from methods.base import PoseMethod, class_path_of
from methods.model_folders import CONFIG, read_config, read_model, shipped_models
from noise2pose.class_paths import named_class
from noise2pose.errors import InputError
from noise2pose.files import replacing

_ROOM = "methods."
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint as a whole, so that a killed process leaves the previous one; reads model folders too.

    The `last.ckpt` that is replaced is kept as `previous.ckpt`, should a disk damage the new one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        with replacing(path) as partial:
            torch.save(checkpoint, partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())  # on the disk, before it replaces the previous one
            if path.name == LAST and zipfile.is_zipfile(path):  # or a damaged one would replace a good one
                with suppress(OSError), replacing(path.with_name(PREVIOUS)) as link:  # some disks know no links
                    link.unlink(missing_ok=True)
                    os.link(path, link)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_model(Path(path)) if Path(path).is_dir() else read_torch_file(Path(path))


def load_method(path_or_name: str | Path) -> PoseMethod:
    """A trained method in evaluation mode, on the CPU.

    Args:
        path_or_name: folder of a model, file of a checkpoint, or the name of a shipped model (`diffpose-people`).

    Raises:
        InputError: if it is missing or damaged, or does not hold a whole method of this project.
    """
    path = find_checkpoint(path_or_name)
    checkpoint = read_checkpoint(path)
    class_path = _class_path(path, checkpoint)
    try:
        method = make_method(class_path, checkpoint["hyper_parameters"])
        method.load_state_dict(checkpoint["state_dict"])
    except (ImportError, AttributeError, TypeError, ValueError, KeyError, RuntimeError) as error:
        reason = textwrap.shorten(" ".join(str(error).split()), 300, placeholder=" ...")
        raise InputError(f"{path} does not hold a whole {class_path} ({reason})") from error
    method.trained_on = checkpoint.get("trained_on")
    return method.eval()


def make_method(class_path: str, hyper_parameters: dict[str, Any]) -> PoseMethod:
    """A method whose weights are loaded next.

    Args:
        class_path: of the method.
        hyper_parameters: constructor arguments; keys that begin with `_`, which Lightning adds, are ignored. Files of
            weights are not read: the state dict that is loaded next holds their content, and the files may be gone.

    Raises:
        ImportError, AttributeError, TypeError: if the class cannot be imported, is not a method, or takes other
            arguments.
    """
    found = named_class(class_path, PoseMethod)
    arguments = {
        key: None if key in found.weight_files else value
        for key, value in hyper_parameters.items()
        if not str(key).startswith("_")
    }
    # In a new context, because Lightning would give a part of a method that the command line makes the arguments of
    # the whole method.
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


def read_checkpoint(path_or_name: str | Path) -> dict[str, Any]:
    """The content of a checkpoint: `state_dict`, `hyper_parameters` and more.

    Args:
        path_or_name: folder of a model, file of a checkpoint, or the name of a shipped model.

    Raises:
        InputError: if it is missing, damaged or not a checkpoint of this project.
    """
    path = find_checkpoint(path_or_name)
    if path.is_dir():
        return read_model(path)
    checkpoint = read_torch_file(path)
    for key in ("state_dict", "hyper_parameters"):
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(key), dict):
            raise InputError(f"{path} has no {key}: it is not a checkpoint of this project")
    return checkpoint


def find_checkpoint(path_or_name: str | Path) -> Path:
    """The file of a checkpoint or the folder of a model; a bare word may be the name of a shipped model.

    Raises:
        InputError: if neither is there.
    """
    path, shipped = Path(path_or_name), shipped_models()
    if path.is_file() or (path / CONFIG).is_file():
        return path
    if path.name in shipped and len(path.parts) == 1:
        return shipped[path.name]
    if path.is_dir():
        read_config(path)  # says what is missing
    if len(path.parts) != 1 or path.suffix:
        raise InputError(f"checkpoint {path} does not exist")
    raise InputError(
        f"no model named {path_or_name} is shipped; there is {', '.join(shipped) or 'none'}. Give the path of a model "
        "folder, or of a checkpoint: runs/NAME/checkpoints/best.ckpt"
    )


def read_torch_file(path: Path, allowed: Sequence[Any] = ()) -> Any:
    """Reads a file that `torch.save` wrote, onto the CPU, without running code that may be hidden in it.

    Args:
        path: of the file.
        allowed: functions and classes that the file may contain besides tensors and plain values, as
            `torch.serialization.safe_globals` takes them.

    Raises:
        InputError: if the file is missing or broken, differs from its checksums, or contains anything else.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        with torch.serialization.safe_globals(list(allowed)):
            if zipped := zipfile.is_zipfile(path):
                _check_sums(path)
            # Mapped into memory, so that unused parts, such as optimizer states, take no memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except InputError:
        raise
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
        raise InputError(
            f"{path} cannot be read as a checkpoint: it is empty, cut off or damaged{_instead_of(path)}"
        ) from error


def find_resumable(folder: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint of a run that was trained longest among those that can be read, also those that SLURM made save.

    Args:
        folder: of the run, which may be missing.

    Returns:
        The file, None if the run has none yet; what is wrong with each file that would have come before it.

    Raises:
        InputError: if the run has checkpoints, and none of them can be read.
    """
    named = [folder / "checkpoints" / name for name in (LAST, PREVIOUS, BEST)]
    found: list[tuple[float, Path]] = []
    damaged: list[str] = []
    for path in (each for each in (*named, *sorted(folder.glob("hpc_ckpt_*.ckpt"))) if each.is_file()):
        try:  # its list of contents, which is read fast; times of files say nothing where a clock was set back
            found.append((float(torch.load(path, "cpu", weights_only=True, mmap=True)["global_step"]), path))
        except Exception:  # whatever the library makes of a damaged file; the next step says what is wrong with it
            found.append((math.inf, path))
    for _, path in sorted(found, key=lambda each: -each[0]):  # of equal ones the first, `last.ckpt`
        try:
            read_torch_file(path)["global_step"]
        except (InputError, KeyError, TypeError) as error:
            damaged.append(str(error) if isinstance(error, InputError) else f"{path} is no checkpoint of a training")
        else:
            return path, damaged
    if found:
        raise InputError(f"no checkpoint of {folder} can be read: {'; '.join(damaged)}")
    return None, []


def _check_sums(path: Path) -> None:
    """Compares a zip archive with its checksums, which PyTorch does not.

    Raises:
        InputError: if a part of it is not what was written.
    """
    with zipfile.ZipFile(path) as archive:
        if not any(part.CRC for part in archive.infolist()):  # PyTorch can be told to write none
            return
        if damaged := archive.testzip():
            raise InputError(f"{path} is damaged: {damaged} in it is not what was written{_instead_of(path)}")


def _instead_of(path: Path) -> str:
    """What to give instead of a damaged `last.ckpt`."""
    others = any(path.with_name(name).is_file() for name in (PREVIOUS, BEST))
    return "; --ckpt_path auto continues from the one before" if path.name == LAST and others else ""


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
