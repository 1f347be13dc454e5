"""Files and folders of a download, wherever the user unpacked them, and the pictures in them."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

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
