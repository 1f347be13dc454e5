"""What files from elsewhere may unpack to: a small file that grows to all memory is refused before it grows.

A file may grow to 1 GiB, or to ten million entries, whatever its size; beyond that, to a hundred times of itself.
"""

import pickle
import zipfile
from collections.abc import Callable, Collection, Iterable
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from noise2pose.errors import InputError

SMALL = 1 << 30  # bytes
SMALL_TREE = 10_000_000  # entries
GROWTH = 100  # times
# Opcodes of pickles that hash keys, and where these are on the stack.
KEYS = {
    **dict.fromkeys((pickle.SETITEMS[0], pickle.DICT[0]), slice(0, None, 2)),
    **dict.fromkeys((pickle.ADDITEMS[0], pickle.FROZENSET[0]), slice(None)),
    pickle.SETITEM[0]: slice(-2, -1),
}


def check_arrays(path: Path) -> None:
    """Refuses an npy or npz file whose arrays are not in it, or that unpacks to far more than itself.

    Only headers are read. A file that is broken in another way passes, so that its reader says what is wrong.

    Raises:
        InputError: if the file is larger unpacked than this module allows, or a header claims more than there is.
    """
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            _check_header(str(path), file, size)
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked > max(SMALL, GROWTH * size):
            raise InputError(
                f"{path}: {size:,} bytes would unpack to {unpacked:,}, more than {SMALL >> 30} GiB and {GROWTH} times "
                "as much: nothing of it was read"
            )
        for part in archive.infolist():
            with archive.open(part) as file:
                _check_header(f"{path}: {part.filename}", file, part.file_size)


def check_keys(keys: Iterable[Any]) -> None:
    """Refuses nested keys of dictionaries and sets: those of a few bytes can take hours to hash.

    Raises:
        pickle.UnpicklingError: if a key holds a container of others.
    """
    for key in keys:
        if isinstance(key, tuple | frozenset) and any(isinstance(part, tuple | frozenset) for part in key):
            raise pickle.UnpicklingError("it has keys within keys")


def with_plain_keys(load: Callable[[Any], None], keys: slice) -> Callable[[Any], None]:
    """The function of an unpickler for an opcode of `KEYS`, which checks the keys on its stack first."""

    def checked(self: Any) -> None:
        check_keys(self.stack[keys])
        load(self)

    return checked


def check_tree(tree: Any, children: Callable[[Any], Collection[Any] | None]) -> None:
    """Refuses nested containers in which the same ones are repeated so often that writing them out takes all memory.

    Args:
        tree: containers in containers.
        children: function that gives what a container holds, and None for anything else.

    Raises:
        pickle.UnpicklingError: if they hold themselves, or grow by more than this module allows.
    """
    whole: dict[int, int] = {}  # entries of each container, written out
    open_now: set[int] = set()
    distinct = 0
    waiting: list[tuple[Any, Iterable[Any] | None]] = [(tree, None)]
    while waiting:
        node, held = waiting.pop()
        if id(node) in whole:
            continue
        if held is None:
            held = children(node)
            if held is None:
                whole[id(node)] = 1
                continue
            if id(node) in open_now:
                raise pickle.UnpicklingError("a container holds itself")
            open_now.add(id(node))
            waiting.append((node, held))
            waiting += [(child, None) for child in held if id(child) not in whole and children(child) is not None]
            continue
        open_now.discard(id(node))
        own = sum(_size(child) for child in held)
        distinct += own
        whole[id(node)] = own + sum(whole.get(id(child), 0) for child in held)
        if whole[id(node)] > max(SMALL_TREE, GROWTH * distinct):
            raise pickle.UnpicklingError(
                f"its containers repeat each other: written out they have more than {SMALL_TREE:,} entries and "
                f"{GROWTH} times as many as there are"
            )


def _size(value: Any) -> int:
    return value.size if isinstance(value, np.ndarray) else 1


def _check_header(title: str, file: IO[bytes], size: int) -> None:
    """Refuses the header of an npy file that claims more bytes than the file has."""
    try:
        version = np.lib.format.read_magic(file)  # pyright: ignore[reportArgumentType]
        read_header: Any = getattr(np.lib.format, "read_array_header_{}_{}".format(*version))
        shape, _, dtype = read_header(file)
    except Exception:  # it is something else, or broken: its reader says so
        return
    claimed = prod(shape) * dtype.itemsize
    if not dtype.hasobject and claimed > size:
        raise InputError(
            f"{title}: its header claims {claimed:,} bytes, but there are {size:,}: nothing of it was read"
        )
