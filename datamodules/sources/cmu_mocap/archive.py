"""The CMU motion capture database as it is published: the files of its archive, and what its clips show."""

import re
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from datamodules.sources.cmu_mocap import DOWNLOAD
from noise2pose.errors import InputError

# What the site's index calls the clips; the archive itself has no names.
ACTIONS = {
    **{f"01_{number:02d}": "playground climb" for number in (2, 4, 5, 7, 8, 10, 11, 12, 13, 14)},
    "01_01": "forward jumps, turn",
    "01_03": "climb, hang, swing",
    "01_06": "climb, sit, dangle legs",
    "01_09": "climb, hang, swing",
    "02_01": "walk",
    "02_02": "walk",
    "02_03": "run/jog",
    "02_04": "jump, balance",
    "02_05": "punch/strike",
    "02_06": "bend, scoop, lift",
    "02_07": "swordplay",
    "02_08": "swordplay",
    "02_09": "swordplay",
    "02_10": "wash self",
    **{f"03_{number:02d}": "walk uneven terrain" for number in (1, 2, 3, 4)},
}


class MotionFiles(NamedTuple):
    """The files of one clip.

    Attributes:
        name: for example "01_05".
        subject: for example "01".
        skeleton: name of the ASF file within the source, None if it is missing.
        motion: name of the AMC file within the source.
    """

    name: str
    subject: str
    skeleton: str | None
    motion: str


def list_motions(source: Path) -> list[MotionFiles]:
    """Every clip, by name.

    Args:
        source: the official archive, the same unpacked, or any folder of NN/NN.asf with NN/NN_MM.amc.

    Raises:
        InputError: if it does not exist, is a damaged archive, holds no motions, or two of the same name.
    """
    if source.is_dir():
        return _motions([file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file()], source)
    if not source.is_file():
        raise InputError(f"{source} does not exist; expected the archive {DOWNLOAD}, or a folder of its files")
    return _motions(_open(source).namelist(), source)


def read_file(source: Path, name: str) -> bytes:
    """The content of a file by its name within the source.

    Raises:
        InputError: if it is a damaged part of an archive.
    """
    if source.is_dir():
        return (source / name).read_bytes()
    try:
        return _open(source).read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{source}: {name} is damaged ({error}); download the archive again") from error


def _open(archive: Path) -> zipfile.ZipFile:
    return _open_once(archive, archive.stat().st_mtime_ns)


@lru_cache(maxsize=1)  # each process reads the list of its thousands of files once
def _open_once(archive: Path, changed: int) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise InputError(f"{archive} is not a zip archive, or truncated ({error}); download it again") from error


def _motions(names: list[str], path: Path) -> list[MotionFiles]:
    present, found = set(names), {}
    for name in sorted(names):
        match = re.search(r"(?:^|/)(\d+)_(\d+)\.amc$", name)
        if match is None:
            continue
        subject, clip = match[1], f"{match[1]}_{match[2]}"
        if clip in found:
            raise InputError(f"{path}: holds clip {clip} twice, as {found[clip].motion} and {name}")
        skeleton = PurePosixPath(name).with_name(f"{subject}.asf").as_posix()
        found[clip] = MotionFiles(clip, subject, skeleton if skeleton in present else None, name)
    if not found:
        raise InputError(f"{path}: holds no motions, expected files like 01/01.asf and 01/01_01.amc")
    return [found[clip] for clip in sorted(found)]
