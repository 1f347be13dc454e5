"""The BVH format: a tree of joints with offsets and channels, then a line of numbers for each frame.

Format: https://research.cs.wisc.edu/graphics/Courses/cs-838-1999/Jeff/BVH.html. A joint lies at its offset, or at its
position channels where it has them, in the frame of its parent, and is turned by its rotation channels from left to
right. An End Site is a joint without channels, called NAME.end after its parent.

Shape letters: F frames, J joints, C channels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation, Slerp

from noise2pose.errors import InputError


class Motion(NamedTuple):
    """What a file holds; lengths are in the unit of the file.

    Attributes:
        names: of J joints, parents before children.
        parents: index of each joint's parent, -1 for the root.
        places: (F, J, 3) of each joint in the frame of its parent.
        rotations: of each joint against its parent, F each.
        fps: frames per second, as the file says.
    """

    names: list[str]
    parents: list[int]
    places: Float[np.ndarray, "F J 3"]
    rotations: list[Rotation]
    fps: float


def parse(text: str, file: str) -> Motion:
    """Reads a file.

    Args:
        text: its content.
        file: its name, for messages.

    Raises:
        InputError: naming the file, and the line if there is one, and what is wrong there.
    """
    header, found, rest = text.partition("MOTION")
    if not found or "HIERARCHY" not in header:
        raise InputError(f"{file}: has no HIERARCHY and MOTION; not a BVH file, or truncated")
    names, parents, offsets, channels = _hierarchy(header, file)
    lines = [line.strip() for line in rest.strip().splitlines()]
    number, time = (_header_number(lines, row, word, file) for row, word in ((0, "Frames:"), (1, "Frame Time:")))
    if not (0.0 < time < float("inf")) or number < 1:
        raise InputError(f"{file}: Frames {number:g} and Frame Time {time:g}, expected more than 0")
    width = sum(map(len, channels))
    try:
        values = np.array(" ".join(lines[2:]).split(), dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{file}: something else than numbers in a frame ({error})") from None
    if len(values) != number * width or not np.isfinite(values).all():
        raise InputError(f"{file}: has {len(values)} finite numbers, expected {number:g} frames of {width}")
    values = values.reshape(-1, width)
    places = np.tile(np.array(offsets), (len(values), 1, 1))
    rotations, column = [], 0
    for joint, kinds in enumerate(channels):
        own = values[:, column : column + len(kinds)]
        column += len(kinds)
        turns = [(kind[0].upper(), own[:, place]) for place, kind in enumerate(kinds) if kind.endswith("rotation")]
        for place, kind in enumerate(kinds):
            if kind.endswith("position"):
                places[:, joint, "xyz".index(kind[0])] = own[:, place]
        rotations.append(_turned(turns, len(values)))
    return Motion(names, parents, places, rotations, 1.0 / time)


def _turned(turns: list[tuple[str, np.ndarray]], frames: int) -> Rotation:
    """The first turn is the outermost: each is about the axes that those before it have turned."""
    if not turns:
        return Rotation.from_quat(np.tile([0.0, 0.0, 0.0, 1.0], (frames, 1)))
    order = "".join(axis for axis, _ in turns)
    return Rotation.from_euler(order, np.stack([angles for _, angles in turns], axis=-1), degrees=True)


def _hierarchy(text: str, file: str) -> tuple[list[str], list[int], list[list[float]], list[list[str]]]:
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[str]] = []
    above: list[int] = []  # joints whose braces are open
    for place, words in _lines(text, file):
        keyword = words[0].lower()
        if keyword in ("root", "joint", "end"):
            if not above and names:
                raise InputError(f"{place}: a second root {words[-1]}; a file holds one person")
            name = f"{names[above[-1]]}.end" if keyword == "end" and above else " ".join(words[1:])
            names.append(name)
            parents.append(above[-1] if above else -1)
            offsets.append([0.0, 0.0, 0.0])
            channels.append([])
        elif keyword == "{":
            above.append(len(names) - 1)
        elif keyword == "}":
            if not above:
                raise InputError(f"{place}: a brace closes nothing")
            above.pop()
        elif keyword == "offset":
            offsets[-1] = _three(words[1:], place)
        elif keyword == "channels":
            kinds = [word.lower() for word in words[2:]]
            known = all(kind[1:] in ("position", "rotation") and kind[0] in "xyz" for kind in kinds)
            if not known or words[1:2] != [str(len(kinds))] or len(set(kinds)) != len(kinds):
                raise InputError(f"{place}: found {' '.join(words)[:60]!r}, expected a number and so many channels")
            channels[-1] = kinds
    if not names or above:
        raise InputError(f"{file}: its HIERARCHY has no joints, or does not end")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{file}: two joints are called {twice}")
    return names, parents, offsets, channels


def _lines(text: str, file: str) -> Iterator[tuple[str, list[str]]]:
    """Words of each line, and where it is; braces are lines of their own."""
    for row, line in enumerate(text.splitlines(), start=1):
        for part in line.replace("{", "\n{\n").replace("}", "\n}\n").splitlines():
            if words := part.split():
                if words[0].lower() != "hierarchy":
                    yield f"{file}, line {row}", words


def _three(words: list[str], place: str) -> list[float]:
    try:
        x, y, z = map(float, words)
    except ValueError:
        raise InputError(f"{place}: found OFFSET {' '.join(words)[:60]}, expected 3 numbers") from None
    return [x, y, z]


def _header_number(lines: list[str], row: int, word: str, file: str) -> float:
    try:
        keyword, _, number = lines[row].rpartition(":")
        if keyword.lower() + ":" != word.lower():
            raise ValueError
        return float(number)
    except (IndexError, ValueError):
        raise InputError(f"{file}: found no {word} after MOTION") from None


def resampled(motion: Motion, source_fps: float, target_fps: float) -> Motion:
    """Rotations by spherical and places by linear interpolation, so that bones keep their length."""
    frames = np.arange(len(motion.places))
    if len(frames) < 2:
        return motion._replace(fps=target_fps)
    count = int(frames[-1] * target_fps / source_fps + 1e-9) + 1
    time = np.minimum(np.arange(count) * (source_fps / target_fps), frames[-1])
    before = np.minimum(time.astype(int), len(frames) - 2)
    share = (time - before)[:, None, None]
    places = (1.0 - share) * motion.places[before] + share * motion.places[before + 1]
    return motion._replace(
        places=places, rotations=[Slerp(frames, own)(time) for own in motion.rotations], fps=target_fps
    )


def forward_kinematics(motion: Motion) -> Float[np.ndarray, "F J 3"]:
    """Where every joint is, in the world and the unit of the file."""
    joints = np.empty_like(motion.places)
    turned: list[Rotation] = []
    for joint, parent in enumerate(motion.parents):
        own, here = motion.rotations[joint], motion.places[:, joint]
        turned.append(own if parent < 0 else turned[parent] * own)
        joints[:, joint] = here if parent < 0 else joints[:, parent] + turned[parent].apply(here)
    return joints
