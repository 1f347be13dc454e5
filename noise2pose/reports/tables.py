"""Tables of runs: grouped by protocol, sorted by MPJPE, with numbers that need the ground truth in a table apart."""

import math
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from noise2pose.metrics.keys import CALIBRATION, POSE_ERRORS, MetricKey, PoseErrorKey, main_error
from noise2pose.reports.comparability import Group, group_by_protocol, source_in_words, warnings
from noise2pose.reports.entries import Entry, differing_settings, entries_of, median, median_and_range
from noise2pose.reports.runs import Run
from noise2pose.reports.significance import FEWEST, Comparison, against_first

WIDTH = 140  # columns of a terminal
LEFT_ALIGNED = ("run", "method", "data", "protocol", "2-D", "chosen with the truth", "error")
SAME_IN_A_GROUP = ("data", "protocol", "2-D")
ORACLE_TITLE = "Needs the ground truth to choose - not comparable with the numbers above"
LEGEND = (
    "MPJPE, PA-MPJPE and PVE (of vertices) in mm, lower is better; PCK and AUC in per cent. hyp. = hypotheses averaged "
    "for the answer; steps = denoiser calls per hypothesis (0 = no diffusion)."
)
SEEDS_LEGEND = "Errors of several seeds: median (smallest-largest)."
PEOPLE_LEGEND = (
    "vs best: mean over the people of the test set of their error minus that of the same person in the best row. p: "
    "Wilcoxon's signed-rank test over people, corrected by Holm over the rows, from 6 people on. The best row was "
    "chosen by the same numbers, so a p just below 0.05 means little."
)
SETTINGS_TITLE = "Settings that differ"
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
        entry: the runs behind it.
    """

    cells: dict[str, str]
    best: frozenset[str] = frozenset()
    entry: Entry | None = None


def result_rows(entries: Sequence[Entry], devices: Sequence[str], letter: str = "-") -> list[Row]:
    """One line a row; the best errors are marked where there are several rows.

    Args:
        entries: of one group, best first, or not tested.
        devices: of all runs in the report; when there are several, times carry the number of theirs.
        letter: of their group.
    """
    errors, best = _errors_of(entries), {}
    medians = {key: [entry.median(key.name) for entry in entries] for key in errors}
    for key, found in medians.items():
        values = [value for value in found if value is not None and math.isfinite(value)]
        if len(values) > 1:
            best[key] = max(values) if key.best == "max" else min(values)
    compared = against_first([entry.people() for entry in entries]) if entries[0].first.test else []
    if not any(compared):
        compared = []
    rows = []
    for i, entry in enumerate(entries):
        run, fits = entry.first, [one.fit for one in entry.runs if one.fit]
        speed = statistics.median(one.test["poses_per_second"] for one in entry.runs) if run.test else 0.0
        cells = {
            "run": entry.name,
            "method": entry.method,
            "data": run.protocol.dataset if run.test else "-",
            "protocol": letter,
            "2-D": source_in_words(run.protocol) if run.test else "-",
            **{key.caption: entry.text(key) for key in errors},
            **(_compared(compared[i], i == 0) if compared else {}),
            "seeds": str(len(entry.runs)),
            "hyp.": str(run.protocol.num_hypotheses) if run.test else "-",
            "steps": str(run.test.get("num_steps", "-")),
            "params": _parameters(run.parameters),
            "poses/s": _on(devices, run.test, f"{speed:,.0f}" if run.test else "-"),
            "training": _on(devices, fits[0], _duration(statistics.median(fit["seconds"] for fit in fits)))
            if fits
            else "-",
        }
        marked = frozenset(key.caption for key in best if medians[key][i] == best[key])
        rows.append(Row(cells, marked, entry))
    return rows


def settings_rows(entries: Sequence[Entry]) -> tuple[list[Row], int]:
    """The settings that differ between rows, a column each, and how many more differ."""
    columns, more = differing_settings(entries)
    if not columns:
        return [], 0
    rows = [
        Row(
            {"run": entry.name, "method": entry.method, **{key: found[i] for key, found in columns.items()}},
            entry=entry,
        )
        for i, entry in enumerate(entries)
    ]
    return rows, more


def rows_by_group(group: Group) -> list[Row]:
    """Errors by action or sequence, one line a row and error, the last two columns both averages."""
    captions = group.protocol.group_captions
    tables = [(entry, [run.by_group().get("metrics", {}) for run in entry.runs]) for entry in group.entries]
    rows = []
    for key in _errors_of(group.entries):
        shown = [
            (entry, [of_run[key.name] for of_run in found])
            for entry, found in tables
            if all(key.name in of_run for of_run in found)
        ]
        names = {name for _, found in shown for table in found for name in table["values"]}
        order = [*(name for name in captions if name in names), *sorted(names.difference(captions))]
        for entry, found in shown:
            cells = {"run": entry.name, "method": entry.method, "error": key.caption}
            for name in order:
                middle = median([table["values"].get(name) for table in found])
                cells[captions.get(name) or name] = _number(key, middle)
            for caption, name in (("mean", "mean_of_groups"), ("poses", "mean_over_poses")):
                cells[caption] = _number(key, median([table[name] for table in found]))
            rows.append(Row(cells, entry=entry))
    return rows


def oracle_rows(entries: Iterable[Entry]) -> list[Row]:
    """What was chosen with the ground truth, beside its null control."""
    error = main_error(3)
    rows = []
    for entry in entries:
        found = [run.oracle() for run in entry.runs]
        for choice in found[0]:
            both = [one.get(choice, (None, None)) for one in found]
            cells = {
                "run": entry.name,
                "method": entry.method,
                "chosen with the truth": choice.replace("_", " "),
                error.caption: median_and_range(error, [value for value, _ in both]),
                "null control": median_and_range(error, [null for _, null in both]),
            }
            rows.append(Row(cells, entry=entry))
    return rows


def calibration_rows(entries: Iterable[Entry]) -> list[Row]:
    """How well calibrated the hypotheses are, for each row that has several."""
    rows = []
    for entry in entries:
        found = [run.calibration() for run in entry.runs]
        if not found[0]:
            continue
        cells = {"run": entry.name, "method": entry.method, "hyp.": str(entry.first.protocol.num_hypotheses)}
        cells |= {key.caption: median_and_range(key, [one.get(key.name) for one in found]) for key in CALIBRATION}
        rows.append(Row(cells, entry=entry))
    return rows


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


def labels(entries: Sequence[Entry]) -> list[str]:
    """A short name of each row in a figure: its method, with the row's own name where methods repeat."""
    number = Counter(entry.method for entry in entries)
    return [entry.method if number[entry.method] == 1 else f"{entry.method}: {entry.name}" for entry in entries]


