"""The npz files of VideoPose3D and its descendants: nested dictionaries of arrays, pickled into one "object array".

Reading a pickle may run any code; `safe_pickle` runs none.
"""

import pickle
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from noise2pose import safe_pickle
from noise2pose.errors import InputError
from noise2pose.files import replacing

_TIME = (1980, 1, 1, 0, 0, 0)  # of the zip entry: the same content is the same file


def read_object_npz(path: Path, only: Collection[str] | None = None) -> dict[str, Any]:
    """The entries of an npz file, object arrays included, without running code.

    Args:
        path: npz file.
        only: read no other entries than these.

    Raises:
        InputError: if the file is missing, broken, or holds other objects than arrays in plain containers.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy"): name for name in archive.namelist()}
            return {key: _read_entry(archive, name) for key, name in names.items() if only is None or key in only}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError, zipfile.BadZipFile,
            zlib.error, pickle.UnpicklingError) as error:  # fmt: skip
        raise InputError(f"{path} cannot be read as an npz file ({error})") from error


def write_object_npz(path: Path, key: str, tree: Any, **more: Any) -> None:
    """Writes nested dictionaries and lists as entries of an npz file, whole or not at all.

    `numpy.load(path, allow_pickle=True)[key].item()` reads it, with NumPy 1 as well as 2.

    Args:
        path: npz file.
        key: name of the entry.
        tree: dictionaries and lists whose leaves are functions without arguments that return an array. They are called
            one after the other, so only one array is in memory at a time. Plain values may be leaves too.
        more: further entries of the same form, by name.
    """
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, value in {key: tree, **more}.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _TIME), "w", force_zip64=True) as file:
                header = {"descr": "|O", "fortran_order": False, "shape": ()}
                np.lib.format.write_array_header_1_0(file, header)  # pyright: ignore[reportArgumentType]
                wrapped = np.empty((), dtype=object)
                wrapped[()] = value
                _Pickler(file, protocol=4).dump(wrapped)  # pyright: ignore[reportArgumentType]


def _read_entry(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read_header: Callable[[BinaryIO], Any] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(file)  # pyright: ignore[reportArgumentType]
        if dtype.hasobject:
            array = safe_pickle.unpickle(file)
            return array.item() if shape == () else array
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)  # pyright: ignore[reportArgumentType]


class _Pickler(pickle._Pickler):
    """Keeps no array that it has written, and names NumPy's internals as NumPy 1 does."""

    fast = True  # no memo, which would keep every array alive

    def reducer_override(self, obj: Any) -> Any:
        if callable(obj) and not isinstance(obj, type) and obj is not _RECONSTRUCT:
            return np.ascontiguousarray(obj()).__reduce__()
        return NotImplemented

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj is _RECONSTRUCT:
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")  # pyright: ignore[reportAttributeAccessIssue]
        else:
            super().save_global(obj, name)  # pyright: ignore[reportAttributeAccessIssue]


_RECONSTRUCT = np.empty(0).__reduce__()[0]
