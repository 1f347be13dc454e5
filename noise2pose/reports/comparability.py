"""Which numbers may be compared: runs grouped by protocol, and warnings about the groups."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from noise2pose.files import archive_fingerprint
from noise2pose.metrics.keys import main_error
from noise2pose.metrics.protocols import Protocol
from noise2pose.reports.entries import Entry, entries_of
from noise2pose.reports.options import Changes, in_words, other_options, read_configuration
from noise2pose.reports.runs import Run

# What must be equal before two numbers are compared, and its name in reports.
_COMPARABLE = {
    "dataset": "data set",
    "split": "split",
    "skeleton": "skeleton",
    "joints": "joints",
    "pck_joints": "joints of PCK",
    "root": "root",
    "vertex_root": "root of vertices",
    "keypoints_2d": "2-D source",
    "train_keypoints_2d": "2-D source of the training",
    "ground_truth": "ground truth",
    "regressor": "regressor",
    "average": "average",
    "alignment": "alignment",
    "dimensions": "dimensions",
    "units": "units",
}


@dataclass(frozen=True)
class Group:
    """Tested runs that follow one protocol, best first.

    Attributes:
        letter: its name in the report.
        protocol: of the first run.
        runs: sorted by their error.
    """

    letter: str
    protocol: Protocol
    runs: list[Run]

    @cached_property
    def entries(self) -> list[Entry]:
        """Its rows: runs that differ in their seed alone are one, and the lowest median stands first."""
        return sorted(entries_of(self.runs), key=_rank)

    @property
    def heading(self) -> str:
        """The heading of its table."""
        return f"Protocol {self.letter} ({self.protocol.name}): {protocol_in_words(self.protocol)}"


def group_by_protocol(runs: Iterable[Run]) -> list[Group]:
    """The tested runs in groups that may be compared; a run that was tested on several sets is in several groups."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        for tested in run.evaluation_sets():
            groups.setdefault(tuple(getattr(tested.protocol, key) for key in _COMPARABLE), []).append(tested)
    return [
        Group(chr(ord("A") + i), members[0].protocol, sorted(members, key=_rank))
        for i, members in enumerate(groups.values())
    ]


def warnings(groups: Sequence[Group]) -> list[str]:
    """Why some numbers must not be compared, or not as those of one configuration; empty if all may be."""
    found = []
    names = [{run.name for run in group.runs} for group in groups]
    members = {run.folder: run for group in groups for run in group.runs}.values()
    if any(name != names[0] for name in names):  # else the groups are evaluation sets that all runs were tested on
        differing = []
        for key, words in _COMPARABLE.items():
            values = list(dict.fromkeys(json.dumps(getattr(group.protocol, key)) for group in groups))
            if len(values) > 1:
                differing.append(f"{words} ({' / '.join(value.strip(chr(34)) for value in values)})")
        found.append(
            f"NOT COMPARABLE: these runs follow {len(groups)} protocols, which differ in {', '.join(differing)}. "
            "Compare rows of the same protocol only."
        )
        for run in members:
            if other := _tested_otherwise(run):
                found.append(
                    f"{run.name} was tested on other data than it was trained with: {in_words(other)}. To test it on "
                    f"its own: {run.test_command}"
                )
    for group in groups:
        others = [run.name for run in group.runs if not same_samples(group.runs[0], run)]
        if others:
            found.append(
                f"NOT COMPARABLE: {', '.join(others)} saw other inputs than {group.runs[0].name} under the same sample "
                "names (another data.noise_seed, or data prepared differently)."
            )
        for entry in group.entries:
            epochs = {run.fit["epochs"] for run in entry.runs if "epochs" in run.fit}
            if len(epochs) > 1:
                told = ", ".join(f"{run.name} {run.fit.get('epochs', 'unknown')}" for run in entry.runs)
                found.append(f"The seeds of {entry.name} were trained for different numbers of epochs: {told}.")
    for run in members:
        if name := _outdated_checkpoint(run):
            found.append(
                f"OUTDATED: {run.name} was trained further after its test, and its {name} is another by now. To test "
                f"it again: {run.test_command}"
            )
        found += [f"{run.name} was resumed with other options {change}" for change in run.fit.get("changes") or []]
    return found


def _tested_otherwise(run: Run) -> Changes:
    """Options of the data that the test had otherwise than the training."""
    trained, tested = (read_configuration(run.folder / name) for name in ("config.yaml", "config_test.yaml"))
    return other_options("data", trained, tested) if trained and tested else {}


def _outdated_checkpoint(run: Run) -> str | None:
    """The checkpoint that a run was tested with, if the run has written another since; None if it is the same."""
    tested, path = run.test.get("checkpoint_fingerprint"), Path(str(run.test.get("checkpoint")))
    if not tested or path.parent.parent.name != run.test.get("run"):  # or it was tested with weights of another run
        return None
    now = archive_fingerprint(run.folder / "checkpoints" / path.name)
    return path.name if now and tested != now else None


def same_samples(first: Run, second: Run) -> bool:
    """Whether samples of the same name are equal; also true if there are none to compare."""
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


def protocol_in_words(protocol: Protocol) -> str:
    """One sentence with everything that a number of this protocol depends on."""
    which = "all joints" if protocol.joints is None else f"joints {', '.join(map(str, protocol.joints))}"
    where = (
        "reprojected into the whole image"
        if protocol.dimensions == 2
        else f"both poses centred on joint {protocol.root}"
    )
    words = [
        f"{protocol.dataset}, {protocol.split}; 2-D input: {source_in_words(protocol)}; error in {protocol.units} over "
        f"{which} of {protocol.skeleton}, {where}"
    ]
    if protocol.pck_joints:
        words.append(f"PCK and AUC over joints {', '.join(map(str, protocol.pck_joints))}")
    if protocol.ground_truth:
        words.append(f"ground truth: {protocol.ground_truth}")
    if protocol.regressor:
        words.append(f"joints by {protocol.regressor}")
    if protocol.vertex_root == "smpl":
        words.append("vertices centred on SMPL's pelvis")
    if protocol.average != "poses":
        words.append(f"unweighted mean over {protocol.average}")
    return "; ".join(words)


def source_in_words(protocol: Protocol) -> str:
    """The source of the 2-D input, and that of the training if it differs."""
    trained = protocol.train_keypoints_2d
    return f"{protocol.keypoints_2d} (trained on {trained})" if trained else protocol.keypoints_2d


def _rank(row: Run | Entry) -> float:
    protocol = row.protocol if isinstance(row, Run) else row.first.protocol
    name = main_error(protocol.dimensions).name
    value = row.metric(name) if isinstance(row, Run) else row.median(name)
    return value if value is not None and math.isfinite(value) else math.inf
