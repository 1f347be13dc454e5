"""Boxes of people in Human3.6M from the masks of its backgrounds.

Shape letters: N frames.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from noise2pose.errors import InputError

FOLDERS = ("ground_truth_bb", "ground_truth_bs")  # boxes, and silhouettes, whose boxes are tighter


def mask_bounds(path: Path, frames: Sequence[int], keypoint_bounds: np.ndarray) -> np.ndarray:
    """The box of each frame's mask: x0, y0, x1, y1, where x1 and y1 are the pixels' far sides; NaN without a mask.

    MATLAB writes columns first, so a mask of H x W is read as (W, H). Where a file has been written the other way
    round the boxes are mirrored along the diagonal: far from the joints, so they are turned back.

    Args:
        path: `.mat` file with `Masks`, references to a mask for each frame of the video.
        frames: the wanted ones.
        keypoint_bounds: (N, 4) boxes of the joints in the same frames.

    Returns:
        (N, 4) float32.

    Raises:
        InputError: if it is broken or holds something else.
    """
    boxes = np.full((len(frames), 4), np.nan, np.float32)
    try:
        with h5py.File(path) as file:
            masks: Any = file["Masks"]
            stacked = masks.ndim == 3  # (F, W, H): all in one array
            references = masks if stacked else masks[()].reshape(-1)
            for row, frame in enumerate(frames):
                if frame < len(references):
                    reference: Any = references[frame]
                    mask = np.asarray(reference if stacked else file[reference])
                    boxes[row] = _box(mask.T)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise InputError(f"{path}: cannot be read as masks ({error})") from None
    swapped = boxes[:, [1, 0, 3, 2]]
    return swapped if 2.0 * _distance(swapped, keypoint_bounds) < _distance(boxes, keypoint_bounds) else boxes


def _box(mask: np.ndarray) -> np.ndarray:
    """The box of a mask (H, W)."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return np.full(4, np.nan, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def _distance(boxes: np.ndarray, others: np.ndarray) -> float:
    return float(np.nansum(np.abs(boxes - others)))
