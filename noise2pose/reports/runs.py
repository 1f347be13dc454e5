"""Reads what a run left behind: the folder written by `scripts/train.py`.

Shape letters: S samples, J joints, T points of a curve.
"""

import csv
import json
import re
import shlex
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from noise2pose.errors import InputError

_FILES = ("config.yaml", "metrics.csv", "fit.json", "test.json")
_FIT = {"seconds": float, "steps": int, "parameters": int, "device": str, "command": str}
_TEST = {
    "method": str,
    "dataset": str,
    "protocol": dict,
    "steps": int,
    "parameters": int,
    "poses_per_second": float,
    "device": str,
    "command": str,
    "metrics": dict,
}
_PROTOCOL = {
    "name": str,
    "dataset": str,
    "split": str,
    "skeleton": str,
    "root": int,
    "keypoints_2d": str,
    "alignment": str,
    "units": str,
    "num_hypotheses": int,
}
_ORACLE = re.compile(r"oracle/(?P<choice>.+)/mpjpe")


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


@dataclass(frozen=True)
class Run:
    """One run; a part that the run has not written (yet) is empty.

    Attributes:
        folder: where it is.
        fit: `fit.json`, empty if the run was not trained here.
        test: `test.json`, empty if the run has not been tested.
        curves: validation MPJPE in millimetres of each data set: (T,) training steps and (T,) values.
        samples: `test_samples.npz`.
    """

    folder: Path
    fit: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    samples: Samples | None = None

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @cached_property
    def method(self) -> str:
        """What the method calls itself, or its class when nothing but the configuration has been written."""
        title = self.test.get("method") or self.fit.get("method")
        return title if isinstance(title, str) else _class_name(self.folder / "config.yaml")

    @property
    def protocol(self) -> dict[str, Any]:
        """What its test numbers mean; empty if it has not been tested."""
        return self.test.get("protocol", {})

    @property
    def parameters(self) -> int | None:
        return self.test.get("parameters", self.fit.get("parameters"))

    def metric(self, name: str) -> float | None:
        """A deployable test metric by its last name, such as `mpjpe`."""
        return self.metrics().get(name)

    def metrics(self) -> dict[str, float]:
        """Every deployable test metric by its last name; never one that was chosen with the ground truth."""
        prefix = f"test/{self.test.get('dataset')}/"
        found = {key.removeprefix(prefix): value for key, value in self._tested().items() if key.startswith(prefix)}
        return {name: value for name, value in found.items() if "/" not in name}

    def calibration(self) -> dict[str, float]:
        """What the spread of the hypotheses says of their error, by last name; empty for a method with one answer."""
        prefix = f"test/{self.test.get('dataset')}/calibration/"
        return {key.removeprefix(prefix): value for key, value in self._tested().items() if key.startswith(prefix)}

    def sparsification(self) -> dict[str, list[float]]:
        """`removed` per cent, `error` and `oracle_error` in mm, see `metrics.calibration`; empty if not recorded."""
        found = self.test.get("calibration") or {}
        curve = {name: found.get(name) for name in ("removed", "error", "oracle_error")}
        for name, values in curve.items():
            if found and not (isinstance(values, list) and values and all(_is(value, float) for value in values)):
                raise InputError(f"{self.folder / 'test.json'}: calibration: {name} is {values!r}, expected numbers")
        if found and len({len(values or []) for values in curve.values()}) > 1:
            raise InputError(f"{self.folder / 'test.json'}: calibration: curves of different lengths")
        return {name: values for name, values in curve.items() if values}

    def oracle(self) -> dict[str, tuple[float, float | None]]:
        """MPJPE of each choice made with the ground truth, and of its null control."""
        prefix = f"test/{self.test.get('dataset')}/"
        found = {}
        for key, value in self._tested().items():
            if match := _ORACLE.fullmatch(key.removeprefix(prefix)):
                found[match["choice"]] = value
            elif key == f"{prefix}oracle/mpjpe":  # of a method that looks at the ground truth to answer at all
                found["answer"] = value
        return {name: (found[name], found.get(f"{name}_null")) for name in found if not name.endswith("_null")}

    @property
    def test_command(self) -> str:
        """What to type to test it."""
        config = shlex.quote(f"{self.folder.as_posix()}/config.yaml")
        return f"python scripts/train.py test -c {config} --ckpt_path best"

    def _tested(self) -> dict[str, float]:
        return self.test.get("metrics", {})


