"""The CMU motion capture database as it is published: licence, actions, and the files of its archive."""

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from noise2pose.errors import InputError

URL = "http://mocap.cs.cmu.edu/allasfamc.zip"
LICENCE = (
    "This data is free for use in research projects. You may include this data in commercially-sold products, but you "
    "may not resell this data directly, even in converted form."
)
CREDIT = (
    "The data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF "
    "EIA-0196217."
)
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


class Source(NamedTuple):
    """An opened archive or folder.

    Attributes:
        motions: every clip, by name.
        read: content of a file by its name within the source.
    """

    motions: list[MotionFiles]
    read: Callable[[str], bytes]


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Opens the official archive, the same unpacked, or any folder of NN/NN.asf with NN/NN_MM.amc.

    Raises:
        InputError: if the path does not exist, is a damaged archive, holds no motions, or two of the same name.
    """
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        yield Source(_motions(names, path), lambda name: (path / name).read_bytes())
        return
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected the archive {URL}, or a folder of its files")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is not a zip archive, or truncated ({error}); download it again") from error

    def read(name: str) -> bytes:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{path}: {name} is damaged ({error}); download the archive again") from error

    with archive:
        yield Source(_motions(archive.namelist(), path), read)


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
