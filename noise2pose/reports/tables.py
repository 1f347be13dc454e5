"""Tables of runs: grouped by protocol, sorted by MPJPE, with numbers that need the ground truth in a table apart."""

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from noise2pose.metrics.keys import CALIBRATION, POSE_ERRORS, MetricKey, PoseErrorKey, main_error
from noise2pose.reports.comparability import Group, group_by_protocol, source_in_words, warnings
from noise2pose.reports.runs import Run

WIDTH = 140  # columns of a terminal
LEFT_ALIGNED = ("run", "method", "data", "protocol", "2-D", "chosen with the truth", "error")
SAME_IN_A_GROUP = ("data", "protocol", "2-D")
ORACLE_TITLE = "Needs the ground truth to choose - not comparable with the numbers above"
LEGEND = (
    "MPJPE, PA-MPJPE and PVE (of vertices) in mm, lower is better; PCK and AUC in per cent. hyp. = hypotheses averaged "
    "for the answer; steps = denoiser calls per hypothesis (0 = no diffusion)."
)
BY_GROUP_TITLE = "By {of}; mean = every {of} weighs the same, poses = every pose does"
CALIBRATION_TITLE = "Does the spread of the hypotheses predict the error?"
CALIBRATION_LEGEND = (
    "Share of the true coordinates inside the 50 % and the 90 % interval of the hypotheses (less: too sure of "
    "themselves). CRPS in mm: error of the whole distribution. AUSE in mm: what sorting by spread instead of by the "
    "true error costs."
)


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        cells: text of each column.
        best: columns in which no other row of the table is better.
    """

    cells: dict[str, str]
    best: frozenset[str] = frozenset()


def result_rows(runs: Sequence[Run], devices: Sequence[str], letter: str = "-") -> list[Row]:
    """One row a run; the best errors are marked where there are several runs.

    Args:
        runs: of one group, or not tested.
        devices: of all runs in the report; when there are several, times carry the number of theirs.
        letter: of their group.
    """
    errors, best = _errors_of(runs), {}
    for key in errors:
        values = [value for run in runs if (value := run.metric(key.name)) is not None and math.isfinite(value)]
        if len(values) > 1:
            best[key] = max(values) if key.best == "max" else min(values)
    rows = []
    for run in runs:
        cells = {
            "run": run.name,
            "method": run.method,
            "data": run.protocol.dataset if run.test else "-",
            "protocol": letter,
            "2-D": source_in_words(run.protocol) if run.test else "-",
            "hyp.": str(run.protocol.num_hypotheses) if run.test else "-",
            "steps": str(run.test.get("num_steps", "-")),
            **{key.caption: _number(key, run.metric(key.name)) for key in errors},
            "params": _parameters(run.parameters),
            "poses/s": _on(devices, run.test, f"{run.test['poses_per_second']:,.0f}" if run.test else "-"),
            "training": _on(devices, run.fit, _duration(run.fit["seconds"]) if run.fit else "-"),
        }
        rows.append(Row(cells, frozenset(key.caption for key in best if run.metric(key.name) == best[key])))
    return rows


def rows_by_group(group: Group) -> list[Row]:
    """Errors by action or sequence, one row a run and error, the last two columns both averages."""
    captions = group.protocol.group_captions
    tables = [(run, run.by_group().get("metrics", {})) for run in group.runs]
    rows = []
    for key in _errors_of(group.runs):
        shown = [(run, metrics[key.name]) for run, metrics in tables if key.name in metrics]
        found = {name for _, table in shown for name in table["values"]}
        order = [*(name for name in captions if name in found), *sorted(found.difference(captions))]
        for run, table in shown:
            cells = {"run": run.name, "method": run.method, "error": key.caption}
            cells |= {captions.get(name) or name: _number(key, table["values"].get(name)) for name in order}
            cells |= {"mean": key.text(table["mean_of_groups"]), "poses": key.text(table["mean_over_poses"])}
            rows.append(Row(cells))
    return rows


def oracle_rows(runs: Iterable[Run]) -> list[Row]:
    """What was chosen with the ground truth, beside its null control."""
    error = main_error(3)
    return [
        Row(
            {
                "run": run.name,
                "method": run.method,
                "chosen with the truth": choice.replace("_", " "),
                error.caption: error.text(value),
                "null control": _number(error, null),
            }
        )
        for run in runs
        for choice, (value, null) in run.oracle().items()
    ]


def calibration_rows(runs: Iterable[Run]) -> list[Row]:
    """How well calibrated the hypotheses are, for each run that has several."""
    return [
        Row(
            {
                "run": run.name,
                "method": run.method,
                "hyp.": str(run.protocol.num_hypotheses),
                **{key.caption: _number(key, found.get(key.name)) for key in CALIBRATION},
            }
        )
        for run in runs
        if (found := run.calibration())
    ]


def devices_of(runs: Iterable[Run]) -> list[str]:
    """Every device on which a time or a speed was measured."""
    return list(dict.fromkeys(record["device"] for run in runs for record in (run.test, run.fit) if record))


def device_note(devices: Sequence[str]) -> str:
    """The devices of poses/s and training times."""
    if not devices:
        return ""
    if len(devices) == 1:
        return f"poses/s and training times: {devices[0]}."
    named = "; ".join(f"[{i}] {device}" for i, device in enumerate(devices, start=1))
    return f"poses/s and training times compare on the same device only: {named}."


def labels(runs: Sequence[Run]) -> list[str]:
    """A short name of each run in a picture: its method, with the run's own name where methods repeat."""
    number = Counter(run.method for run in runs)
    return [run.method if number[run.method] == 1 else f"{run.method}: {run.name}" for run in runs]


