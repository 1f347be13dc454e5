"""What a report says, section by section, before it becomes a page or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from noise2pose.reports.comparability import Group, group_by_protocol
from noise2pose.reports.entries import entries_of
from noise2pose.reports.figures import (
    Picture,
    bars_pictures,
    curves_pictures,
    sample_pictures,
    sparsification_pictures,
)
from noise2pose.reports.runs import Run
from noise2pose.reports.tables import (
    BY_GROUP_TITLE,
    CALIBRATION_LEGEND,
    CALIBRATION_TITLE,
    ORACLE_TITLE,
    Row,
    calibration_rows,
    device_note,
    devices_of,
    legend_of,
    oracle_rows,
    result_rows,
    rows_by_group,
    settings_rows,
)

_ORACLE = (
    "The pose closest to the ground truth was chosen with the ground truth, which is unknown in use. The null control "
    "chooses among as many poses of pure noise with the same spread: its gain is the gain of choosing alone."
)
_SAMPLES = (
    "The same samples for every row, spread over the test set and not chosen by error. The person is seen from beside "
    "the camera, where errors in depth show; the floor is a metre wide."
)


@dataclass(frozen=True)
class Section:
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


def sections_of(runs: Sequence[Run]) -> list[Section]:
    """Everything that a report says about runs.

    Raises:
        InputError: if samples do not match their skeleton.
    """
    groups, devices = group_by_protocol(runs), devices_of(runs)
    untested = [run for run in runs if not run.test]
    tables = [_results(group, devices) for group in groups]
    if untested:
        commands = "; ".join(f"{run.name}: {run.test_command}" for run in untested)
        rows = result_rows(entries_of(untested), devices)
        tables.append((f"Not tested yet; type - {commands}", rows))
    sections = [Section("Results", [legend_of(groups), device_note(devices)], tables)]
    for group in groups:
        rows, pictures = rows_by_group(group), bars_pictures(group)
        if rows or pictures:
            title = BY_GROUP_TITLE.format(of=group.protocol.groups)
            sections.append(
                Section(f"Results of protocol {group.letter}", [], [(title, rows)] if rows else [], pictures)
            )
    calibrated = [(f"Protocol {group.letter}", rows) for group in groups if (rows := calibration_rows(group.entries))]
    if calibrated:
        pictures = [picture for group in groups for picture in sparsification_pictures(group)]
        sections.append(Section(CALIBRATION_TITLE, [CALIBRATION_LEGEND], calibrated, pictures))
    oracles = [(f"Protocol {group.letter}", rows) for group in groups if (rows := oracle_rows(group.entries))]
    if oracles:
        sections.append(Section(ORACLE_TITLE, [_ORACLE], oracles))
    named = [(f"Protocol {group.letter}", group.letter, group.entries) for group in groups]
    for title, name, entries in (*named, ("Not tested yet", "untested", entries_of(untested))):
        if curves := curves_pictures(entries, title, f"curves_{name}"):
            which = f", {title[0].lower()}{title[1:]}" if len(named) + bool(untested) > 1 else ""
            sections.append(Section(f"Validation while training{which}", pictures=curves, kind="curves"))
    for group in groups:
        where = f"Predictions, protocol {group.letter}" if len(groups) > 1 else "Predictions"
        if all(len(run.test["protocols"]) > 1 and not run.samples for run in group.runs):
            continue  # samples are kept of the first set only
        shown = sample_pictures(group)
        absent = [run.name for run in group.runs if not run.samples]
        text = [_SAMPLES] if shown else ["No sample was kept by every run of this protocol."]
        text += [f"No samples were kept by: {', '.join(absent)}."] if absent else []
        sections.append(Section(where, text, pictures=shown, kind="samples"))
    return sections


def _results(group: Group, devices: Sequence[str]) -> tuple[str, list[Row]]:
    """The table of a group, with the settings that differ as further columns."""
    rows, (found, more) = result_rows(group.entries, devices, group.letter), settings_rows(group.entries)
    if not found:
        return group.heading, rows
    own = set(rows[0].cells)
    for i, of_settings in enumerate(found):
        texts = list(of_settings.cells.items())[2:]
        named = {f"setting {key}" if key in own else key: text for key, text in texts}
        rows[i] = replace(rows[i], cells={**rows[i].cells, **named})
    heading = f"{group.heading}. The last columns are the settings that differ"
    return f"{heading}{f', of which there are {more} more' if more else ''}.", rows
