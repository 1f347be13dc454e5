"""Which trained weights are there, read from their files without making a method."""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import noise2pose

_SHIPPED = Path(noise2pose.__file__).parent / "assets" / "checkpoints"


class CheckpointFile(NamedTuple):
    """A checkpoint.

    Attributes:
        name: what `--ckpt_path` and `--checkpoint` take: a file, or the name of one that is shipped.
        method: class of the method; empty if the file does not say.
        epoch: number of epochs that it was trained for; 0 if the file does not say.
        problem: why it cannot be read; empty if it can.
    """

    name: str
    method: str
    epoch: int
    problem: str


def shipped() -> list[CheckpointFile]:
    """Those that come with the project."""
    return [_read(path, path.stem) for path in sorted(_SHIPPED.glob("*.ckpt"))]


def trained(runs: Path) -> list[CheckpointFile]:
    """Those of the runs in a folder, sorted."""
    return [_read(path, str(path)) for path in sorted(runs.glob("*/checkpoints/*.ckpt"))]


def _read(path: Path, name: str) -> CheckpointFile:
    import torch

    try:
        # On the meta device no weight is read, however large the file is.
        checkpoint: Any = torch.load(path, map_location="meta", weights_only=True, mmap=True)
        stated = checkpoint.get("class_path", checkpoint["hyper_parameters"].get("_class_path", ""))
        if not isinstance(checkpoint["state_dict"], dict):
            raise TypeError("state_dict is no dictionary")
        return CheckpointFile(name, str(stated).rpartition(".")[2], int(checkpoint.get("epoch", -1)) + 1, "")
    except (KeyError, AttributeError, TypeError):
        return CheckpointFile(name, "", 0, "not a checkpoint of this project")
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError):
        return CheckpointFile(name, "", 0, "empty, cut off or damaged")
