"""Samples in tar files of a thousand, as the `webdataset` package reads them, each with a list of all its samples.

A shard `shard-000123.tar` has the files `{id:08d}.{kind}` of its samples in ascending order. Beside it lies
`shard-000123.jsonl`: a line of JSON for every sample that the shard was made for, also for those that it has no files
of. Both are written under a `.partial` name and renamed, the list first: a shard that exists is whole. The bytes of
both depend on nothing but their content: no dates, no owners, no compression that another library would do otherwise.
"""

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from noise2pose.errors import InputError
from noise2pose.files import replacing

_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can have
_DIGITS = 8
_END = 1024  # zeros at the end of every tar file


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{number:06d}.tar"


def manifest_path(shard: Path) -> Path:
    """The list of the samples of a shard."""
    return shard.with_suffix(".jsonl")


def key_of(sample: int) -> str:
    """The name of a sample in a shard."""
    return f"{sample:0{_DIGITS}d}"


class ShardWriter:
    """A shard that is being written; `write_shard` makes it."""

    def __init__(self, archive: tarfile.TarFile, entries: BinaryIO) -> None:
        self._archive = archive
        self._entries = entries
        self._last = -1

    def add(self, sample: int, files: Mapping[str, bytes], entry: Mapping[str, Any]) -> None:
        """Appends a sample.

        Args:
            sample: its number, larger than that of the sample before.
            files: contents by kind, such as `jpg` or `depth.png`; none for a sample that is only listed.
            entry: what the list says of it besides its `id`; plain JSON.
        """
        if sample <= self._last:
            raise ValueError(f"sample {sample} comes after sample {self._last}, expected ascending numbers")
        self._last = sample
        for kind in sorted(files):
            member = tarfile.TarInfo(f"{key_of(sample)}.{kind}")  # of no owner, and of 1970
            member.size = len(files[kind])
            member.mode = 0o644
            self._archive.addfile(member, io.BytesIO(files[kind]))
        self._entries.write(json_bytes({"id": sample, **entry}))


@contextmanager
def write_shard(path: Path) -> Iterator[ShardWriter]:
    """Writes a shard and its list, whole or not at all.

    If the block fails nothing is left; if the process is killed at most two `.partial` files are, which the next
    attempt overwrites.

    Args:
        path: the tar file to write.

    Raises:
        InputError: if the disk is full or may not be written to.
    """
    with (
        replacing(path) as partial,
        replacing(manifest_path(path)) as listed,  # left, and so renamed, before the shard
        partial.open("wb") as file,
        listed.open("wb") as entries,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        yield ShardWriter(archive, entries)
        archive.close()
        for written in (file, entries):
            written.flush()
            os.fsync(written.fileno())


def read_shard(path: Path) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Number and files of each sample of a shard, in order.

    Raises:
        InputError: if the file cannot be read as a shard.
    """
    sample, files = -1, {}
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            file.seek(-min(_END, path.stat().st_size), os.SEEK_END)
            if any(file.read()):  # a tar file that is cut at a header would seem to end there
                raise InputError(f"{path} is cut off: it does not end as tar files do")
            file.seek(archive.offset)
            for member in archive:
                name, _, kind = member.name.partition(".")
                content = archive.extractfile(member)
                if not name.isdigit() or not kind or content is None:
                    raise InputError(f"{path}: holds {member.name}, expected files such as {key_of(0)}.jpg")
                if int(name) != sample and files:
                    yield sample, files
                    files = {}
                sample = int(name)
                files[kind] = content.read()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{path} cannot be read as a tar file ({error})") from error
    if files:
        yield sample, files


def read_manifest(shard: Path) -> list[dict[str, Any]]:
    """The entries of all samples of a shard, in order; each has an `id`.

    Raises:
        InputError: if the list is missing or broken.
    """
    path = manifest_path(shard)
    try:
        entries = [json.loads(line) for line in path.read_text().splitlines()]
    except FileNotFoundError:
        raise InputError(f"{path} does not exist, expected the list of the samples of {shard.name}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as lines of JSON ({error})") from error
    if not all(isinstance(entry, dict) and isinstance(entry.get("id"), int) for entry in entries):
        raise InputError(f"{path}: found a line without a number `id`")
    return entries


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """A line of JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, allow_nan=False).encode() + b"\n"


def npz_bytes(**arrays: np.ndarray) -> bytes:
    """An npz file that is equal wherever and whenever it is made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(arrays[name], order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _NO_DATE), content.getvalue())
    return buffer.getvalue()


def npz_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an npz file."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def png_bytes(image: np.ndarray) -> bytes:
    """A PNG file of (H, W) or (H, W, 3) uint8."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)  # level 6 takes five times as long
    return buffer.getvalue()


def image_array(content: bytes) -> np.ndarray:
    """The pixels of a PNG or JPEG file, (H, W) or (H, W, 3) uint8."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)))
