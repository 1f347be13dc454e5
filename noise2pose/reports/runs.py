"""Reads what a run left behind: one folder with its configuration, curves and test results; errors name a broken file.

Shape letters: S samples, J joints, T points of a curve.
"""

import json
import re
import shlex
import zipfile
import zlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from noise2pose.errors import InputError
from noise2pose.metrics.keys import CALIBRATION, ORACLE, main_error, oracle_key
from noise2pose.metrics.protocols import Protocol
from noise2pose.reports.curves import LOSSES, Curve, read_curves
from noise2pose.reports.options import first_stage_epochs, read_configuration

_FILES = ("config.yaml", "metrics.csv", "fit.json", "test.json")
_FIT = {"seconds": float, "steps": int, "parameters": int, "device": str, "command": str}
_TEST = {
    "method": str,
    "protocols": list,
    "num_steps": int,
    "parameters": int,
    "poses_per_second": float,
    "device": str,
    "command": str,
    "metrics": dict,
}


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
    """One run; parts that the run has not written yet are empty.

    Attributes:
        folder: where it is.
        fit: `fit.json`, empty if the run was not trained here.
        test: `test.json`, empty if the run has not been tested.
        protocols: of the evaluation sets that it was tested on.
        curves: of its training, by data set of the validation (`LOSSES` for losses) and metric.
        samples: `test_samples.npz`.
        label: its name in a report; empty for the name of the folder.
    """

    folder: Path
    fit: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)
    protocols: tuple[Protocol, ...] = ()
    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    samples: Samples | None = None
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.folder.resolve().name

    @cached_property
    def method(self) -> str:
        """The method's title, or its class if only the configuration has been written."""
        title = self.test.get("method") or self.fit.get("method")
        if isinstance(title, str):
            return title
        config = read_configuration(self.folder / "config.yaml")
        return str(config["model"]["class_path"]).rpartition(".")[2] if config else "unknown method"

    @property
    def protocol(self) -> Protocol:
        """What its test numbers mean; only a tested run has one."""
        return self.protocols[0]

    def evaluation_sets(self) -> list["Run"]:
        """For each set that it was tested on, this run with the results of that set alone; none if not tested.

        Only the first set has samples and sparsification.
        """
        if len(self.protocols) < 2:
            return [self] if self.test else []
        return [
            replace(
                self,
                test={**self.test, "calibration": {} if number else self.test.get("calibration")},
                protocols=(protocol,),
                curves={name: found for name, found in self.curves.items() if name in (protocol.dataset, LOSSES)},
                samples=None if number else self.samples,
            )
            for number, protocol in enumerate(self.protocols)
        ]

    @property
    def parameters(self) -> int | None:
        return self.test.get("parameters", self.fit.get("parameters"))

    def metric(self, name: str) -> float | None:
        """A deployable test metric by its key, such as `mpjpe`."""
        return self.metrics().get(name)

    def metrics(self) -> dict[str, float]:
        """Every deployable test metric by its key; none that was chosen with the ground truth."""
        return {name: value for name, value in self._tested().items() if "/" not in name}

    def calibration(self) -> dict[str, float]:
        """How well the spread of the hypotheses tells their error, by key; empty for a method with one answer."""
        tested = self._tested()
        return {key.name: tested[key.name] for key in CALIBRATION if key.name in tested}

    def sparsification(self) -> dict[str, list[float]]:
        """`removed` per cent, `error` and `oracle_error` in mm, see `metrics.calibration`; empty if not recorded."""
        found = self.test.get("calibration") or {}
        return {name: found[name] for name in ("removed", "error", "oracle_error") if found}

    def by_group(self) -> dict[str, Any]:
        """Its errors by action or sequence, with both averages; empty if none were recorded."""
        return (self.test.get("groups") or {}).get(self.protocol.dataset) or {}

    def people(self) -> dict[str, float]:
        """Its main error of each person; empty if it was not recorded."""
        return (self.test.get("per_person") or {}).get(self.protocol.dataset) or {}

    def joints(self) -> dict[str, float]:
        """Its MPJPE of each joint that counts, in millimetres; empty if it was not recorded."""
        return (self.test.get("per_joint") or {}).get(self.protocol.dataset) or {}

    @property
    def seed(self) -> int | None:
        """Of its training, or of its test if it was not trained in this folder."""
        return self.fit.get("seed", self.test.get("seed"))

    def oracle(self) -> dict[str, tuple[float, float | None]]:
        """The error of each choice made with the ground truth, and of its null control."""
        error, found = main_error(3).name, {}
        for name, value in self._tested().items():
            if match := re.fullmatch(oracle_key("(.+)", error), name):
                found[match[1]] = value
            elif name == f"{ORACLE}{error}":  # of a method that needs the ground truth to answer at all
                found["answer"] = value
        return {name: (found[name], found.get(f"{name}_null")) for name in found if not name.endswith("_null")}

    @property
    def test_command(self) -> str:
        """The command that tests it, after the one that trains it if it has no checkpoint."""
        path = self.folder / "config.yaml"
        config = shlex.quote(path.as_posix())
        kept = [name for name in ("best", "last") if (self.folder / "checkpoints" / f"{name}.ckpt").is_file()]
        root = read_configuration(path).get("trainer", {}).get("default_root_dir")
        if root is not None and Path(root).resolve() != self.folder.resolve():  # the folder was moved or copied
            config += f" --trainer.default_root_dir {shlex.quote(self.folder.as_posix())}"
        test = f"noise2pose train test -c {config} --ckpt_path {kept[0] if kept else 'best'}"
        return test if kept else f"noise2pose train fit -c {config} && {test}"

    def _tested(self) -> dict[str, float]:
        """The test metrics of the first evaluation set, by key."""
        prefix = f"test/{self.protocol.dataset}/" if self.test else ""
        found = self.test.get("metrics", {})
        return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


