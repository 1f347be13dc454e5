"""Files of an archive or of a folder by name, so that a publisher reads both alike."""

import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

from noise2pose.errors import InputError

_MOST_BYTES = 1 << 30  # of a file that is read whole; a damaged or hostile archive may promise any size


def file_names(source: Path) -> list[str]:
    """Names of the files in an archive or folder, relative to it, sorted.

    Raises:
        InputError: if it does not exist, or is a damaged archive.
    """
    if source.is_dir():
        return sorted(file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file())
    if not source.is_file():
        raise InputError(f"--source: {source} does not exist")
    return sorted(_open(source).namelist())


def read_file(source: Path, name: str) -> bytes:
    """The content of a file by its name within the source.

    Raises:
        InputError: if it is a damaged part of an archive, or larger than any file that is read so.
    """
    if source.is_dir():
        return (source / name).read_bytes()
    try:
        archive = _open(source)
        if (size := archive.getinfo(name).file_size) > _MOST_BYTES:
            raise InputError(f"{source}: {name} would have {size} bytes when unpacked, expected at most {_MOST_BYTES}")
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{source}: {name} is damaged ({error}); download the archive again") from error


def _open(archive: Path) -> zipfile.ZipFile:
    return _open_once(archive, archive.stat().st_mtime_ns)


@lru_cache(maxsize=8)  # each process reads the list of an archive's thousands of files once
def _open_once(archive: Path, changed: int) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise InputError(f"{archive} is not a zip archive, or truncated ({error}); download it again") from error
