"""Which prepared data sets, bodies and trained weights are there, and whether they are whole."""

import json
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from datamodules.prepared.folder import GENDERS, MANIFEST, PreparedFolder
from datamodules.sources.common.download import MODELS
from methods.model_folders import read_model, shipped_models
from noise2pose.bodies import files as body_files
from noise2pose.errors import InputError
from noise2pose.files import sha256


class Folder(NamedTuple):
    """A prepared folder."""

    path: str  # as it was given
    dataset: str  # name of the data set
    rows: int = 0  # people in images, or frames of motion
    splits: dict[str, int] = {}  # rows of each split; `all` where the data module splits them
    keypoints_2d: tuple[str, ...] = ()  # 2-D inputs that it offers
    images: int = 0  # their number; 0 if it was prepared without
    genders: tuple[str, ...] = ()  # of the bodies that its parameters are of; none without parameters
    problem: str = ""  # what is wrong with it; empty if it can be used


def find_folders(data: Path) -> list[Folder]:
    """Prepared folders in a folder, sorted; unfinished and damaged ones say so."""
    found = []
    for path in sorted(data.iterdir()) if data.is_dir() else []:
        if (path / MANIFEST).is_file():
            found.append(_prepared(path))
        elif (path / ".parts").is_dir():
            found.append(Folder(str(path), path.name, problem="unfinished: type the command that prepares it again"))
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
        # Without the folder's path, which stands beside it.
        problem = str(error).replace(f"data.root: {path}/", "").replace(f"{path}/", "").replace(f"{path}: ", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{MANIFEST} cannot be read ({type(error).__name__}): delete it and prepare the data set again"
    if not isinstance(manifest, dict) or "sequences" not in manifest:
        return Folder(str(path), path.name, problem=problem)
    splits: dict[str, int] = {}
    for sequence in manifest["sequences"]:
        split = str(sequence.get("split", "all"))
        splits[split] = splits.get(split, 0) + sequence["stop"] - sequence["start"]
    sources = ["gt"] * any(name in manifest["columns"] for name in ("keypoints_2d_gt", "keypoints_3d", "poses"))
    sources += ["detected"] * ("keypoints_2d_detected" in manifest["columns"])
    images = manifest.get("pictures", 0) if manifest["picture_root"] else 0
    return Folder(str(path), manifest["dataset"], manifest["rows"], splits, tuple(sources), images, genders, problem)


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


def find_bodies(folder: Path) -> list[dict[str, Any]]:
    """The free body and the converted ones in a folder, sorted, each with what it is or why it cannot be read."""
    found = []
    for path in [body_files.FREE_BODY, *sorted(folder.glob("*.npz"))]:
        name = "free" if path == body_files.FREE_BODY else str(path)
        entry: dict[str, Any] = {"path": name, "model": "", "gender": "", "problem": ""}
        try:
            body = body_files.read(path)
            entry |= {"model": body.model_type, "gender": body.gender, "regressors": sorted(body.regressors)}
        except InputError as error:
            entry["problem"] = str(error).replace(f"{path}: ", "")
        found.append(entry)
    return found


class CheckpointFile(NamedTuple):
    """A checkpoint or model."""

    name: str  # what `--ckpt_path` and `--checkpoint` take: a file, or the name of a shipped model
    method: str = ""  # class of the method; empty if the file does not say
    epoch: int = 0  # number of epochs that it was trained for; 0 if the file does not say
    problem: str = ""  # why it cannot be read; empty if it can
    shipped: bool = False  # with the project


def shipped() -> list[CheckpointFile]:
    """The models that come with the project."""
    found = []
    for name, folder in shipped_models().items():
        file = CheckpointFile(name, shipped=True)
        try:
            found.append(file._replace(method=read_model(folder)["class_path"].rpartition(".")[2]))
        except InputError as error:
            found.append(file._replace(problem=str(error)))
    return found


def trained(runs: Path) -> list[CheckpointFile]:
    """Those of the runs in a folder, sorted."""
    return [_read(path) for path in sorted(runs.glob("*/checkpoints/*.ckpt"))]


def _read(path: Path) -> CheckpointFile:
    try:
        # On the meta device no weight is read, however large the file is.
        checkpoint: Any = torch.load(path, map_location="meta", weights_only=True, mmap=True)
        stated = checkpoint.get("class_path", checkpoint["hyper_parameters"].get("_class_path", ""))
        if not isinstance(checkpoint["state_dict"], dict):
            raise TypeError("state_dict is no dictionary")
        return CheckpointFile(str(path), str(stated).rpartition(".")[2], int(checkpoint.get("epoch", -1)) + 1)
    except (KeyError, AttributeError, TypeError):
        return CheckpointFile(str(path), problem="not a checkpoint of this project")
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError):
        return CheckpointFile(str(path), problem="empty, cut off or damaged")
