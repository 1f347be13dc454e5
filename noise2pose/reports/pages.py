"""Writes a report: `index.html`, one file with everything, and `report.md` with its pictures in `figures/`."""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from noise2pose.errors import InputError
from noise2pose.files import ASSETS, write_bytes
from noise2pose.metrics.keys import POSE_ERRORS
from noise2pose.reports.comparability import group_by_protocol, protocol_in_words, warnings
from noise2pose.reports.figures import Picture, curves_pictures, sample_pictures, sparsification_pictures
from noise2pose.reports.runs import Run
from noise2pose.reports.tables import (
    BY_GROUP_TITLE,
    CALIBRATION_LEGEND,
    CALIBRATION_TITLE,
    LEFT_ALIGNED,
    LEGEND,
    ORACLE_TITLE,
    SAME_IN_A_GROUP,
    Row,
    calibration_rows,
    device_note,
    devices_of,
    oracle_rows,
    result_rows,
    rows_by_group,
)

_ORACLE = (
    "The pose closest to the ground truth was chosen with the ground truth, which is unknown in use. The null control "
    "chooses among as many poses of pure noise with the same spread: its gain is the gain of choosing alone."
)
_SAMPLES = (
    "The same samples for every run, spread over the test set and not chosen by error. The person is seen from beside "
    "the camera, where errors in depth show; the floor is a metre wide."
)


@dataclass(frozen=True)
class _Section:
    """A section of the page.

    Attributes:
        title: of the section.
        text: paragraphs.
        tables: (caption, rows) of each table.
        pictures: one below the other.
        kind: class of the section in the page.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[tuple[str, Sequence[Row]]] = ()
    pictures: Sequence[Picture] = ()
    kind: str = ""


def write_report(runs: Sequence[Run], output: Path | str, title: str | None = None, note: str = "") -> Path:
    """Writes `index.html` and `report.md` that compare runs.

    Everything is computed before anything is written, and each file is replaced whole.

    Args:
        runs: from `load_run`.
        output: folder; made if it is missing.
        title: heading of the page.
        note: paragraph below the heading.

    Returns:
        The path of `index.html`.

    Raises:
        InputError: if the folder cannot be written, or samples do not match their skeleton.
    """
    title = title or f"{len(runs)} run{'s' if len(runs) > 1 else ''} compared"
    sections, loud = _sections(runs), warnings(group_by_protocol(runs))
    pictures = [picture for section in sections for picture in section.pictures]
    files = {f"figures/{picture.name}.png": picture.wide for picture in pictures}
    files["report.md"] = _markdown(title, note, loud, sections, runs).encode()
    files["index.html"] = _html(title, note, loud, sections, runs).encode()
    output = Path(output)
    for name, content in files.items():
        try:
            write_bytes(output / name, content)
        except OSError as error:
            raise InputError(f"{output / name}: cannot be written ({error.strerror})") from error
    return output / "index.html"


def _sections(runs: Sequence[Run]) -> list[_Section]:
    groups, devices = group_by_protocol(runs), devices_of(runs)
    untested = [run for run in runs if not run.test]
    tables = [(group.heading, result_rows(group.runs, devices, group.letter)) for group in groups]
    if untested:
        commands = "; ".join(f"{run.name}: {run.test_command}" for run in untested)
        tables.append((f"Not tested yet; type - {commands}", result_rows(untested, devices)))
    sections = [_Section("Results", [LEGEND, device_note(devices)], tables)]
    for group in groups:
        if rows := rows_by_group(group):
            title = BY_GROUP_TITLE.format(of=group.protocol.groups)
            sections.append(_Section(f"Results of protocol {group.letter}", [], [(title, rows)]))
    calibrated = [(f"Protocol {group.letter}", rows) for group in groups if (rows := calibration_rows(group.runs))]
    if calibrated:
        pictures = [picture for group in groups for picture in sparsification_pictures(group)]
        sections.append(_Section(CALIBRATION_TITLE, [CALIBRATION_LEGEND], calibrated, pictures))
    oracles = [(f"Protocol {group.letter}", rows) for group in groups if (rows := oracle_rows(group.runs))]
    if oracles:
        sections.append(_Section(ORACLE_TITLE, [_ORACLE], oracles))
    curves = [
        picture
        for title, name, members in [
            *((f"Protocol {group.letter}", group.letter, group.runs) for group in groups),
            ("Not tested yet", "untested", untested),
        ]
        for picture in curves_pictures(members, title, f"curves_{name}")
    ]
    if curves:
        sections.append(_Section("Validation while training", pictures=curves))
    for group in groups:
        where = f"Predictions, protocol {group.letter}" if len(groups) > 1 else "Predictions"
        if all(len(run.test["protocols"]) > 1 and not run.samples for run in group.runs):
            continue  # samples are kept of the first set only
        shown = sample_pictures(group)
        absent = [run.name for run in group.runs if not run.samples]
        text = [_SAMPLES] if shown else ["No sample was kept by every run of this protocol."]
        text += [f"No samples were kept by: {', '.join(absent)}."] if absent else []
        sections.append(_Section(where, text, pictures=shown, kind="samples"))
    return sections


def _facts(run: Run) -> dict[str, str]:
    """What one needs to reproduce a run's numbers; values that start with `$ ` are commands."""
    facts = {}
    tested = run.evaluation_sets()
    for number, one in enumerate(tested, start=1):
        which = f" {number}" if len(tested) > 1 else ""
        facts[f"protocol{which}"] = (
            f"{one.protocol.name}: {protocol_in_words(one.protocol)}; hypotheses: {one.protocol.num_hypotheses}"
        )
        facts[f"test metrics{which}"] = ", ".join(f"{name} {value:.4g}" for name, value in one.metrics().items())
    if not tested:
        facts["not tested yet; type"] = f"$ {run.test_command}"
    for name, record in (("trained", run.fit), ("tested", run.test)):
        if record:
            facts[f"{name} with"] = f"$ {record['command']}"
            facts[f"{name} on"] = (
                f"{record['device']}; commit {record.get('commit') or 'unknown'}, seed {record.get('seed', 'unknown')}"
            )
    if not run.fit:
        facts["trained with"] = "not trained in this folder"
    if run.test.get("checkpoint"):
        facts["weights"] = str(run.test["checkpoint"])
    return facts


