"""Files written whole or not at all, so that a killed process leaves nothing half-written; what made them."""

import errno
import hashlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TextIO

import numpy as np

from noise2pose.credentials import without_credentials
from noise2pose.errors import InputError

ASSETS = Path(__file__).resolve().parent / "assets"  # what ships with the project; see NOTICE there
_NO_ROOM = 1 << 20  # bytes that are free on a disk where a file that is larger was to be written


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The place to write a file at: it becomes `path` when the block ends, and is removed when the block fails.

    A killed process leaves `path` as it was, and at most a `.partial` file beside it that the next attempt overwrites.

    Raises:
        InputError: if the disk is full or may not be written to.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except BaseException as error:
        reason = unwritable(error, path)  # before the partial file makes room
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if reason:
            raise InputError(reason) from error
        raise


def unwritable(error: BaseException, path: Path | None = None) -> str | None:
    """Why a file cannot be written or read, on a disk that is full or without the right to; None for other errors.

    Args:
        error: of the attempt.
        path: of the file, if the error does not name it.
    """
    number, told = getattr(error, "errno", None), getattr(error, "filename", None)
    lost = path is not None and number is None and isinstance(error, OSError | RuntimeError)  # NumPy's and PyTorch's
    named = Path(told.removesuffix(".partial")) if isinstance(told, str) else path or Path()
    folder = next(folder for folder in named.absolute().parents if os.path.isdir(folder))  # never raises
    if number in (errno.ENOSPC, errno.EDQUOT) or (lost and shutil.disk_usage(folder).free < _NO_ROOM):
        disk = next(each for each in (folder, *folder.parents) if each.is_mount())
        return f"{named} cannot be written: the disk of {disk} is full; make room there and try again"
    if number in (errno.EACCES, errno.EPERM) and not os.access(folder, os.X_OK):
        return f"{named} cannot be reached: you may not enter {folder}; change that, or take another folder"
    if number in (errno.EACCES, errno.EPERM) and os.path.exists(named) and not os.access(named, os.R_OK):
        return f"{named} cannot be read ({os.strerror(number)}): change that, or take another file"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{named} cannot be written ({os.strerror(number)}): change that, or take another folder"
    nowhere = number == errno.ENOENT and path is not None and not path.parent.is_dir()
    if number is not None and (nowhere or number in (errno.ENOTDIR, errno.ENAMETOOLONG)):
        return f"{named} cannot be used ({os.strerror(number)}): take another folder"
    return None


def check_writable(folder: Path) -> None:
    """Refuses a folder that cannot be written, or made, before work for it starts; nothing is made.

    Raises:
        InputError: if it, or a folder that it lies in, is a file or may not be written to.
    """
    for place in (folder, *folder.absolute().parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"{folder} cannot be written: {place} is a file, expected a folder: name another one")
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(
            f"{folder} cannot be written: you may not write to {nearest}; allow it (chmod u+w {nearest}) "
            "or name another folder"
        )


def lock(folder: Path, otherwise: str = "", wait: bool = False) -> TextIO:
    """Locks a folder, which is made if it is missing, until the file that is returned is closed or the process ends.

    Args:
        folder: of one process at a time.
        otherwise: what to do if another process has locked it.
        wait: for another process that has locked it.

    Raises:
        InputError: if another process has locked it and `wait` is not set; the process is named.
    """
    import fcntl  # which only this function needs, and Windows lacks

    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise InputError(f"{folder} is in use by {holder}: {otherwise}") from error
    except OSError:  # a file system without locks
        return file
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text)


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes an RGB image, (H, W, 3) uint8, whole or not at all."""
    from PIL import Image

    with replacing(path) as partial:
        Image.fromarray(image).save(partial, format="PNG")


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Writes an npz file whole or not at all."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def archive_fingerprint(path: Path) -> str:
    """What tells a checkpoint of PyTorch, or any zip file, from another: read from its directory alone, which is short.

    Returns:
        Eight hexadecimal digits of the names, sizes and checksums of its parts; empty if it is no zip file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [(part.filename, part.file_size, part.CRC) for part in archive.infolist()]
    except (OSError, ValueError, zipfile.BadZipFile):
        return ""
    return f"{zlib.crc32(repr(parts).encode()):08x}"


def command() -> str:
    """The command line of this process, as a user would type it again; without passwords and keys."""
    called_by_name = Path(sys.argv[0]).name == "noise2pose"
    words = ["noise2pose", *sys.argv[1:]] if called_by_name else ["python", *sys.argv]
    return shlex.join(without_credentials(words))


@cache
def commit() -> str | None:
    """The project's commit, with a `+` if files differ from it; None outside a checkout."""
    where = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=where,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