def load_run(path: Path | str) -> Run:
    """Reads a run.

    Args:
        path: its folder, or its name below `runs/`.

    Raises:
        InputError: if there is no such run, or one of its files is broken; the file is named.
    """
    folder = _find(Path(path))
    test = _read_json(folder / "test.json", _TEST)
    protocols = _protocols(test, folder / "test.json") if test else ()
    samples = _read_samples(folder / "test_samples.npz", protocols[0]) if protocols else None
    return Run(
        folder=folder,
        fit=_read_json(folder / "fit.json", _FIT),
        test=test,
        protocols=protocols,
        curves=read_curves(folder / "metrics.csv", first_stage_epochs(folder / "config.yaml")),
        samples=samples,
    )


def _protocols(test: dict[str, Any], path: Path) -> tuple[Protocol, ...]:
    """The protocols of a test; the metrics of the first must be there."""
    try:
        protocols = tuple(Protocol.from_dict(record) for record in test["protocols"])
    except InputError as error:
        raise InputError(f"{path}: protocols: {error}") from error
    if not protocols:
        raise InputError(f"{path}: protocols is empty")
    for key, value in test["metrics"].items():
        if not _is_a(value, float):
            raise InputError(f"{path}: metric {key} is {value!r}, expected a number")
    for key in ("per_person", "per_joint"):
        _check_tables(test.get(key) or {}, f"{path}: {key}")
    prefix = f"test/{protocols[0].dataset}/"
    error = prefix + main_error(protocols[0].dimensions).name
    if error not in test["metrics"] and not any(key.startswith(prefix + ORACLE) for key in test["metrics"]):
        raise InputError(f"{path}: metrics lack {error}")
    return protocols


def _check_tables(tables: Any, what: str) -> None:
    """Refuses what is not a number for each name, for each data set."""
    of_sets = tables.values() if isinstance(tables, dict) else [None]
    if not all(isinstance(table, dict) and all(_is_a(v, float) for v in table.values()) for table in of_sets):
        raise InputError(f"{what} is not a number for each name, for each data set")


def run_folder(path: Path) -> Path | None:
    """The folder of a run by its path, or by its name below `runs/`; None if it holds no run."""
    folders = (path, Path("runs") / path)
    return next((folder for folder in folders if any((folder / name).is_file() for name in _FILES)), None)


def _find(path: Path) -> Path:
    if folder := run_folder(path):
        return folder
    if path.is_dir():
        raise InputError(f"{path}: not the folder of a run (it holds none of {', '.join(_FILES)})")
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
    for key, kind in types.items():
        if key not in record:
            raise InputError(f"{path}: {key} is missing")
        if not _is_a(record[key], kind):
            raise InputError(f"{path}: {key} is {record[key]!r}, expected {kind.__name__}")
    return record


def _is_a(value: Any, kind: type) -> bool:
    accepted = (int, float) if kind is float else kind
    return isinstance(value, accepted) and not isinstance(value, bool)


def _read_samples(path: Path, protocol: Protocol) -> Samples | None:
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
    if samples.skeleton != protocol.skeleton:
        raise InputError(f"{path}: skeleton is {samples.skeleton}, but {protocol.skeleton} in test.json beside it")
    for joint in (protocol.root, *(protocol.joints or ())):
        if not (_is_a(joint, int) and 0 <= joint < shape[1]):
            raise InputError(
                f"{path}: {shape[1]} joints, but the protocol in test.json beside it names joint {joint!r}"
            )
    return samples
