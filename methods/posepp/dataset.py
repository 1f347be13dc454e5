"""What a data set says of itself, in `OUTPUT/dataset.json`, and the refusal of another one in the same folder."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from methods.posepp.people.body import Body
from methods.posepp.settings import Settings, fingerprint
from noise2pose.errors import InputError
from noise2pose.files import commit, sha256, write_text

DATASET, POSES = "dataset.json", "poses.npz"
FORMAT = 1


def open_dataset(folder: Path, settings: Settings) -> None:
    """Begins a data set, or checks that the folder holds the one of these settings.

    Args:
        folder: of the data set, with its poses.
        settings: of the data set.

    Raises:
        InputError: if the folder has no poses, or its data set was begun with other settings, poses or another body.
    """
    facts = _facts(folder, settings)
    path = folder / DATASET
    found = read_dataset(folder) if path.exists() else None
    if found is None:
        about = {"settings": asdict(settings), "versions": _versions(), "commit": commit()}
        write_text(path, json.dumps({**facts, **about}, indent=2, sort_keys=True) + "\n")
        return
    for key in facts:
        if found.get(key) != facts[key]:
            raise InputError(
                f"{path}: {key} is {_short(found.get(key))}, but these settings make {_short(facts[key])}; go on with "
                "the settings that the data set was begun with, or take another folder"
            )


def read_dataset(folder: Path) -> dict[str, Any]:
    """What a data set says of itself.

    Raises:
        InputError: if the folder holds none.
    """
    path = folder / DATASET
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: begin a data set with `noise2pose generate sample`") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(found, dict) or "settings" not in found:
        raise InputError(f"{path}: found no `settings`, expected the file of a generated data set")
    return found


def _facts(folder: Path, settings: Settings) -> dict[str, Any]:
    """What decides what the samples are, besides the settings of the stages."""
    poses = folder / POSES
    if not poses.exists():
        raise InputError(f"{poses} does not exist, expected the poses of the data set")
    facts = {
        "format": FORMAT,
        "seed": settings.seed,
        "samples": settings.samples,
        "shard_size": settings.shard_size,
        "image_size": settings.image_size,
        "body": Body(settings.body.model).facts,
        "poses": sha256(poses),
    }
    return {**facts, "hash": fingerprint(facts)}


def _versions() -> dict[str, str]:
    return {package: version(package) for package in ("numpy", "torch", "pillow", "diffusers")}


def difference(found: Any, expected: dict[str, Any]) -> str:
    """The first setting that differs, as ` (camera.shift 0.4, now 0.2)`."""
    before, now = _flat(found), _flat(expected)
    key = next((key for key in sorted(before | now) if before.get(key) != now.get(key)), None)
    return "" if key is None else f" ({key.partition('.')[2]} {_short(before.get(key))}, now {_short(now.get(key))})"


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Values by the path of their keys, with dots between them."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, each in tree.items():
        flat |= _flat(each, f"{prefix}.{key}" if prefix else key)
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