def _html(title: str, note: str, loud: Sequence[str], sections: Iterable[_Section], runs: Sequence[Run]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html").render(
        title=title,
        note=note,
        loud=loud,
        sections=sections,
        runs=runs,
        columns_of=_page_columns,
        facts_of=_facts,
        left_aligned=LEFT_ALIGNED,
        base64=lambda image: b64encode(image).decode(),
    )


def _page_columns(rows: Sequence[Row]) -> list[str]:
    """The columns that the caption does not repeat, names first and errors next, so that a phone shows them."""
    columns = [column for column in rows[0].cells if column not in SAME_IN_A_GROUP]
    first = ("run", "method", "error", *(key.caption for key in POSE_ERRORS), "null control")
    return sorted(columns, key=lambda column: first.index(column) if column in first else len(first))


def _markdown(title: str, note: str, loud: Sequence[str], sections: Iterable[_Section], runs: Sequence[Run]) -> str:
    parts = [f"# {_plain(title)}", *([_plain(note)] if note else []), *(f"> **{_plain(text)}**" for text in loud)]
    for section in sections:
        parts.append(f"## {_plain(section.title)}")
        parts += [_plain(text) for text in section.text if text]
        for caption, rows in section.tables:
            parts += [_plain(caption), _markdown_table(rows)]
        for picture in section.pictures:
            parts += [f"![{picture.alt}](figures/{picture.name}.png)", _plain(picture.caption)]
    parts.append("## How each number was made")
    for run in runs:
        parts.append(f"### {_plain(run.method)} ({_plain(run.name)})")
        for name, value in _facts(run).items():
            parts.append(f"{name}:\n\n    {value[2:]}" if value.startswith("$ ") else f"{name}: {_plain(value)}")
    return "\n\n".join(parts) + "\n"


def _markdown_table(rows: Sequence[Row]) -> str:
    columns = _page_columns(rows)
    lines = [columns, ["---" if column in LEFT_ALIGNED else "---:" for column in columns]]
    for row in rows:
        cells = {column: _plain(row.cells[column]) for column in columns}
        lines.append([f"**{text}**" if column in row.best else text for column, text in cells.items()])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """The text with Markdown's special characters escaped."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)