def text_report(runs: Sequence[Run]) -> str:
    """The tables for a terminal, at most 140 columns wide, one for each evaluation set."""
    groups, devices = group_by_protocol(runs), devices_of(runs)
    untested = entries_of(run for run in runs if not run.test)
    parts = [_wrap(warning) for warning in warnings(groups)]
    blocks = [(group.heading, result_rows(group.entries, devices, group.letter)) for group in groups]
    if untested:
        blocks.append(("Not tested yet", result_rows(untested, devices)))
    parts += ["\n".join([_wrap(heading), *_aligned(rows)]) for heading, rows in blocks]
    parts.append(_wrap(f"{legend_of(groups)} {device_note(devices)}"))
    parts += [f"{run.name} is not tested yet; type:\n  {run.test_command}" for run in runs if not run.test]
    for group in groups:
        rows, more = settings_rows(group.entries)
        if rows:
            title = f"{SETTINGS_TITLE} (protocol {group.letter}){f', and {more} more' if more else ''}"
            parts.append("\n".join([title, *_aligned(rows)]))
    for group in groups:
        if rows := rows_by_group(group):
            title = f"{BY_GROUP_TITLE.format(of=group.protocol.groups)} (protocol {group.letter})"
            parts.append("\n".join([title, *_aligned(rows)]))
    for group in groups:
        if rows := calibration_rows(group.entries):
            title = f"{CALIBRATION_TITLE} (protocol {group.letter})"
            parts.append("\n".join([title, *_aligned(rows), _wrap(CALIBRATION_LEGEND)]))
    for group in groups:
        if rows := oracle_rows(group.entries):
            parts.append("\n".join([f"{ORACLE_TITLE} (protocol {group.letter})", *_aligned(rows)]))
    return "\n\n".join(parts)


def legend_of(groups: Sequence[Group]) -> str:
    """What the columns of the results mean."""
    several = any(len(entry.runs) > 1 for group in groups for entry in group.entries)
    people = any(len(run.people()) >= FEWEST for group in groups for run in group.runs)
    return " ".join([LEGEND, *([SEEDS_LEGEND] if several else []), *([PEOPLE_LEGEND] if people else [])])


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _compared(found: Comparison | None, is_first: bool) -> dict[str, str]:
    """The columns of the comparison with the best row."""
    if found is None:
        return {"vs best": "best" if is_first else "-", "p": "-"}
    return {"vs best": f"{found.difference:+.1f}", "p": "<0.001" if found.p < 0.001 else f"{found.p:.3f}"}


def _errors_of(entries: Sequence[Entry]) -> list[PoseErrorKey]:
    """The errors that have a column in the table of runs of one protocol."""
    first, runs = entries[0].first, [run for entry in entries for run in entry.runs]
    dimensions = first.protocol.dimensions if first.test else 3
    names_pck_joints = bool(first.test and first.protocol.pck_joints)

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
