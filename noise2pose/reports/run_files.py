"""Reads and checks the files of a run's folder; errors name the broken file.

Shape letters: S samples, J joints, T points of a curve.
"""

import csv
import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noise2pose.errors import InputError
from noise2pose.metrics.keys import main_error
from noise2pose.metrics.protocols import Protocol


@dataclass(frozen=True)
class Samples:
    """A few tested samples.

    Attributes:
        sample_id: (S,) names.
        keypoints_2d: (S, J, 3) pixels and confidence.
        target: (S, J, 3) metres in the camera frame.
        prediction: (S, J, 3) metres in the camera frame.
        image_size: (S, 2) pixels.
        skeleton: name in `noise2pose.skeletons`.
    """

    sample_id: list[str]
    keypoints_2d: np.ndarray
    target: np.ndarray
    prediction: np.ndarray
    image_size: np.ndarray
    skeleton: str


def read_json(path: Path, types: dict[str, type]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: holds a {type(record).__name__}, expected an object")
    check_types(record, types, str(path))
    return record


def check_types(record: dict[str, Any], types: dict[str, type], where: str) -> None:
    for key, kind in types.items():
        if key not in record:
            raise InputError(f"{where}: {key} is missing")
        if not is_a(record[key], kind):
            raise InputError(f"{where}: {key} is {record[key]!r}, expected {kind.__name__}")


def is_a(value: Any, kind: type) -> bool:
    accepted = (int, float) if kind is float else kind
    return isinstance(value, accepted) and not isinstance(value, bool)


def read_curves(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    if not path.exists():
        return {}
    curves: dict[str, dict[int, float]] = {}
    line = 1
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if "step" not in (reader.fieldnames or []):
                raise InputError(f"{path}: no column step in its first line, expected the log of a training")
            keys = [key for key in reader.fieldnames or [] if re.fullmatch(f"val/[^/]+/{main_error(3).name}", key)]
            for row in reader:
                line = reader.line_num
                if None in row or None in row.values():
                    raise ValueError("expected as many cells as in the first line")
                for key in keys:
                    if row[key]:  # a step logged twice, by a resumed run, counts once
                        curves.setdefault(key.split("/")[1], {})[int(row["step"])] = float(row[key])
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: line {line} is broken ({error})") from error
    return {
        name: (np.array(sorted(curve)), np.array([curve[step] for step in sorted(curve)]))
        for name, curve in curves.items()
    }


def read_samples(path: Path) -> Samples | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        samples = Samples(
            sample_id=[str(name) for name in arrays["sample_id"]],
            keypoints_2d=arrays["keypoints_2d"].astype(float),
            target=arrays["target"].astype(float),
            prediction=arrays["prediction"].astype(float),
            image_size=arrays["image_size"].astype(float),
            skeleton=str(arrays["skeleton"]),
        )
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]} is missing") from error
    except (OSError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not readable as an npz file ({error})") from error
    shape = (len(samples.sample_id), *samples.target.shape[1:2], 3)
    for key in ("keypoints_2d", "target", "prediction"):
        if getattr(samples, key).shape != shape:
            raise InputError(f"{path}: {key} has shape {getattr(samples, key).shape}, expected {shape}")
    if samples.image_size.shape != (shape[0], 2):
        raise InputError(f"{path}: image_size has shape {samples.image_size.shape}, expected {(shape[0], 2)}")
    if not np.isfinite(samples.target).all():
        raise InputError(f"{path}: target holds values that are not finite")
    return samples


def check_groups(groups: Any, where: str) -> None:
    try:
        for table in groups.values():
            check_types(table, {"of": str, "metrics": dict}, where)
            for values in table["metrics"].values():
                check_types(values, {"values": dict, "mean_of_groups": float, "mean_over_poses": float}, where)
                if not all(is_a(value, float) for value in values["values"].values()):
                    raise InputError(f"{where}: values are {values['values']!r}, expected numbers")
    except (AttributeError, TypeError) as error:
        raise InputError(f"{where}: hold no tables ({error})") from error


def check_fit(samples: Samples, protocol: Protocol, path: Path) -> None:
    if samples.skeleton != protocol.skeleton:
        raise InputError(f"{path}: skeleton is {samples.skeleton}, but {protocol.skeleton} in test.json beside it")
    number = samples.target.shape[1]
    for joint in (protocol.root, *(protocol.joints or ())):
        if not (is_a(joint, int) and 0 <= joint < number):
            raise InputError(f"{path}: {number} joints, but the protocol in test.json beside it names joint {joint!r}")
