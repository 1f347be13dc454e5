"""Reads what a run left behind: one folder with its configuration, curves and test results.

Shape letters: S samples, J joints, T points of a curve.
"""

import re
import shlex
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from noise2pose.errors import InputError
from noise2pose.metrics.keys import CALIBRATION, ORACLE, main_error, oracle_key
from noise2pose.metrics.protocols import Protocol
from noise2pose.reports.run_files import (
    Samples,
    check_fit,
    check_groups,
    check_types,
    is_a,
    read_curves,
    read_json,
    read_samples,
)

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


@dataclass(frozen=True)
class Run:
    """One run; parts that the run has not written yet are empty.

    Attributes:
        folder: where it is.
        fit: `fit.json`, empty if the run was not trained here.
        test: `test.json`, empty if the run has not been tested.
        protocols: of the evaluation sets that it was tested on.
        curves: validation MPJPE in millimetres of each data set: (T,) training steps and (T,) values.
        samples: `test_samples.npz`.
    """

    folder: Path
    fit: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)
    protocols: tuple[Protocol, ...] = ()
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    samples: Samples | None = None

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @cached_property
    def method(self) -> str:
        """The method's title, or its class if only the configuration has been written."""
        title = self.test.get("method") or self.fit.get("method")
        return title if isinstance(title, str) else _class_name(self.folder / "config.yaml")

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
                curves={name: curve for name, curve in self.curves.items() if name == protocol.dataset},
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
        curve = {name: found.get(name) for name in ("removed", "error", "oracle_error")}
        for name, values in curve.items():
            if found and not (isinstance(values, list) and values and all(is_a(value, float) for value in values)):
                raise InputError(f"{self.folder / 'test.json'}: calibration: {name} is {values!r}, expected numbers")
        if found and len({len(values or []) for values in curve.values()}) > 1:
            raise InputError(f"{self.folder / 'test.json'}: calibration: curves of different lengths")
        return {name: values for name, values in curve.items() if values}

    def by_group(self) -> dict[str, Any]:
        """Its errors by action or sequence, with both averages; empty if none were recorded."""
        return (self.test.get("groups") or {}).get(self.protocol.dataset) or {}

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
        """The command that tests it."""
        config = shlex.quote(f"{self.folder.as_posix()}/config.yaml")
        return f"noise2pose train test -c {config} --ckpt_path best"

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
    test = read_json(folder / "test.json", _TEST)
    protocols = _check_test(test, folder / "test.json") if test else ()
    samples = read_samples(folder / "test_samples.npz") if test else None
    if samples and protocols:
        check_fit(samples, protocols[0], folder / "test_samples.npz")
    return Run(
        folder=folder,
        fit=read_json(folder / "fit.json", _FIT),
        test=test,
        protocols=protocols,
        curves=read_curves(folder / "metrics.csv"),
        samples=samples,
    )


def _check_test(test: dict[str, Any], path: Path) -> tuple[Protocol, ...]:
    """Checks what was tested and returns the protocols."""
    protocols = []
    for record in test["protocols"]:
        try:
            check_types(record, _PROTOCOL, f"{path}: protocol")
            protocols.append(Protocol.from_dict(record))
        except (InputError, TypeError) as error:
            raise InputError(f"{path}: protocols: {error}") from error
    if not protocols:
        raise InputError(f"{path}: protocols is empty")
    for key, value in test["metrics"].items():
        if not is_a(value, float):
            raise InputError(f"{path}: metric {key} is {value!r}, expected a number")
    prefix = f"test/{protocols[0].dataset}/"
    error = prefix + main_error(protocols[0].dimensions).name
    if error not in test["metrics"] and not any(key.startswith(prefix + ORACLE) for key in test["metrics"]):
        raise InputError(f"{path}: metrics lack {error}")
    check_groups(test.get("groups") or {}, f"{path}: groups")
    return tuple(protocols)


def _find(path: Path) -> Path:
    for folder in (path, Path("runs") / path):
        if any((folder / name).is_file() for name in _FILES):
            return folder
    if path.is_dir():
        raise InputError(f"{path}: not the folder of a run (it holds none of {', '.join(_FILES)})")
    known = sorted(child.name for child in Path("runs").glob("*") if child.is_dir())
    hint = f"runs/ holds {', '.join(known)}" if known else "expected its folder, or its name below runs/"
    raise InputError(f"{path}: no such run; {hint}")


def _class_name(path: Path) -> str:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        return str(config["model"]["class_path"]).rpartition(".")[2]
    except FileNotFoundError:
        return "unknown method"
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{path}: names no method at model.class_path ({error!r})") from error
