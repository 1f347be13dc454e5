"""Rows of a report: runs that differ in their seed alone are one row, with the median over them."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from noise2pose.errors import InputError
from noise2pose.metrics.keys import MetricKey, main_error
from noise2pose.reports.options import read_configuration, settings
from noise2pose.reports.runs import Run

_MOST_NESTED = 4  # runs that start from weights of runs
_LEAST_SHOWN = 2  # rows that must have an option before it can differ
_MOST_COLUMNS = 8  # of differing settings
_FEW = 40  # characters of a setting


@dataclass(frozen=True)
class Entry:
    """A row: one configuration.

    Attributes:
        runs: of it, in the order of their seeds; tested runs of one protocol, or untested ones.
    """

    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def method(self) -> str:
        return self.first.method

    @cached_property
    def name(self) -> str:
        """The beginning that the names of its runs share, without what announces the seed."""
        names = [run.name for run in self.runs]
        shared = names[0][: next((i for i, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1),
                                 min(map(len, names)))]  # fmt: skip
        if len(names) > 1:
            shared = re.sub(r"[_.\- ]*(s|seed)?[_.\- ]*\d*$", "", shared)
        return shared or names[0]

    @property
    def seeds(self) -> list[int | None]:
        return [run.seed for run in self.runs]

    def values(self, name: str) -> list[float]:
        """A deployable test metric of each run that has it."""
        return [value for run in self.runs if (value := run.metric(name)) is not None]

    def median(self, name: str) -> float | None:
        """Of a deployable test metric over the runs; None if one lacks it."""
        return median([run.metric(name) for run in self.runs])

    def text(self, key: MetricKey, name: str = "") -> str:
        """The median of a metric, with the smallest and the largest value of several runs."""
        return median_and_range(key, [run.metric(name or key.name) for run in self.runs])

    @cached_property
    def middle(self) -> Run:
        """The run whose main error is nearest to the median: its pictures and curves stand for the row."""
        if not self.first.test:
            return self.first
        name = main_error(self.first.protocol.dimensions).name
        known = [run for run in self.runs if run.metric(name) is not None] or [self.first]
        return sorted(known, key=lambda run: run.metric(name) or 0.0)[(len(known) - 1) // 2]

    def people(self) -> dict[str, float]:
        """The main error of each person, as the mean over the runs; of those whom every run was tested on."""
        found = [run.people() for run in self.runs]
        shared = set.intersection(*(set(one) for one in found))
        return {person: sum(one[person] for one in found) / len(found) for person in found[0] if person in shared}

    def joints(self) -> dict[str, float]:
        """The MPJPE of each joint, as the median over the runs that recorded it."""
        found = [joints for run in self.runs if (joints := run.joints())]
        return {name: float(np.median([one[name] for one in found if name in one])) for name in (found or [{}])[0]}

    def settings(self) -> dict[str, Any]:
        """Of the first run, see `options.settings`."""
        return settings_of(self.first.folder)


def entries_of(runs: Iterable[Run]) -> list[Entry]:
    """Rows of runs of one protocol, in the order of each row's first run.

    Runs are joined if their settings, methods and hypotheses are equal and their seeds differ. A configuration that is
    there twice with one seed is shown run by run, and so is a run whose configuration is missing.
    """
    alike: dict[str, list[Run]] = {}
    for run in runs:
        known = settings_of(run.folder)
        number = run.protocol.num_hypotheses if run.test else None
        about = [run.method, number, run.test.get("num_steps"), identified(known), bool(run.test)]
        key = json.dumps([str(run.folder)] if not known or run.seed is None else about, default=str, sort_keys=True)
        alike.setdefault(key, []).append(run)
    found: list[Entry] = []
    for members in alike.values():
        seeds = [run.seed for run in members]
        if len(set(seeds)) == len(seeds):
            found.append(Entry(tuple(sorted(members, key=lambda run: run.seed or 0))))
        else:
            found += [Entry((run,)) for run in members]
    return found


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of a run by its configurations; empty if it has none, or none that can be read."""
    try:
        trained, tested = (read_configuration(folder / name) for name in ("config.yaml", "config_test.yaml"))
    except InputError:  # which is reported where the configuration is needed
        return {}
    return settings(trained or tested, tested) if trained or tested else {}


def identified(known: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """Settings with those of other runs in place of their checkpoints, whose folders are named by their seed."""
    return {key: _identified(value, depth) for key, value in known.items()}


def _identified(value: Any, depth: int) -> Any:
    if not isinstance(value, str) or not value.endswith(".ckpt") or depth >= _MOST_NESTED:
        return value
    path = Path(value)
    other = settings_of(path.parent.parent)
    return [path.name, identified(other, depth + 1)] if other else value


def differing_settings(entries: Sequence[Entry]) -> tuple[dict[str, list[str]], int]:
    """Settings that differ between rows which have them.

    Returns:
        The text of each row by the shortest name that tells a setting from the others, and how many more there are
        than fit into a table.
    """
    known = [entry.settings() for entry in entries]
    differing = []
    for key in dict.fromkeys(key for one in known for key in one):
        values = [json.dumps(identified({key: one[key]})[key], default=str) for one in known if key in one]
        if len(values) >= _LEAST_SHOWN and len(set(values)) > 1 and not key.endswith("class_path"):
            differing.append(key)
    shown = sorted(differing, key=lambda key: (key.count("."), key.split(".")[0] != "model"))[:_MOST_COLUMNS]
    lasts = [key.split(".")[-1] for key in shown]
    names = [key if lasts.count(last) > 1 else last for key, last in zip(shown, lasts, strict=True)]
    columns = {
        name: [_shown(one[key]) if key in one else "-" for one in known] for key, name in zip(shown, names, strict=True)
    }
    return columns, len(differing) - len(shown)


def median(values: Sequence[float | None]) -> float | None:
    """The median; None if a value is missing, NaN if one is."""
    return None if not values or None in values else float(np.median(np.array(values, dtype=float)))


def median_and_range(key: MetricKey, values: Sequence[float | None]) -> str:
    """The median with the smallest and the largest of several values; `-` if one is missing."""
    middle = median(values)
    if middle is None:
        return "-"
    known = [value for value in values if value is not None]
    span = f" ({key.text(min(known))}-{key.text(max(known))})" if len(known) > 1 else ""
    return f"{key.text(middle)}{span}"


def _shown(value: Any) -> str:
    text = "/".join(value.split("/")[-3:]) if isinstance(value, str) and value.count("/") > 2 else str(value)
    return text if len(text) <= _FEW else f"{text[: _FEW // 2 - 1]}..{text[1 - _FEW // 2 :]}"
