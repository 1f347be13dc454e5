"""Writes a report: `index.html`, one file with everything, and `report.md` with its figures in `figures/`."""

import base64
import hashlib
import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from noise2pose.errors import InputError
from noise2pose.files import ASSETS, write_bytes
from noise2pose.metrics.keys import POSE_ERRORS
from noise2pose.reports.charts import sheet
from noise2pose.reports.comparability import group_by_protocol, protocol_in_words, warnings
from noise2pose.reports.entries import Entry, entries_of
from noise2pose.reports.runs import Run
from noise2pose.reports.sections import Section, sections_of
from noise2pose.reports.tables import LEFT_ALIGNED, SAME_IN_A_GROUP, Row

_NUMBERS = re.compile(r"[-+<]?[\d.,]+([ (].*)?|-|best|nan")  # texts that are aligned to the right
_LONG = 200  # characters of a warning that is shown at once
_COLUMNS = {"samples": 4}  # panels in a row of a figure's file, by kind of section


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
    title, output = title or f"{len(runs)} run{'s' if len(runs) > 1 else ''} compared", Path(output)
    sections, loud = sections_of(runs), warnings(group_by_protocol(runs))
    files = {
        f"figures/{file_name(picture.name)}.svg": sheet(picture.panels, picture.legend, _COLUMNS.get(section.kind, 2))
        for section in sections
        for picture in section.pictures
    }
    files["report.md"] = _markdown(title, note, loud, sections, runs)
    files["index.html"] = _html(title, note, loud, sections, runs, output)
    for name, content in files.items():
        try:
            write_bytes(output / name, content.encode())
        except OSError as error:
            raise InputError(f"{output / name}: cannot be written ({error.strerror})") from error
    return output / "index.html"


def file_name(name: str) -> str:
    """A name that is valid on any file system and in Markdown."""
    return re.sub(r"[^\w.-]+", "_", name)


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


def _html(
    title: str, note: str, loud: Sequence[str], sections: Iterable[Section], runs: Sequence[Run], output: Path
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    script = (ASSETS / "report.js").read_text(encoding="utf-8")
    numbers = {run.folder: number for number, run in enumerate(runs)}
    return environment.get_template("report.html").render(
        title=title,
        note=note,
        loud=loud,
        told=textwrap.shorten(loud[0], _LONG, placeholder=" ...") if loud else "",
        sections=sections,
        made=_made(runs),
        script=Markup("\n" + script),
        # Only this script may run, and nothing is loaded, whatever the names of runs hold.
        digest=base64.b64encode(hashlib.sha256(("\n" + script).encode()).digest()).decode(),
        columns_of=_page_columns,
        facts_of=_facts,
        right_aligned=_right_aligned,
        anchor_of=lambda entry: f"made-{numbers[entry.first.folder]}",
        link_to=lambda folder: _link(folder, output),
        raw=Markup,
    )


def _made(runs: Sequence[Run]) -> list[Entry]:
    """Every run once, together with those of its row."""
    tested = entries_of(run for run in runs if run.test)
    return [*tested, *entries_of(run for run in runs if not run.test)]


def _link(folder: Path, output: Path) -> str:
    """A folder's address from the page, so that both can be moved together."""
    try:
        return quote(Path(os.path.relpath(folder.resolve(), output.resolve())).as_posix())
    except ValueError:  # another drive
        return folder.resolve().as_uri()


def _right_aligned(rows: Sequence[Row], column: str) -> bool:
    known = [row.cells[column] for row in rows if column in row.cells]
    return column not in LEFT_ALIGNED and all(_NUMBERS.fullmatch(text) for text in known)


def _page_columns(rows: Sequence[Row]) -> list[str]:
    """The columns that the caption does not repeat, names first and errors next, so that a phone shows them."""
    columns = [column for column in rows[0].cells if column not in SAME_IN_A_GROUP]
    first = ("run", "method", "error", *(key.caption for key in POSE_ERRORS), "null control", "vs best", "p", "seeds")
    return sorted(columns, key=lambda column: first.index(column) if column in first else len(first))


def _markdown(title: str, note: str, loud: Sequence[str], sections: Iterable[Section], runs: Sequence[Run]) -> str:
    parts = [f"# {_plain(title)}", *([_plain(note)] if note else []), *(f"> **{_plain(text)}**" for text in loud)]
    for section in sections:
        parts.append(f"## {_plain(section.title)}")
        parts += [_plain(text) for text in section.text if text]
        for caption, rows in section.tables:
            parts += [_plain(caption), _markdown_table(rows)]
        for picture in section.pictures:
            parts += [f"![{_plain(picture.alt)}](figures/{file_name(picture.name)}.svg)", _plain(picture.caption)]
    parts.append("## How each number was made")
    for run in runs:
        parts.append(f"### {_plain(run.method)} ({_plain(run.name)})")
        for name, value in _facts(run).items():
            parts.append(f"{name}:\n\n    {value[2:]}" if value.startswith("$ ") else f"{name}: {_plain(value)}")
    return "\n\n".join(parts) + "\n"


def _markdown_table(rows: Sequence[Row]) -> str:
    columns = _page_columns(rows)
    lines = [[_plain(column) for column in columns]]
    lines.append(["---:" if _right_aligned(rows, column) else "---" for column in columns])
    for row in rows:
        cells = {column: _plain(row.cells.get(column, "-")) for column in columns}
        lines.append([f"**{text}**" if column in row.best else text for column, text in cells.items()])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """The text with Markdown's special characters escaped."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
