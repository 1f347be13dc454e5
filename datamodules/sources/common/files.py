"""Files of a download, wherever it was unpacked: JSON annotations, folders, images. Faults alike are told once."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from noise2pose.errors import InputError


class Faults:
    """What is wrong with single annotations of a file.

    Args:
        file: how it is called.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: dict[str, list[Any]] = {}

    def add(self, what: str, example: str) -> None:
        """Counts a fault.

        Args:
            what: is wrong, as it is said of many.
            example: where.
        """
        self._found.setdefault(what, [0, example])[0] += 1

    def lines(self) -> list[tuple[str, str]]:
        """The file and what was found, one for each kind of fault, with their number and the first."""
        return [(self.file, f"{number} {what}; first {example}") for what, (number, example) in self._found.items()]


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: if it is missing, cut short or no JSON.
    """
    return _parse(path, None)


def read_dictionary(path: Path, faults: Faults) -> dict[str, dict[str, Any]]:
    """The content of a JSON file that is a dictionary of dictionaries; of keys that come twice, the first counts.

    Raises:
        InputError: as `read_json`, and if it is something else.
    """

    def first_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                faults.add("keys come twice: the first counts", key)
            content.setdefault(key, value)
        return content

    content = _parse(path, first_of)
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise InputError(f"{path}: expected a dictionary of people")
    return content


def numbers(entry: Any, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a key, however they are nested.

    Args:
        entry: dictionary of the file.
        key: of the numbers.
        shape: that they have, or must be brought into.

    Raises:
        InputError: if the key is missing, holds another number of numbers, or something else; says only what.
    """
    if not isinstance(entry, dict) or entry.get(key) is None:
        raise InputError(f"have no `{key}`")
    try:
        array = np.asarray(entry[key], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"have a `{key}` that is no array of numbers") from None
    if array.size != np.prod(shape, dtype=int):
        raise InputError(f"have a `{key}` of another size than {' x '.join(map(str, shape)) or 'one number'}")
    return array.reshape(shape)


def finite_numbers(entry: Any, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """As `numbers`, and NaN and infinity are refused too."""
    array = numbers(entry, key, shape)
    if not np.isfinite(array).all():
        raise InputError(f"have a `{key}` with NaN or infinity")
    return array


def seen_joints(keypoints: np.ndarray) -> np.ndarray:
    """(..., J, 3) pixels and confidence with zeros for joints that are not there or not finite."""
    there = np.isfinite(keypoints).all(axis=-1) & (keypoints[..., 2] > 0)
    return np.where(there[..., None], keypoints, 0.0)


def folder_with(source: Path, names: Iterable[str]) -> Path | None:
    """The folder itself or the first one in it, by name, that has something of these names (patterns of `glob`)."""
    patterns = list(names)
    below = sorted(path for path in source.iterdir() if path.is_dir()) if source.is_dir() else []
    for folder in (source, *below):
        if any(next(folder.glob(pattern), None) is not None for pattern in patterns):
            return folder
    return None


def nearest_file(source: Path, name: str) -> Path | None:
    """The file of that name in the folder itself or in the first one in it that has it."""
    folder = folder_with(source, [name])
    return None if folder is None else folder / name


def _parse(path: Path, hook: Callable[[list[tuple[str, Any]]], Any] | None) -> Any:
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=hook)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error


_DEPTH = 4
_THREADS = 8  # that read the headers of pictures: they wait for the disk


def find_file(source: Path, name: str) -> Path | None:
    """The file of that name that lies least deep in a folder, or None."""
    for folder, _, files in _walk(source):
        if name in files:
            return folder / name
    return None


def find_folder(source: Path, name: str, near: Path) -> Path | None:
    """The folder of that name that is nearest to a file, or None.

    Args:
        source: folder of the whole download.
        name: of the folder.
        near: file in `source`; looked for beside it, then beside its folder, then anywhere.
    """
    bases = [base for base in (near.parent, near.parent.parent) if base.is_relative_to(source)]
    for base in [*bases, source]:
        for folder, folders, _ in _walk(base):
            if name in folders:
                return folder / name
    return None


def any_case(file: Path) -> Path:
    """The file, or where it is not there the one whose ending is written in capitals (`video_0.AVI`)."""
    capitals = file.with_suffix(file.suffix.upper())
    return capitals if not file.exists() and capitals.is_file() else file


def missing_files(root: Path, names: Iterable[str]) -> set[str]:
    """Those that are not there; folders are listed, which is faster than asking for each file.

    Args:
        root: folder.
        names: of files, relative to it.
    """
    listed: dict[str, set[str]] = {}
    missing = set()
    for name in names:
        parent, _, base = name.rpartition("/")
        if parent not in listed:
            try:
                listed[parent] = set(os.listdir(root / parent))
            except OSError:
                listed[parent] = set()
        if base not in listed[parent]:
            missing.add(name)
    return missing


def picture_sizes(files: list[Path]) -> list[tuple[int, int] | None]:
    """Width and height of each picture by its header; None for what is no picture."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(_size, files))


def _size(file: Path) -> tuple[int, int] | None:
    try:
        with Image.open(file) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _walk(source: Path) -> Iterator[tuple[Path, list[str], set[str]]]:
    """Folders, with the sorted names of their folders and their files, the least deep first."""
    level = [source]
    for _ in range(_DEPTH):
        below = []
        for folder in level:
            folders, files = [], set()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir():
                            folders.append(entry.name)
                        else:
                            files.add(entry.name)
            except OSError:
                continue
            folders.sort()
            yield folder, folders, files
            below += [folder / name for name in folders if not name.startswith(".")]
        level = below
