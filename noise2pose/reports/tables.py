"""Compares like with like: runs grouped by protocol, sorted by MPJPE, with what needs the ground truth kept apart."""

import json
import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noise2pose.reports.runs import Run

WIDTH = 140  # columns of a terminal
LEFT_ALIGNED = ("run", "method", "data", "protocol", "2-D", "chosen with the truth")
SAME_IN_A_GROUP = ("data", "protocol", "2-D")
ORACLE_TITLE = "Needs the ground truth to choose - not comparable with the numbers above"
LEGEND = (
    "MPJPE, PA-MPJPE and PVE (of vertices) in mm, lower is better. hyp. = hypotheses averaged for the answer; steps = "
    "denoiser calls per hypothesis (0 = no diffusion)."
)
CALIBRATION_TITLE = "Does the spread of the hypotheses predict the error?"
CALIBRATION_LEGEND = (
    "Share of the true coordinates inside the 50 % and the 90 % interval of the hypotheses (less: too sure of "
    "themselves). CRPS in mm: error of the whole distribution. AUSE in mm: what sorting by spread instead of by the "
    "true error costs."
)
# What two numbers must share to be compared, and how it is called.
_COMPARABLE = {
    "dataset": "data set",
    "split": "split",
    "skeleton": "skeleton",
    "joints": "joints",
    "root": "root",
    "keypoints_2d": "2-D source",
    "alignment": "alignment",
    "units": "units",
}


@dataclass(frozen=True)
class Group:
    """Tested runs that follow one protocol, best first.

    Attributes:
        letter: how the report calls it.
        protocol: of the first run.
        runs: sorted by MPJPE.
    """

    letter: str
    protocol: dict[str, Any]
    runs: list[Run]

    @property
    def heading(self) -> str:
        """What stands above its rows."""
        return f"Protocol {self.letter} ({self.protocol['name']}): {protocol_in_words(self.protocol)}"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        cells: text of each column.
        best: columns in which no other row of the table is better.
    """

    cells: dict[str, str]
    best: frozenset[str] = frozenset()


def group_by_protocol(runs: Iterable[Run]) -> list[Group]:
    """The tested runs, those that may be compared together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.test:
            groups.setdefault(json.dumps([run.protocol.get(key) for key in _COMPARABLE]), []).append(run)
    return [
        Group(chr(ord("A") + i), members[0].protocol, sorted(members, key=_rank))
        for i, members in enumerate(groups.values())
    ]


def warnings(groups: Sequence[Group]) -> list[str]:
    """What a reader must know before comparing; empty if every number may be compared with every other."""
    found = []
    if len(groups) > 1:
        differing = []
        for key, words in _COMPARABLE.items():
            values = list(dict.fromkeys(json.dumps(group.protocol.get(key)) for group in groups))
            if len(values) > 1:
                differing.append(f"{words} ({' / '.join(value.strip(chr(34)) for value in values)})")
        found.append(
            f"NOT COMPARABLE: these runs follow {len(groups)} protocols, which differ in {', '.join(differing)}. "
            "Compare rows of the same protocol only."
        )
    for group in groups:
        others = [run.name for run in group.runs if not same_samples(group.runs[0], run)]
        if others:
            found.append(
                f"NOT COMPARABLE: {', '.join(others)} saw other inputs than {group.runs[0].name} under the same sample "
                "names (another data.noise_seed, or data prepared differently)."
            )
    return found


def same_samples(first: Run, second: Run) -> bool:
    """Whether samples of the same name are the same; also true where there are none to compare."""
    if first.samples is None or second.samples is None:
        return True
    where = {name: i for i, name in enumerate(second.samples.sample_id)}
    pairs = [(i, where[name]) for i, name in enumerate(first.samples.sample_id) if name in where]
    return all(
        a.shape[1:] == b.shape[1:] and np.allclose(a[i], b[j], atol=1e-3, equal_nan=True)
        for a, b in (
            (first.samples.target, second.samples.target),
            (first.samples.keypoints_2d, second.samples.keypoints_2d),
        )
        for i, j in pairs
    )


def protocol_in_words(protocol: dict[str, Any]) -> str:
    """One sentence with everything that a number of this protocol depends on."""
    joints = protocol.get("joints")
    which = "all joints" if joints is None else f"joints {', '.join(map(str, joints))}"
    return (
        f"{protocol['dataset']}, {protocol['split']}; 2-D input: {protocol['keypoints_2d']}; error in "
        f"{protocol['units']} over {which} of {protocol['skeleton']}, both poses centred on joint {protocol['root']}"
    )


def result_rows(runs: Sequence[Run], devices: Sequence[str], letter: str = "-") -> list[Row]:
    """One row a run; the best errors are marked where there are several runs.

    Args:
        runs: of one group, or not tested.
        devices: of all runs in the report; when there are several, times carry the number of theirs.
        letter: of their group.
    """
    best = {}
    errors = {"MPJPE": "mpjpe", "PA-MPJPE": "pa_mpjpe"}
    if any(run.metric("pve") is not None for run in runs):
        errors["PVE"] = "pve"
    for column, name in errors.items():
        values = [value for run in runs if (value := run.metric(name)) is not None and math.isfinite(value)]
        best[column] = (name, min(values) if len(values) > 1 else None)
    rows = []
    for run in runs:
        cells = {
            "run": run.name,
            "method": run.method,
            "data": run.protocol.get("dataset", "-"),
            "protocol": letter,
            "2-D": run.protocol.get("keypoints_2d", "-"),
            "hyp.": str(run.protocol.get("num_hypotheses", "-")),
            "steps": str(run.test.get("steps", "-")),
            **{column: _number(run.metric(name)) for column, name in errors.items()},
            "params": _parameters(run.parameters),
            "poses/s": _on(devices, run.test, f"{run.test['poses_per_second']:,.0f}" if run.test else "-"),
            "training": _on(devices, run.fit, _duration(run.fit["seconds"]) if run.fit else "-"),
        }
        marked = {column for column, (name, value) in best.items() if value is not None and run.metric(name) == value}
        rows.append(Row(cells, frozenset(marked)))
    return rows