def text_report(runs: Sequence[Run]) -> str:
    """The tables for a terminal, at most 140 columns wide, one for each evaluation set."""
    groups, devices = group_by_protocol(runs), devices_of(runs)
    untested = [run for run in runs if not run.test]
    parts = [_wrap(warning) for warning in warnings(groups)]
    blocks = [(group.heading, result_rows(group.runs, devices, group.letter)) for group in groups]
    if untested:
        blocks.append(("Not tested yet", result_rows(untested, devices)))
    parts += ["\n".join([_wrap(heading), *_aligned(rows)]) for heading, rows in blocks]
    parts.append(_wrap(f"{LEGEND} {device_note(devices)}"))
    parts += [f"{run.name} is not tested yet; type:\n  {run.test_command}" for run in untested]
    for group in groups:
        if rows := rows_by_group(group):
            title = f"{BY_GROUP_TITLE.format(of=group.protocol.groups)} (protocol {group.letter})"
            parts.append("\n".join([title, *_aligned(rows)]))
    for group in groups:
        if rows := calibration_rows(group.runs):
            title = f"{CALIBRATION_TITLE} (protocol {group.letter})"
            parts.append("\n".join([title, *_aligned(rows), _wrap(CALIBRATION_LEGEND)]))
    for group in groups:
        if rows := oracle_rows(group.runs):
            parts.append("\n".join([f"{ORACLE_TITLE} (protocol {group.letter})", *_aligned(rows)]))
    return "\n\n".join(parts)


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _errors_of(runs: Sequence[Run]) -> list[PoseErrorKey]:
    """The errors that have a column in the table of runs of one protocol."""
    dimensions = runs[0].protocol.dimensions if runs[0].test else 3
    names_pck_joints = bool(runs[0].test and runs[0].protocol.pck_joints)

    def is_shown(key: PoseErrorKey) -> bool:
        if key.column == "measured":
            return any(run.metric(key.name) is not None for run in runs)
        return key.column == "always" or (key.column == "pck" and names_pck_joints)

    return [key for key in POSE_ERRORS if key.dimensions == dimensions and is_shown(key)]


def _aligned(rows: Sequence[Row]) -> list[str]:
    """Rows below a header. Lines that are too long lose the columns that the heading repeats, then parts of names."""
    columns = list(rows[0].cells)
    widths = {column: max(len(column), *(len(row.cells.get(column, "-")) for row in rows)) for column in columns}

    def length() -> int:
        return sum(widths.values()) + 2 * (len(widths) - 1)

    for column in SAME_IN_A_GROUP:
        if length() > WIDTH:
            widths.pop(column, None)
    while length() > WIDTH:
        widths[max((column for column in widths if column in LEFT_ALIGNED), key=lambda column: widths[column])] -= 1

    def line(cells: dict[str, str]) -> str:
        fitted = []
        for column, width in widths.items():
            text = cells.get(column, "-")
            if len(text) > width:  # names that begin alike often end differently
                text = f"{text[: width - width // 2 - 1]}..{text[len(text) - width // 2 + 1 :]}"
            fitted.append(text.ljust(width) if column in LEFT_ALIGNED else text.rjust(width))
        return "  ".join(fitted).rstrip()

    lines = [line({column: column for column in columns}), "-" * length()]
    return lines + [line(row.cells) for row in rows]


def _number(key: MetricKey, value: float | None) -> str:
    return "-" if value is None else key.text(value)


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
