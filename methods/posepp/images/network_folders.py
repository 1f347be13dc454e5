"""Folders of networks as diffusers writes them: checked before they are loaded, and told apart by their content."""

import hashlib
import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from noise2pose.errors import InputError
from noise2pose.files import sha256

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def network_folder(key: str, value: str | None, file: str) -> Path:
    """The folder that a setting names.

    Args:
        key: of the setting, in `generation`.
        value: of the setting.
        file: that the folder must hold.

    Raises:
        InputError: if it is not set, there is no such folder on this machine, or the file is not in it.
    """
    if not value:
        raise InputError(f"generation.{key} is not set, expected a folder with {file}")
    folder = Path(value)
    if not folder.is_dir():
        hint = (
            "a folder on this machine: networks are never downloaded here" if _HUB_ID.fullmatch(value) else "a folder"
        )
        raise InputError(f"generation.{key} is {value}, which is not there, expected {hint}")
    if not (folder / file).is_file():
        raise InputError(f"generation.{key}: {folder} has no {file}, expected a folder of save_pretrained of diffusers")
    return folder


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a JSON file.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({one_line(error)})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: found no settings of a network")
    return found


def loading(what: str, load: Callable[[], Any]) -> Any:
    """Loads a network; whatever its library says of broken files becomes one line.

    Args:
        what: is loaded, for the error.
        load: loads it.

    Raises:
        InputError: if that fails.
    """
    from safetensors import SafetensorError

    try:
        return load()
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        raise InputError(f"{what} cannot be loaded ({one_line(error)})") from error


def one_line(error: BaseException) -> str:
    """What an error says, short."""
    return textwrap.shorten(" ".join(str(error).split()), 200, placeholder=" ...")


def folder_hash(folder: Path, variant: str | None) -> str:
    """SHA-256 of the networks of a folder: of the names and contents of what `from_pretrained` reads.

    Args:
        folder: of a pipeline or of one network.
        variant: of the weights; those of others are left out.
    """
    index = folder / "model_index.json"
    places = [folder]
    if index.exists():  # whose folder may hold the same weights in other forms
        places = [folder / name for name, value in read_config(index).items() if isinstance(value, list) and value[0]]
    files = [index] if index.exists() else []
    for place in places:
        files += [path for path in sorted(place.glob("*")) if _isread_config(path, variant)]
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder)} {sha256(path)}\n".encode())
    return digest.hexdigest()


def _isread_config(path: Path, variant: str | None) -> bool:
    if path.suffix in (".json", ".txt"):
        return True
    of = path.stem.partition(".")[2].partition("-")[0]  # model.fp16.safetensors, model.fp16-00001-of-00002.safetensors
    return path.suffix in (".safetensors", ".bin") and of == (variant or "")
