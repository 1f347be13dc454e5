"""Text files of YOLO-pose: one line a person, as shares of the width and height of the image.

Shape letters: J joints.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints.entries import Entry
from noise2pose.keypoints.formats import People

TITLE = "YOLO-pose"
_BOX = 5  # numbers of the class and the box


def read_yolo(path: Path) -> People:
    """One line a person: class, box (4), joints, and where they were saved a confidence and the number of a track.

    Raises:
        InputError: if a line is not of numbers, or of another number of them.
    """
    image = path.stem
    entries, skipped = [], Counter[str]()
    try:
        lines = [[float(word) for word in line.split()] for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is no keypoint file: a .txt is read as YOLO-pose, whose lines are numbers (class, box and 3 for "
            f"each joint), and this one is not ({error})"
        ) from error
    for row, values in enumerate(filter(None, lines)):
        if len(values) == _BOX:
            skipped["without keypoints"] += 1
            continue
        joints, extra = _columns(path, row, len(values) - _BOX)
        if values[0] != 0:
            skipped["of other classes than 0, the person"] += 1
            continue
        points = np.array(values[_BOX : len(values) - extra]).reshape(joints, -1)
        entries.append(
            Entry(
                f"{path}: line {row + 1}",
                points,
                image,
                labelled=points.shape[1] == 3 and bool(np.isin(points[:, 2], (0, 1, 2)).all()),
                person=str(int(values[-1])) if extra == 2 else None,
            )
        )
    return People(entries, skipped)


def _columns(path: Path, row: int, numbers: int) -> tuple[int, int]:
    """How many joints a line has, and how many numbers follow them."""
    sizes = sorted(
        {skeleton.num_joints for skeleton in skeletons.SKELETONS.values()}, key=lambda size: (size != 17, size)
    )
    for columns in (3, 2):
        for joints in sizes:
            if 0 <= numbers - columns * joints <= 2:
                return joints, numbers - columns * joints
    raise InputError(
        f"{path}: line {row + 1} has {numbers + _BOX} numbers, expected a class, a box and 3 for each joint"
    )
