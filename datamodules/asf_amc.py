"""Acclaim skeletons (ASF) and motions (AMC), as the CMU motion capture database ships them.

Format: http://research.cs.wisc.edu/graphics/Courses/cs-838-1999/Jeff/ASF-AMC.html. A bone's rotation in a frame is
parent * C * M * C^-1, with C from the skeleton's `axis` and M from the motion's channels; in the rest pose all are the
identity. Angles about X, Y, Z are applied in the order of the name, so "XYZ" is Rz Ry Rx.

Shape letters: F frames, B bones (the root first).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noise2pose.errors import InputError

_INCHES = 0.0254  # metres
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bone:
    """One bone of an ASF skeleton; the root is the bone without parent and length.

    Attributes:
        name: of the bone.
        parent: index of the parent bone, -1 for the root.
        offset: (3,) from the bone's start to its end in the rest pose, metres.
        axis: (3, 3) the matrix C.
        channels: what each number of an AMC line is, for example ("rx", "rz").
    """

    name: str
    parent: int
    offset: Array
    axis: Array
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Skeleton:
    """Bones in an order in which parents come first, and the units of the file."""

    bones: tuple[Bone, ...]
    metres_per_unit: float
    degrees: bool

    def index(self, name: str) -> int:
        """Position of a bone by name."""
        return [bone.name for bone in self.bones].index(name)


def parse_asf(text: str, name: str) -> Skeleton:
    """Reads a skeleton.

    Args:
        text: content of the file.
        name: of the file, for messages.

    Raises:
        InputError: naming the file, the line and what is wrong there.
    """
    section, units = "", {"length": 1.0, "angle": "deg"}
    root = {"order": "TX TY TZ RX RY RZ", "axis": "XYZ", "orientation": "0 0 0"}
    blocks: list[dict[str, str]] = []
    children: list[tuple[str, list[str], int]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0].startswith(":"):
            section = words[0][1:].lower()
        elif section == "units" and len(words) == 2:
            units[words[0].lower()] = words[1]
        elif section == "root":
            root[words[0].lower()] = " ".join(words[1:])
        elif section == "bonedata":
            if words[0] == "begin":
                blocks.append({"line": str(number)})
            elif words[0] not in ("end", "limits") and not words[0].startswith("(") and blocks:
                blocks[-1][words[0].lower()] = " ".join(words[1:])
        elif section == "hierarchy" and words[0] not in ("begin", "end"):
            children.append((words[0], words[1:], number))

    scale = _INCHES / _number(str(units["length"]), name, 0, "units length")
    degrees = str(units["angle"]).lower().startswith("deg")
    by_name = {block.get("name", ""): block for block in blocks}
    order = root["axis"].split()[-1] if root["axis"].split() else "XYZ"
    orientation = _numbers(root["orientation"], 3, name, 0, "root orientation")
    bones = [Bone("root", -1, np.zeros(3), _euler(orientation, order, degrees), tuple(root["order"].lower().split()))]
    position = {"root": 0}
    for parent, names, number in children:
        if parent not in position:
            raise InputError(f"{name}, line {number}: parent bone {parent} is not known yet")
        for child in names:
            if child not in by_name:
                raise InputError(f"{name}, line {number}: bone {child} has no entry in :bonedata")
            position[child] = len(bones)
            bones.append(_bone(child, position[parent], by_name[child], scale, degrees, name))
    if len(bones) == 1:
        raise InputError(f"{name}: no bones; not an ASF skeleton, or truncated")
    return Skeleton(tuple(bones), scale, degrees)


def parse_amc(text: str, skeleton: Skeleton, name: str) -> dict[str, Array]:
    """Reads a motion.

    Args:
        text: content of the file.
        skeleton: that the motion is for.
        name: of the file, for messages.

    Returns:
        For each bone that has channels, (F, channels) numbers as they stand in the file.

    Raises:
        InputError: naming the file, the line and what is wrong there.
    """
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip().isdigit()), len(lines))
    block = 1
    while start + block < len(lines) and not lines[start + block].strip().isdigit():
        block += 1
    body = [line for line in lines[start:] if line.strip()]
    if len(body) < 2:
        raise InputError(f"{name}: no frames")
    layout = [line.split() for line in body[:block]]
    channels = {bone.name: bone.channels for bone in skeleton.bones}
    if len(body) % block == 0 and all(len(line) - 1 == len(channels.get(line[0], ())) for line in layout[1:]):
        try:
            return _parse_regular(body, layout)
        except ValueError:
            pass  # some line differs from the first frame's; find it
    raise InputError(_first_problem(lines, start, layout, channels, name))


def _parse_regular(body: list[str], layout: list[list[str]]) -> dict[str, Array]:
    """All frames at once, for a file in which every frame has the lines of the first; ValueError otherwise."""
    words = " ".join(body).split()
    width = sum(len(line) for line in layout)
    table = np.array(words).reshape(-1, width)
    motion: dict[str, Array] = {}
    column = 1
    for bone, *values in layout[1:]:
        if not (table[:, column] == bone).all():
            raise ValueError
        motion[bone] = table[:, column + 1 : column + 1 + len(values)].astype(np.float64)
        if not np.isfinite(motion[bone]).all():
            raise ValueError
        column += 1 + len(values)
    return motion


def _first_problem(
    lines: list[str], start: int, layout: list[list[str]], channels: dict[str, tuple[str, ...]], name: str
) -> str:
    """What is wrong with the first line that the fast parser could not take."""
    expected, row = [line[0] for line in layout[1:]], len(layout) - 1
    for number, line in enumerate(lines[start:], start=start + 1):
        words = line.split()
        if not words:
            continue
        if len(words) == 1 and words[0].isdigit():
            if row < len(expected):
                return f"{name}, line {number}: the frame before ends after {row} of {len(expected)} bones"
            row = 0
            continue
        bone = words[0]
        if bone not in channels:
            return f"{name}, line {number}: bone {bone} is not in the skeleton"
        if row >= len(expected) or bone != expected[row]:
            wanted = expected[row] if row < len(expected) else "a frame number"
            return f"{name}, line {number}: found {bone}, expected {wanted}"
        if len(words) - 1 != len(channels[bone]):
            return f"{name}, line {number}: {bone} has {len(words) - 1} numbers, expected {len(channels[bone])}"
        for word in words[1:]:
            try:
                finite = np.isfinite(float(word))
            except ValueError:
                finite = False
            if not finite:
                return f"{name}, line {number}: {word} is not a finite number"
        row += 1
    return f"{name}, line {len(lines)}: the file ends after {row} of {len(expected)} bones of a frame"


def _bone(child: str, parent: int, block: dict[str, str], scale: float, degrees: bool, name: str) -> Bone:
    line = int(block["line"])
    for key in ("direction", "length", "axis"):
        if key not in block:
            raise InputError(f"{name}, line {line}: bone {child} has no {key}")
    direction = np.array(_numbers(block["direction"], 3, name, line, f"direction of {child}"))
    length = _number(block["length"], name, line, f"length of {child}") * scale
    *angles, order = block["axis"].split()
    axis = _euler(_numbers(" ".join(angles), 3, name, line, f"axis of {child}"), order, degrees)
    return Bone(child, parent, direction * length, axis, tuple(block.get("dof", "").lower().split()))


def _number(word: str, name: str, line: int, what: str) -> float:
    return _numbers(word, 1, name, line, what)[0]


def _numbers(words: str, count: int, name: str, line: int, what: str) -> list[float]:
    try:
        values = [float(word) for word in words.split()]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        where = f"{name}, line {line}" if line else name
        raise InputError(f"{where}: {what} is `{words}`, expected {count} finite numbers")
    return values


def _euler(angles: list[float], order: str, degrees: bool) -> Array:
    """Rotation about the named axes one after the other, the first letter first."""
    matrix = np.eye(3)
    for letter, angle in zip(order.upper(), angles, strict=True):
        turn = np.radians(angle) if degrees else angle
        i, j = {"X": (1, 2), "Y": (2, 0), "Z": (0, 1)}[letter]
        step = np.eye(3)
        step[[i, j], [i, j]], step[j, i], step[i, j] = np.cos(turn), np.sin(turn), -np.sin(turn)
        matrix = step @ matrix
    return matrix
