"""Which prepared data sets and trained weights are there, and whether they are whole."""

import json
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.prepared.folder import GENDERS, MANIFEST, PreparedFolder
from datamodules.sources.common.download import MODELS
from methods.model_folders import read_model, shipped_models
from noise2pose.errors import InputError
from noise2pose.files import sha256


class Folder(NamedTuple):
    """A prepared folder.

    Attributes:
        path: of the folder.
        dataset: name of the data set.
        rows: people in images, or frames of motion.
        splits: rows of each split; `all` where the data module splits them.
        keypoints_2d: 2-D inputs that it offers.
        images: their number; 0 if it was prepared without.
        genders: of the bodies that its parameters are of; none without parameters.
        problem: what is wrong with it; empty if it can be used.
    """

    path: Path
    dataset: str
    rows: int
    splits: dict[str, int]
    keypoints_2d: tuple[str, ...]
    images: int
    genders: tuple[str, ...]
    problem: str


def find_folders(data: Path) -> list[Folder]:
    """Prepared folders in a folder, sorted; unfinished and damaged ones say so."""
    found = []
    for path in sorted(data.iterdir()) if data.is_dir() else []:
        if (path / MANIFEST).is_file():
            found.append(_prepared(path))
        elif (path / ".parts").is_dir():
            found.append(
                Folder(path, path.name, 0, {}, (), 0, (), "unfinished: type the command that prepares it again")
            )
    return found


def detector_problem(folder: Path) -> str:
    """What is wrong with the 2-D detector in a folder: `not there`, `damaged: FILE`, or nothing."""
    for name, checksum in MODELS.items():
        path = folder / Path(name).name
        if not path.is_file():
            return "not there" if not folder.is_dir() else f"{path.name} is missing"
        if sha256(path) != checksum:
            return f"damaged: {path.name} is not what was published"
    return ""


def _prepared(path: Path) -> Folder:
    manifest: dict[str, Any] = {}
    genders: tuple[str, ...] = ()
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        folder = PreparedFolder(path, manifest["dataset"])
        for name in ("sequence", *folder.manifest["columns"]):
            folder.column(name)
        genders = _genders(folder)
        _check_images(folder)
        problem = ""
    except InputError as error:
        problem = _within(str(error), path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{MANIFEST} cannot be read ({type(error).__name__}): delete it and prepare the data set again"
    if not isinstance(manifest, dict) or "sequences" not in manifest:
        return Folder(path, path.name, 0, {}, (), 0, (), problem)
    splits: dict[str, int] = {}
    for sequence in manifest["sequences"]:
        split = str(sequence.get("split", "all"))
        splits[split] = splits.get(split, 0) + sequence["stop"] - sequence["start"]
    sources = ["gt"] * any(name in manifest["columns"] for name in ("keypoints_2d_gt", "keypoints_3d", "poses"))
    sources += ["detected"] * ("keypoints_2d_detected" in manifest["columns"])
    images = manifest.get("pictures", 0) if manifest["picture_root"] else 0
    return Folder(path, manifest["dataset"], manifest["rows"], splits, tuple(sources), images, genders, problem)


def _genders(folder: PreparedFolder) -> tuple[str, ...]:
    if "betas" not in folder:  # poses alone are put on any body
        return ()
    return tuple(GENDERS[i] for i in np.unique(folder.column("gender"))) if "gender" in folder else GENDERS[:1]


def _check_images(folder: PreparedFolder) -> None:
    """Looks for the first and the last image: those of a folder come and go together."""
    if folder.manifest["picture_root"] is None:
        return
    names, root = folder.images(), folder.image_root()
    for name in {names[0], names[len(names) - 1]} if len(names) else ():
        if not (root / name).is_file():
            raise InputError(f"image {root / name} is gone; data.picture_root says where the images are now")


def _within(message: str, path: Path) -> str:
    """A message about a folder without the folder's path, which stands beside it."""
    return message.replace(f"data.root: {path}/", "").replace(f"{path}/", "").replace(f"{path}: ", "")


class CheckpointFile(NamedTuple):
    """A checkpoint or model.

    Attributes:
        name: what `--ckpt_path` and `--checkpoint` take: a file, or the name of a shipped model.
        method: class of the method; empty if the file does not say.
        epoch: number of epochs that it was trained for; 0 if the file does not say.
        problem: why it cannot be read; empty if it can.
    """

    name: str
    method: str
    epoch: int
    problem: str


def shipped() -> list[CheckpointFile]:
    """The models that come with the project."""
    return [_model(folder, name) for name, folder in shipped_models().items()]


def trained(runs: Path) -> list[CheckpointFile]:
    """Those of the runs in a folder, sorted."""
    return [_read(path, str(path)) for path in sorted(runs.glob("*/checkpoints/*.ckpt"))]


def _model(folder: Path, name: str) -> CheckpointFile:
    try:
        return CheckpointFile(name, read_model(folder)["class_path"].rpartition(".")[2], 0, "")
    except InputError as error:
        return CheckpointFile(name, "", 0, str(error))


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
