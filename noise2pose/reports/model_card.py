"""The card of a model: README.md with the YAML head that model hubs read."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from noise2pose.errors import InputError
from noise2pose.metrics.keys import CALIBRATION, POSE_ERRORS, MetricKey
from noise2pose.reports.comparability import protocol_in_words
from noise2pose.reports.runs import Run

# Before it is what somebody wrote, after it what the command wrote.
MARK = "<!-- From here on written by `noise2pose export`. -->"
_HEAD = re.compile(r"---\n(.*?)\n---\n", re.DOTALL)
_LISTS = ("datasets", "metrics", "tags")
_UNKNOWN = "not stated"


LIFTS, GIVES_BODIES = "3d-human-pose-estimation", "human-mesh-recovery"  # tags: what a model answers with


def tags(folder: Path) -> list[str]:
    """The tags in the head of a model folder's card; none if there is no card."""
    card = folder / "README.md"
    head = _HEAD.match(card.read_text(encoding="utf-8")) if card.is_file() else None
    content = yaml.safe_load(head[1]) if head is not None else None
    found = content.get("tags") if isinstance(content, dict) else None
    return [str(tag) for tag in found] if isinstance(found, list) else []


class Notes(NamedTuple):
    """The hand-written part of a card.

    Attributes:
        head: keys of its YAML head, such as `license` (of the weights), `data_license` and `datasets`.
        text: Markdown below the title.
    """

    head: dict[str, Any]
    text: str


def read_notes(path: Path) -> Notes:
    """Reads the hand-written part of a card: Markdown, with a YAML head if you like; or a whole card, for its part.

    Raises:
        InputError: if the file is missing, or a key of the head has another type.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"--notes: {path} cannot be read as text ({error})") from error
    match = _HEAD.match(content)
    try:
        head = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError as error:
        raise InputError(f"--notes: {path}: the head between the lines --- is not YAML") from error
    if not isinstance(head, dict):
        raise InputError(f"--notes: {path}: the head between the lines --- holds no keys")
    for key, value in head.items():
        values = value if key in _LISTS and isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values) or (key in _LISTS and values == [value]):
            raise InputError(f"--notes: {path}: {key} is {value!r}, expected {'a list of ' * (key in _LISTS)}text")
    text = content[match.end() if match else 0 :].partition(MARK)[0]
    return Notes(head, re.sub(r"\A\s*# .*\n", "", text).strip())


def model_card(
    name: str, notes: Notes, facts: Mapping[str, str], tags: Iterable[str], run: Run | None, remarks: str, sha256: str
) -> str:
    """The text of a card.

    Args:
        name: of the model.
        notes: the hand-written part; what it has in its head is added to, or taken instead of, what is known here.
        facts: rows of the table about the model.
        tags: for hubs.
        run: whose test has the numbers; None, or one that has not been tested, for a card without numbers.
        remarks: what a reader of these numbers must know about the model.
        sha256: of model.safetensors.
    """
    sets = [each for each in run.evaluation_sets() if _numbers(each)] if run is not None else []
    measured = dict.fromkeys(key.name.rpartition("/")[2] for each in sets for key, _ in _numbers(each))
    head: dict[str, Any] = {
        "license": "unknown",
        "library_name": "noise2pose",
        "datasets": [run.fit["protocols"][0]["dataset"]] if run is not None and run.fit.get("protocols") else [],
        "metrics": list(measured),
        "tags": list(tags),
    }
    for key, value in notes.head.items():
        head[key] = list(dict.fromkeys([*head[key], *value])) if key == "tags" else value
    weights = head["license"] if head["license"] != "unknown" else _UNKNOWN
    licences = {
        "code": "apache-2.0 (noise2pose)",
        "weights": weights,
        "training data": head.get("data_license", _UNKNOWN),
    }
    lines = ["---", yaml.safe_dump(head, sort_keys=False, width=110, allow_unicode=True).rstrip(), "---"]
    lines += [f"# {name}", "", *([notes.text, ""] if notes.text else []), MARK, "", "## Model", "", *_table(facts)]
    if sets:
        lines += ["## Numbers", ""] + ([remarks, ""] if remarks else [])
        for each in sets:
            lines += [*_measurement(each), ""]
    lines += ["## Licences", "", *_table(licences), f"SHA-256 of model.safetensors: `{sha256}`"]
    return "\n".join(lines) + "\n"


def _numbers(run: Run) -> list[tuple[MetricKey, float]]:
    """Deployable numbers of a run on one evaluation set."""
    found = {**run.metrics(), **run.calibration()}
    return [(key, found[key.name]) for key in (*POSE_ERRORS, *CALIBRATION) if key.name in found]


def _measurement(run: Run) -> list[str]:
    """Protocol, numbers and command of one evaluation set."""
    test = run.test
    seed, commit = (test[key] if test.get(key) is not None else "unknown" for key in ("seed", "commit"))
    return [
        f"Protocol `{run.protocol.name}`: {protocol_in_words(run.protocol)}. Hypotheses averaged: "
        f"{run.protocol.num_hypotheses}; denoiser calls per hypothesis: {test['num_steps']}.",
        "",
        *_table({key.caption: f"{key.text(value)} {key.unit}" for key, value in _numbers(run)}),
        f"Measured at commit {commit}, seed {seed}, on {test['device']}, with",
        "",
        "```",
        test["command"],
        "```",
    ]


def _table(rows: Mapping[str, str]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items()), ""]
