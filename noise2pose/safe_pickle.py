"""Pickles, read without running what is in them.

A pickle names functions and calls them, so reading one with `pickle.load` runs whatever its author wanted. Here a file
may build numbers, strings, plain containers and NumPy arrays. SciPy's sparse matrices and chumpy's objects, which
the files of body models hold, become inert stand-ins that `numpy.asarray` evaluates; neither package is imported. Every
other name is refused before anything is called, and what would grow to all memory is refused too (`limits`). The npz
files of VideoPose3D and its descendants hold such pickles: nested dictionaries of arrays, as one "object array".
"""

import codecs
import pickle
import reprlib
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sized
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np

from noise2pose.errors import InputError
from noise2pose.files import replacing
from noise2pose.limits import KEYS, SMALL, check_arrays, check_keys, check_tree, with_plain_keys
from noise2pose.stand_ins import ChumpyObject, SparseMatrix

_TIME = (1980, 1, 1, 0, 0, 0)  # of a zip entry that is written: the same content is the same file


def load(path: str | PathLike[str]) -> Any:
    """Reads a pickle file of any protocol.

    Args:
        path: of the file.

    Returns:
        What the file holds. Sparse matrices and chumpy's objects are stand-ins to be passed to `numpy.asarray`, which
        raises a TypeError for an expression of chumpy other than `Ch`, `Select` and `Reshape`.

    Raises:
        InputError: if the file is missing, broken, or names anything else than data.
    """
    try:
        with Path(path).open("rb") as file:
            return _unpickle(file, Path(path).stat().st_size)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} cannot be read as a pickle file ({error})") from error


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
        check_arrays(path)
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy"): name for name in archive.namelist()}
            return {key: _read_entry(archive, name) for key, name in names.items() if only is None or key in only}
    except InputError:
        raise
    except (OSError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError, MemoryError,
            zipfile.BadZipFile, zlib.error, pickle.UnpicklingError) as error:  # fmt: skip
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
        read_header: Any = getattr(np.lib.format, "read_array_header_{}_{}".format(*version))
        shape, _, dtype = read_header(file)
        if dtype.hasobject:
            array = _unpickle(file, archive.getinfo(name).file_size)
            return array.item() if shape == () else array
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)  # pyright: ignore[reportArgumentType]


def _unpickle(file: IO[bytes], size: int) -> Any:
    try:
        # Of Python 2's strings, which hold its arrays too: latin1 keeps every byte.
        tree = _Unpickler(file, size).load()
        check_tree(tree, _children)
        return tree
    except (OSError, pickle.UnpicklingError):
        raise
    except MemoryError:
        raise pickle.UnpicklingError("it does not fit into memory") from None
    except Exception as error:  # a broken pickle makes the interpreter fail in many ways
        raise pickle.UnpicklingError(f"it is broken or no pickle: {type(error).__name__} {error}".rstrip()) from error


def _children(value: Any) -> Collection[Any] | None:
    """What a container holds; None for anything else."""
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, _STAND_INS):
        return vars(value).values()
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return value.ravel().tolist()
    return None


def _dtype(code: str, align: bool = False, copy: bool = True) -> np.dtype:
    """NumPy's own, but for simple types only, and never a shared object: its state is set afterwards."""
    if not isinstance(code, str | bytes):
        raise pickle.UnpicklingError("it has an array of an unusual type")
    dtype = np.dtype(str(code))
    if dtype.kind not in "biufcSUO" or dtype.subdtype is not None:
        raise pickle.UnpicklingError(f"it has an array of {code}, which is neither numbers nor strings")
    return np.dtype(dtype, copy=True)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _set_dtype(dtype: np.dtype, state: tuple) -> None:
    """Sets the byte order. The rest of a state describes memory, so it is not taken from a file."""
    own: Any = dtype.__reduce__()
    if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
        raise pickle.UnpicklingError(f"it has an array of an unusual type {reprlib.repr(state[:5])}")
    if state[5] not in (-1, dtype.itemsize):
        raise pickle.UnpicklingError(f"it has an array of {dtype} with {reprlib.repr(state[5])} bytes each")
    dtype.__setstate__((3, state[1], *own[2][2:]))  # pyright: ignore[reportAttributeAccessIssue]


def _new_array(subtype: object, shape: object, code: object) -> np.ndarray:
    if subtype is not _NDARRAY:
        raise pickle.UnpicklingError("it has an array of an unusual class")
    return np.empty(0, np.int8)  # shape, type and values follow


def _set_array(array: np.ndarray, state: tuple) -> None:
    shape, dtype, _, values = state[-4:]
    if not isinstance(dtype, np.dtype) or any(type(size) is not int or size < 0 for size in shape):
        raise pickle.UnpicklingError("it has an array without a type or a shape")
    if dtype.hasobject and (type(values) is not list or len(values) != int(np.prod([1, *shape], dtype=object))):
        raise pickle.UnpicklingError(f"it has an array of {reprlib.repr(shape)} objects with other values than that")
    array.__setstate__(state)  # pyright: ignore[reportAttributeAccessIssue]


