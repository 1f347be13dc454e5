"""Reads `metrics.csv` of a run: every error of its validations, and its losses, over training steps."""

import csv
import re
from pathlib import Path

import numpy as np

from noise2pose.errors import InputError
from noise2pose.metrics.keys import CALIBRATION, FIRST_STAGE, POSE_ERRORS

LOSSES = ""  # the data set of the losses of the training
_DRAWN = "|".join(re.escape(key.name) for key in (*POSE_ERRORS, *CALIBRATION))
_VALIDATION = re.compile(rf"val/([^/]+)/({_DRAWN})")  # numbers that need the ground truth to choose are not among them
_TRAINING = re.compile("train/()([^/]+)")

Curve = tuple[np.ndarray, np.ndarray]  # (T,) training steps and (T,) values


def read_curves(path: Path, left_out: int = 0) -> dict[str, dict[str, Curve]]:
    """The curves of a run, by data set and metric; a file that is missing has none.

    Args:
        path: `metrics.csv`.
        left_out: first epochs that trained another part of the method, for runs that recorded the errors of both under
            one key.

    Raises:
        InputError: if the file is broken; the line is named.
    """
    if not path.exists():
        return {}
    curves: dict[tuple[str, str], dict[int, float]] = {}
    line = 1
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if "step" not in header:
                raise InputError(f"{path}: no column step in its first line, expected the log of a training")
            step, epoch = header.index("step"), header.index("epoch") if "epoch" in header else None
            found = {i: match for i, key in enumerate(header) if (match := _matched(key))}
            if any(f"/{FIRST_STAGE}" in key for key in header):
                left_out = 0
            for row in reader:
                line = reader.line_num
                if len(row) != len(header):
                    raise ValueError("expected as many cells as in the first line")
                early = left_out and epoch is not None and int(row[epoch] or 0) < left_out
                for i, name in found.items():
                    if row[i] and not (early and name[0] != LOSSES):
                        # A step logged twice, by a resumed run, counts once.
                        curves.setdefault(name, {})[int(row[step])] = float(row[i])
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: line {line} is broken ({error})") from error
    joined: dict[str, dict[str, Curve]] = {}
    for (dataset, metric), curve in curves.items():
        steps = sorted(curve)
        joined.setdefault(dataset, {})[metric] = (np.array(steps), np.array([curve[step] for step in steps]))
    return joined


def _matched(key: str) -> tuple[str, str] | None:
    match = _VALIDATION.fullmatch(key) or _TRAINING.fullmatch(key)
    return (match[1], match[2]) if match else None
