"""Files of a download, wherever it was unpacked: how they are found and read, and what is wrong with them."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from noise2pose.errors import InputError

_DEPTH = 4  # of folders that are searched
_THREADS = 8  # that read the headers of images: they wait for the disk


class Faults:
    """What is wrong with single entries of a file: those of one kind become one line.

    Args:
        file: how it is called.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: dict[str, list[Any]] = {}

    def add(self, where: str, reason: str) -> None:
        """Notes a fault.

        Args:
            where: the entry, such as `annotation 17`.
            reason: what is wrong with it and what is done about it, in the same words for all faults of this kind.
        """
        self._found.setdefault(reason, [where, 0])[1] += 1

    def lines(self) -> list[tuple[str, str]]:
        """File with the first entry, and reason with the number of others, of each kind of fault."""
        return [
            (f"{self.file}: {first}", reason + (f", and {number - 1} more like it" if number > 1 else ""))
            for reason, (first, number) in self._found.items()
        ]


def read_json(
    path: Path,
    object_hook: Callable[[dict[str, Any]], Any] | None = None,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        object_hook, object_pairs_hook: as in `json.load`.

    Raises:
        InputError: if it is missing, cut short or not JSON.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file, object_hook=object_hook, object_pairs_hook=object_pairs_hook)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error


def read_dictionary(path: Path, faults: Faults | None = None) -> dict[str, dict[str, Any]]:
    """The content of a JSON file that is a dictionary of dictionaries.

    Args:
        path: of the file.
        faults: gets keys that come twice, of which the first counts; None where that does not matter.

    Raises:
        InputError: as `read_json`, and if it is something else.
    """

    def first_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content and faults is not None:
                faults.add(key, "the key comes twice; the first counts")
            content.setdefault(key, value)
        return content

    content = read_json(path, object_pairs_hook=first_of)
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise InputError(f"{path}: expected a dictionary of dictionaries")
    return content


def numbers(entry: Any, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a key, however they are nested.

    Args:
        entry: dictionary of the file.
        key: of the numbers.
        shape: that they have, or are brought into.

    Returns:
        float64 of that shape.

    Raises:
        InputError: if the key is missing, holds another number of numbers, or something else; the message says what the
            entry has or lacks, without naming it.
    """
    if not isinstance(entry, dict) or entry.get(key) is None:
        raise InputError(f"has no `{key}`")
    try:
        array = np.asarray(entry[key], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"has a `{key}` that is no array of numbers") from None
    if array.size != np.prod(shape, dtype=int):
        raise InputError(f"has a `{key}` of another size than {' x '.join(map(str, shape)) or 'one number'}")
    return array.reshape(shape)


def finite_numbers(entry: Any, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """As `numbers`, and NaN and infinity are refused too."""
    array = numbers(entry, key, shape)
    if not np.isfinite(array).all():
        raise InputError(f"has a `{key}` with NaN or infinity")
    return array


def find_file(source: Path, name: str) -> Path | None:
    """The file of that name that lies least deep in a folder, or None."""
    return next((folder / name for folder, _, files in _walk(source) if name in files), None)


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


def folder_with(source: Path, patterns: Iterable[str]) -> Path | None:
    """The folder itself, or the first one in it by name, that has something of these patterns of `glob`, or None."""
    patterns = list(patterns)
    below = sorted(path for path in source.iterdir() if path.is_dir()) if source.is_dir() else []
    has = (folder for folder in (source, *below) if any(any(folder.glob(pattern)) for pattern in patterns))
    return next(has, None)


class SplitFiles(NamedTuple):
    """Where one split is.

    Attributes:
        name: of the split.
        annotations: its file.
        folder: of its images, relative to the source.
    """

    name: str
    annotations: Path
    folder: str


def find_splits(
    source: Path, wanted: Mapping[str, tuple[str, str]], title: str
) -> tuple[list[SplitFiles], list[tuple[str, str]]]:
    """The splits whose annotations and images are there, and the files that are not.

    Args:
        source: folder of the whole download.
        wanted: names of the annotation file and of the folder of images, by split.
        title: of the data set, for the message.

    Raises:
        InputError: if there is no split.
    """
    splits, skipped = [], []
    for split, (name, images) in wanted.items():
        file = find_file(source, name)
        folder = None if file is None else find_folder(source, images, near=file)
        if file is None:
            skipped.append((name, "not found"))
        elif folder is None:
            skipped.append((name, f"left out: its images are not here, looked for a folder {images}"))
        else:
            splits.append(SplitFiles(split, file, folder.relative_to(source).as_posix()))
    if not splits:
        found = "; ".join(f"{name}: {reason}" for name, reason in skipped)
        raise InputError(f"--source: {source} is not {title} ({found})")
    return splits, skipped


def any_case(file: Path) -> Path:
    """The file, or where it is missing the one whose ending is written in capitals (`video_0.AVI`)."""
    capitals = file.with_suffix(file.suffix.upper())
    return capitals if not file.exists() and capitals.is_file() else file


def leads_out(name: str) -> bool:
    """Whether a file's name, as an annotation file has it, would be outside the folder that it is relative to."""
    path = PureWindowsPath(name)  # / and \ both separate folders, and C: is a drive
    return bool(path.anchor) or ".." in path.parts or "\0" in name


def missing_files(root: Path, names: Iterable[str]) -> set[str]:
    """Those that are not there or not in the folder; folders are listed, which is faster than asking for each file.

    Args:
        root: folder.
        names: of files, relative to it.
    """
    listed: dict[str, set[str]] = {}
    missing = set()
    for name in names:
        parent, _, base = name.rpartition("/")
        if leads_out(name):
            missing.add(name)
            continue
        if parent not in listed:
            try:
                listed[parent] = set(os.listdir(root / parent))
            except OSError:
                listed[parent] = set()
        if not base or base not in listed[parent]:
            missing.add(name)
    return missing


def image_sizes(files: list[Path]) -> list[tuple[int, int] | None]:
    """Width and height of each image by its header; None for a file that is no image."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(_size, files))


def _size(file: Path) -> tuple[int, int] | None:
    try:
        with Image.open(file) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _walk(source: Path) -> Iterator[tuple[Path, list[str], set[str]]]:
    """Folders, with the sorted names of their folders and their files, the least deep first."""
    level = [source]
    for _ in range(_DEPTH):
        below = []
        for folder in level:
            _, folders, files = next(os.walk(folder), (folder, [], []))  # nothing of what cannot be read
            folders.sort()
            yield folder, folders, set(files)
            below += [folder / name for name in folders if not name.startswith(".")]
        level = below
