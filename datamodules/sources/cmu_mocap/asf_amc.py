"""Acclaim skeletons (ASF) and motions (AMC), as the CMU motion capture database ships them.

Format: http://research.cs.wisc.edu/graphics/Courses/cs-838-1999/Jeff/ASF-AMC.html. A bone runs from the end of its
parent. In a frame it is turned by parent * C * M * C^-1, with C from the skeleton's `axis` and M from the motion's
channels; in the rest pose every rotation is the identity.

Shape letters: F frames, B bones (the root first).
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from noise2pose.errors import InputError

Array = NDArray[np.floating[Any]]
_INCH = 0.0254  # metres
_ROOT_CHANNELS = ["rx", "ry", "rz", "tx", "ty", "tz"]


@dataclass(frozen=True)
class Bone:
    """One bone; the root is the bone without parent and without length.

    Attributes:
        name: of the bone.
        parent: index of the parent bone, -1 for the root.
        offset: (3,) from the bone's start to its end in the rest pose, metres.
        axis: the rotation C.
        order: in which the turns of M are applied, for example "xyz".
        channels: what each number of an AMC line is, for example ("rx", "rz").
    """

    name: str
    parent: int
    offset: Array
    axis: Rotation
    order: str
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Skeleton:
    """Bones, parents before their children, and the units of the motions that belong to them.

    Attributes:
        file: name of the file, for messages.
        bones: the root first.
        metres: length of one unit.
        radians: size of one unit of angle.
        position: (3,) metres, what the root's translation is added to.
    """

    file: str
    bones: tuple[Bone, ...]
    metres: float
    radians: float
    position: Array

    def index(self, name: str) -> int:
        """Position of a bone by name.

        Raises:
            InputError: if there is none.
        """
        names = [bone.name for bone in self.bones]
        if name not in names:
            raise InputError(f"{self.file}: has no bone {name}, expected the bones of the CMU skeleton")
        return names.index(name)


def parse_asf(text: str, file: str) -> Skeleton:
    """Reads a skeleton.

    Args:
        text: content of the file.
        file: its name, for messages.

    Raises:
        InputError: naming the file, the line and what is wrong there.
    """
    units, root, bones, hierarchy = _sections(text, file)
    length = _require(units, "length", f"{file}: section :units")
    angle = _require(units, "angle", f"{file}: section :units")
    if angle.text not in ("deg", "rad"):
        raise InputError(f"{angle.place}: found {angle.text!r}, expected deg or rad")
    radians = math.radians(1.0) if angle.text == "deg" else 1.0
    unit = length.numbers(1)[0]
    if unit <= 0.0:
        raise InputError(f"{length.place}: found {unit}, expected more than 0")
    metres = _INCH / unit

    where = f"{file}: section :root"
    order, channels = _require(root, "axis", where), _require(root, "order", where)
    if sorted(channels.text.split()) != _ROOT_CHANNELS:
        raise InputError(f"{channels.place}: found {channels.text!r}, expected TX TY TZ RX RY RZ in any order")
    axis = _rotation(radians * _require(root, "orientation", where).numbers(3), order.axes())
    found = [Bone("root", -1, np.zeros(3), axis, order.axes(), tuple(channels.text.split()))]
    position = {"root": 0}
    for line in hierarchy:
        parent, *children = line.text.split()
        if parent not in position:
            raise InputError(f"{line.place}: bone {parent} has children before it has a parent")
        for child in children:
            if child in position or child not in bones:
                problem = "already has a parent" if child in position else "is not in section :bonedata"
                raise InputError(f"{line.place}: bone {child} {problem}")
            position[child] = len(found)
            found.append(_bone(child, position[parent], bones[child], metres, radians))
    if len(found) == 1:
        raise InputError(f"{file}: no bones in section :hierarchy; not an ASF skeleton, or truncated")
    return Skeleton(file, tuple(found), metres, radians, metres * _require(root, "position", where).numbers(3))


def parse_amc(text: str, skeleton: Skeleton, file: str) -> dict[str, Array]:
    """Reads a motion.

    Args:
        text: content of the file.
        skeleton: that the motion is for.
        file: its name, for messages.

    Returns:
        For each bone that has channels, (F, channels) in radians and metres.

    Raises:
        InputError: naming the file, the line and what is wrong there.
    """
    lines = text.splitlines()
    start, radians = 0, skeleton.radians
    while start < len(lines) and (not lines[start].strip() or lines[start].lstrip()[0] in ":#"):
        keyword = lines[start].strip().upper()
        radians = {":DEGREES": math.radians(1.0), ":RADIANS": 1.0}.get(keyword, radians)
        start += 1
    channels = {bone.name: bone.channels for bone in skeleton.bones if bone.channels}
    motion = _parse_regular(lines[start:], channels) or _parse_lines(lines[start:], start + 1, channels, file)
    return {
        name: values * [radians if channel[0] == "r" else skeleton.metres for channel in channels[name]]
        for name, values in motion.items()
    }


def _parse_regular(lines: list[str], channels: dict[str, tuple[str, ...]]) -> dict[str, Array] | None:
    """All frames at once, for a file in which every frame is laid out like the first; None for any other file."""
    words = " ".join(lines).split()
    layout = [line.split()[0] for line in lines[1 : 1 + len(channels)] if line.strip()]
    width = 1 + sum(1 + len(channels.get(name, ())) for name in layout)
    frames = len(words) // width
    if not frames or len(words) % width or set(layout) != set(channels) or len(layout) != len(channels):
        return None
    try:
        numbers = list(map(int, words[::width]))
        if any(after != before + 1 for before, after in pairwise(numbers)):
            return None
        motion, column = {}, 1
        for name in layout:
            if words[column::width] != [name] * frames:
                return None
            rows = range(column + 1, column + 1 + len(channels[name]))
            motion[name] = np.array([list(map(float, words[row::width])) for row in rows]).T
            column = rows.stop
    except ValueError:
        return None
    return motion if all(np.isfinite(values).all() for values in motion.values()) else None


def _parse_lines(lines: list[str], first: int, channels: dict[str, tuple[str, ...]], file: str) -> dict[str, Array]:
    """Frame by frame and line by line; says where a file is malformed."""
    frames: list[dict[str, list[float]]] = []
    number = 0
    for row, line in enumerate(lines, start=first):
        words, place = line.split(), f"{file}, line {row}"
        if not words:
            continue
        if len(words) == 1 and words[0].isdecimal():
            _require_whole(frames, channels, f"{place}: frame {number} ends")
            if frames and int(words[0]) != number + 1:
                raise InputError(f"{place}: frame {words[0]} follows frame {number}")
            number = int(words[0])
            frames.append({})
            continue
        name, *values = words
        if not frames:
            raise InputError(f"{place}: found {name[:60]!r}, expected the number of the first frame")
        if name not in channels:
            raise InputError(f"{place}: found {name[:60]!r}, which is no bone with channels in the skeleton")
        if name in frames[-1]:
            raise InputError(f"{place}: bone {name} is in frame {number} twice")
        frames[-1][name] = _Line(" ".join(values), f"{place}: {name}").numbers(len(channels[name])).tolist()
    if not frames:
        raise InputError(f"{file}: has no frames")
    _require_whole(frames, channels, f"{file}, line {first + len(lines) - 1}: the file ends in frame {number}")
    return {name: np.array([frame[name] for frame in frames]) for name in channels}


def _require_whole(frames: list[dict[str, list[float]]], channels: dict[str, tuple[str, ...]], where: str) -> None:
    missing = [name for name in channels if frames and name not in frames[-1]]
    if missing:
        raise InputError(f"{where} after {len(frames[-1])} of {len(channels)} bones, without {missing[0]}")


@dataclass(frozen=True)
class _Line:
    """What stands after a keyword, and where."""

    text: str
    place: str

    def numbers(self, count: int) -> Array:
        words = self.text.split()
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            raise InputError(f"{self.place}: found {self.text[:60]!r}, expected {count} numbers") from None
        if len(values) != count:
            raise InputError(f"{self.place}: found {len(values)} numbers, expected {count}")
        if not np.isfinite(values).all():
            raise InputError(f"{self.place}: found {self.text[:60]!r}, expected finite numbers")
        return values

    def axes(self) -> str:
        axes = self.text.split()[-1] if self.text else ""
        if sorted(axes) != ["x", "y", "z"]:
            raise InputError(f"{self.place}: found {self.text!r}, expected X, Y and Z in some order at the end")
        return axes


_Block = dict[str, _Line]


def _sections(text: str, file: str) -> tuple[_Block, _Block, dict[str, _Block], list[_Line]]:
    """The lines of :units, :root, :bonedata by name of the bone, and :hierarchy."""
    section, units, root, hierarchy = "", {}, {}, []
    blocks: list[_Block] = []
    for row, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        keyword, place = words[0].lower(), f"{file}, line {row}"
        rest = _Line(" ".join(words[1:]), f"{place}: {keyword}")
        if keyword.startswith(":"):
            section = keyword
        elif section == ":bonedata" and keyword == "begin":
            blocks.append({"begin": _Line("", place)})
        elif keyword in ("begin", "end"):
            continue
        elif section in (":units", ":root"):
            (units if section == ":units" else root)[keyword] = _Line(rest.text.lower(), rest.place)
        elif section == ":bonedata" and blocks:
            # Names keep their case; the numbers and the words for axes and channels have none.
            blocks[-1][keyword] = rest if keyword == "name" else _Line(rest.text.lower(), rest.place)
        elif section == ":hierarchy":
            hierarchy.append(_Line(" ".join(words), place))
    return units, root, {_require(block, "name", block["begin"].place).text: block for block in blocks}, hierarchy


def _require(block: _Block, keyword: str, where: str) -> _Line:
    if keyword not in block:
        raise InputError(f"{where}: found no {keyword}")
    return block[keyword]


def _bone(name: str, parent: int, block: _Block, metres: float, radians: float) -> Bone:
    where = f"{block['begin'].place}: bone {name}"
    length, direction, axis = (_require(block, keyword, where) for keyword in ("length", "direction", "axis"))
    offset = metres * length.numbers(1) * direction.numbers(3)
    if not offset.any():
        raise InputError(f"{length.place}: bone {name} has no length")
    angles = _Line(axis.text.rpartition(" ")[0], axis.place).numbers(3)
    channels = tuple(block["dof"].text.split()) if "dof" in block else ()
    if len(set(channels)) != len(channels) or not set(channels) <= {"rx", "ry", "rz"}:
        raise InputError(f"{block['dof'].place}: found {block['dof'].text!r}, expected rx, ry and rz, each once")
    return Bone(name, parent, offset, _rotation(radians * angles, axis.axes()), axis.axes(), channels)


def _rotation(angles: Array, order: str) -> Rotation:
    """C from its angles about the fixed axes x, y and z, applied in the given order."""
    return Rotation.from_euler(order, angles[["xyz".index(axis) for axis in order]])