def load_run(path: Path | str) -> Run:
    """Reads a run.

    Args:
        path: its folder, or its name below `runs/`.

    Raises:
        InputError: if there is no such run, or one of its files is broken; the file is named.
    """
    folder = _find(Path(path))
    test = _read_json(folder / "test.json", _TEST)
    if test:
        _check_types(test["protocol"], _PROTOCOL, f"{folder / 'test.json'}: protocol")
        for key, value in test["metrics"].items():
            if not _is(value, float):
                raise InputError(f"{folder / 'test.json'}: metric {key} is {value!r}, expected a number")
        if f"test/{test['dataset']}/mpjpe" not in test["metrics"]:
            raise InputError(f"{folder / 'test.json'}: metrics lack test/{test['dataset']}/mpjpe")
    samples = _read_samples(folder / "test_samples.npz") if test else None
    if samples:
        _check_fit(samples, test["protocol"], folder / "test_samples.npz")
    return Run(
        folder=folder,
        fit=_read_json(folder / "fit.json", _FIT),
        test=test,
        curves=_read_curves(folder / "metrics.csv"),
        samples=samples,
    )


def _find(path: Path) -> Path:
    for folder in (path, Path("runs") / path):
        if any((folder / name).is_file() for name in _FILES):
            return folder
    if path.is_dir():
        raise InputError(f"{path}: not a run of scripts/train.py (it holds none of {', '.join(_FILES)})")
    known = sorted(child.name for child in Path("runs").glob("*") if child.is_dir())
    hint = f"runs/ holds {', '.join(known)}" if known else "expected its folder, or its name below runs/"
    raise InputError(f"{path}: no such run; {hint}")


def _read_json(path: Path, types: dict[str, type]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: holds a {type(record).__name__}, expected an object")
    _check_types(record, types, str(path))
    return record


def _check_types(record: dict[str, Any], types: dict[str, type], where: str) -> None:
    for key, kind in types.items():
        if key not in record:
            raise InputError(f"{where}: {key} is missing")
        if not _is(record[key], kind):
            raise InputError(f"{where}: {key} is {record[key]!r}, expected {kind.__name__}")


def _is(value: Any, kind: type) -> bool:
    accepted = (int, float) if kind is float else kind
    return isinstance(value, accepted) and not isinstance(value, bool)


def _read_curves(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    if not path.exists():
        return {}
    curves: dict[str, dict[int, float]] = {}
    line = 1
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if "step" not in (reader.fieldnames or []):
                raise InputError(f"{path}: no column step in its first line, expected a log of scripts/train.py")
            keys = [key for key in reader.fieldnames or [] if re.fullmatch(r"val/[^/]+/mpjpe", key)]
            for row in reader:
                line = reader.line_num
                if None in row or None in row.values():
                    raise ValueError("as many cells as the first line has were expected")
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


def _read_samples(path: Path) -> Samples | None:
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


def _check_fit(samples: Samples, protocol: dict[str, Any], path: Path) -> None:
    if samples.skeleton != protocol["skeleton"]:
        raise InputError(f"{path}: skeleton is {samples.skeleton}, but {protocol['skeleton']} in test.json beside it")
    number = samples.target.shape[1]
    for joint in (protocol["root"], *(protocol.get("joints") or ())):
        if not (_is(joint, int) and 0 <= joint < number):
            raise InputError(f"{path}: {number} joints, but the protocol in test.json beside it names joint {joint!r}")


def _class_name(path: Path) -> str:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        return str(config["model"]["class_path"]).rpartition(".")[2]
    except FileNotFoundError:
        return "unknown method"
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{path}: names no method at model.class_path ({error!r})") from error