def _array_of_buffer(buffer: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _scalar(dtype: np.dtype, value: bytes | str) -> Any:
    return np.frombuffer(_encode(value) if isinstance(value, str) else value, dtype, 1)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):  # others are found by importing a module
        raise pickle.UnpicklingError(f"it has bytes in the encoding {reprlib.repr(encoding)}")
    return codecs.latin_1_encode(text)[0]


def _no_bytes() -> bytes:
    return b""


def _set(items: Collection[Any] = ()) -> set[Any]:
    check_keys(items)
    return set(items)


def _frozenset(items: Collection[Any] = ()) -> frozenset[Any]:
    check_keys(items)
    return frozenset(items)


def _ordered(items: Collection[Any] = ()) -> OrderedDict[Any, Any]:
    if items:
        raise pickle.UnpicklingError("it has a dictionary that is made in an unusual way")
    return OrderedDict()


def _reconstruct_object(cls: Any, base: object, state: object) -> Any:
    """How protocols 0 and 1 make an object."""
    if not (isinstance(cls, type) and issubclass(cls, _STAND_INS)) or base is not _OBJECT:
        raise pickle.UnpicklingError("it has an object of an unusual class")
    return cls()


_NDARRAY, _OBJECT = object(), object()  # named by files, never called
_STAND_INS = (SparseMatrix, ChumpyObject)
_BUILTINS: dict[str, Any] = {
    "set": _set, "frozenset": _frozenset, "bytes": _no_bytes, "object": _OBJECT, "complex": complex
}  # fmt: skip
_ADMITTED: dict[str, Any] = {
    **{f"{module}.{name}": value for module in ("builtins", "__builtin__") for name, value in _BUILTINS.items()},
    **{f"{module}._reconstructor": _reconstruct_object for module in ("copyreg", "copy_reg")},
    "collections.OrderedDict": _ordered,
    "_codecs.encode": _encode,
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _dtype,
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 2 has moved its internals; files name either place
    _ADMITTED[f"{_core}.multiarray._reconstruct"] = _new_array
    _ADMITTED[f"{_core}.multiarray.scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric._frombuffer"] = _array_of_buffer
for _layout in ("csc", "csr", "coo"):
    for _place in ("", f".{_layout}", f"._{_layout}"):
        for _kind in ("matrix", "array"):
            _ADMITTED[f"scipy.sparse{_place}.{_layout}_{_kind}"] = type(
                f"{_layout}_{_kind}", (SparseMatrix,), {"layout": _layout}
            )


class _Unpickler(pickle._Unpickler):
    # The interpreter in Python, not the one in C, because only here "set the state of this object" can be replaced.
    dispatch: dict[int, Callable[..., None]] = dict(pickle._Unpickler.dispatch)  # pyright: ignore[reportAttributeAccessIssue]

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if name in _ADMITTED:
            return _ADMITTED[name]
        if module_name.split(".")[0] == "chumpy":
            return type(global_name, (ChumpyObject,), {"kind": global_name})
        raise pickle.UnpicklingError(f"it wants to call {name}, which is not an array")

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(file, encoding="latin1")
        self._room = max(SMALL, 4 * size)  # arrays and strings are copied once or twice

    def _spend(self, values: Iterable[Any]) -> None:
        """Counts the bytes and entries that calls copy: a file can ask for the same copy again and again."""
        self._room -= sum(len(value) for value in values if isinstance(value, Sized))
        if self._room < 0:
            raise pickle.UnpicklingError("it copies the same values until memory is full")

    def _instantiate(self, called: Any, arguments: Any) -> None:
        self._spend(arguments)
        self.append(called(*arguments))  # pyright: ignore[reportAttributeAccessIssue]

    def _call(self) -> None:
        arguments = self.stack.pop()  # pyright: ignore[reportAttributeAccessIssue]
        self._instantiate(self.stack.pop(), arguments)  # pyright: ignore[reportAttributeAccessIssue]

    def _set_state(self) -> None:
        stack: list[Any] = self.stack  # pyright: ignore[reportAttributeAccessIssue]
        state = stack.pop()
        made = stack[-1]
        if type(made) is np.ndarray and type(state) is tuple:
            self._spend(state)
            _set_array(made, state)
        elif isinstance(made, np.dtype) and type(state) is tuple:
            _set_dtype(made, state)
        elif isinstance(made, _STAND_INS) and type(state) is dict:
            vars(made).update(state)
        else:
            raise pickle.UnpicklingError(f"it wants to change an object of class {type(made).__name__}")

    dispatch |= {pickle.BUILD[0]: _set_state, pickle.REDUCE[0]: _call}


for _code, _keys in KEYS.items():
    _Unpickler.dispatch[_code] = with_plain_keys(_Unpickler.dispatch[_code], _keys)


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
