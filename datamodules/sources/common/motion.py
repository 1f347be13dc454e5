"""Clips of joints in the world as rows of a prepared folder, without tracking errors.

Shape letters: F frames, J joints.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from datamodules.preparation import Rows
from noise2pose.errors import InputError

FPS = 50  # of every prepared motion
MAX_SPEED = 14.0  # metres per second; no joint of a person is faster, so faster steps are tracking errors
MARGIN = 3  # frames on both sides of a tracking error that are cut with it
MIN_FRAMES = 25


def cut_clip(name: str, arrays: dict[str, np.ndarray], about: dict[str, Any], file: str, fps: float = FPS) -> Rows:
    """The rows of a clip; where its tracking fails it becomes several sequences, NAME#0, NAME#1, ...

    Args:
        name: of the clip.
        arrays: columns of F rows; `joints_world` (F, 17, 3) in metres has NaN where a joint is not known.
        about: facts of the clip, such as subject and action.
        file: that it is read from, for the message.
        fps: frames per second.

    Raises:
        InputError: if no stretch is long enough.
    """
    joints = arrays["joints_world"]
    segments = usable_segments(joints, fps)
    if not segments:
        raise InputError(f"{file}: no {MIN_FRAMES} frames in a row are usable, of {len(joints)} at {fps:g} fps")
    kept = np.concatenate([np.arange(first, behind) for first, behind in segments])
    names = [name] if len(segments) == 1 else [f"{name}#{number}" for number in range(len(segments))]
    return Rows(
        arrays={column: values[kept] for column, values in arrays.items()} | {"frame": kept},
        sequences=[{"name": segment, **about} for segment in names],
        of=np.repeat(np.arange(len(segments)), [behind - first for first, behind in segments]),
        images=[],
        counts={"segments": len(segments), "frames cut as tracking errors": len(joints) - len(kept)},
        skipped=[],
    )


def usable_segments(joints: Float[np.ndarray, "F J 3"], fps: float = FPS) -> list[tuple[int, int]]:
    """[start, stop) of the stretches without tracking errors that are long enough to be of use.

    The two frames of a step in which a joint exceeds `MAX_SPEED`, or is not known, are cut with `MARGIN` frames on both
    sides, then stretches of fewer than `MIN_FRAMES`.
    """
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(axis=-1, initial=0.0) * fps
    segments, first = [], 0
    for step in [*np.flatnonzero(~(speed <= MAX_SPEED)).tolist(), len(joints) + MARGIN]:
        last = step - MARGIN
        if last - first >= MIN_FRAMES:
            segments.append((first, last))
        first = step + MARGIN + 2
    return segments