def oracle_rows(runs: Iterable[Run]) -> list[Row]:
    """What was chosen with the ground truth, beside the same choice among poses that know nothing."""
    return [
        Row(
            {
                "run": run.name,
                "method": run.method,
                "chosen with the truth": choice.replace("_", " "),
                "MPJPE": _number(value),
                "null control": _number(null),
            }
        )
        for run in runs
        for choice, (value, null) in run.oracle().items()
    ]


def calibration_rows(runs: Iterable[Run]) -> list[Row]:
    """How well calibrated the hypotheses of each run are, of those that have several."""
    return [
        Row(
            {
                "run": run.name,
                "method": run.method,
                "hyp.": str(run.protocol.get("num_hypotheses", "-")),
                "in 50 %": _number(found.get("coverage_50")),
                "in 90 %": _number(found.get("coverage_90")),
                "CRPS": _number(found.get("crps")),
                "AUSE": _number(found.get("ause")),
            }
        )
        for run in runs
        if (found := run.calibration())
    ]


def devices_of(runs: Iterable[Run]) -> list[str]:
    """Every device that a time or a speed was measured on."""
    return list(dict.fromkeys(record["device"] for run in runs for record in (run.test, run.fit) if record))


def device_note(devices: Sequence[str]) -> str:
    """What poses/s and training times mean."""
    if not devices:
        return ""
    if len(devices) == 1:
        return f"poses/s and training times: {devices[0]}."
    named = "; ".join(f"[{i}] {device}" for i, device in enumerate(devices, start=1))
    return f"poses/s and training times compare on the same device only: {named}."


def labels(runs: Sequence[Run]) -> list[str]:
    """A short name of each run in a picture: its method, and the run's own name too where methods repeat."""
    number = Counter(run.method for run in runs)
    return [run.method if number[run.method] == 1 else f"{run.method}: {run.name}" for run in runs]


def text_report(runs: Sequence[Run]) -> str:
    """The table for a terminal, at most 140 columns wide."""
    groups, devices = group_by_protocol(runs), devices_of(runs)
    untested = [run for run in runs if not run.test]
    parts = [_wrap(warning) for warning in warnings(groups)]
    blocks = [(group.heading, result_rows(group.runs, devices, group.letter)) for group in groups]
    if untested:
        blocks.append(("Not tested yet", result_rows(untested, devices)))
    parts.append("\n".join(_aligned(blocks)))
    parts.append(_wrap(f"{LEGEND} {device_note(devices)}"))
    parts += [f"{run.name} is not tested yet; type:\n  {run.test_command}" for run in untested]
    for group in groups:
        if rows := calibration_rows(group.runs):
            title = f"{CALIBRATION_TITLE} (protocol {group.letter})"
            parts.append("\n".join([title, *_aligned([("", rows)]), _wrap(CALIBRATION_LEGEND)]))
    for group in groups:
        if rows := oracle_rows(group.runs):
            parts.append("\n".join([f"{ORACLE_TITLE} (protocol {group.letter})", *_aligned([("", rows)])]))
    return "\n\n".join(parts)


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _aligned(blocks: Sequence[tuple[str, Sequence[Row]]]) -> list[str]:
    """Blocks of rows below one header; the widest names are shortened until a line fits."""
    rows = [row for _, block in blocks for row in block]
    columns = list(max((row.cells for row in rows), key=len))  # of bodies there is one more error to tell
    widths = {column: max(len(column), *(len(row.cells.get(column, "-")) for row in rows)) for column in columns}
    while sum(widths.values()) + 2 * (len(columns) - 1) > WIDTH:
        widths[max((column for column in columns if column in LEFT_ALIGNED), key=lambda column: widths[column])] -= 1

    def line(cells: dict[str, str]) -> str:
        fitted = []
        for column, width in widths.items():
            text = cells.get(column, "-")
            if len(text) > width:  # names that begin alike often end differently
                text = f"{text[: width - width // 2 - 1]}..{text[len(text) - width // 2 + 1 :]}"
            fitted.append(text.ljust(width) if column in LEFT_ALIGNED else text.rjust(width))
        return "  ".join(fitted).rstrip()

    lines = [line({column: column for column in columns})]
    lines.append("-" * (sum(widths.values()) + 2 * (len(columns) - 1)))
    for title, block in blocks:
        lines += [_wrap(title)] if title else []
        lines += [line(row.cells) for row in block]
    return lines


def _rank(run: Run) -> float:
    value = run.metric("mpjpe")
    return value if value is not None and math.isfinite(value) else math.inf


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _parameters(count: int | None) -> str:
    if count is None:
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 99.5 else f"{hours:.1f} h"


def _on(devices: Sequence[str], record: dict[str, Any], text: str) -> str:
    return f"{text} [{devices.index(record['device']) + 1}]" if record and len(devices) > 1 else text
