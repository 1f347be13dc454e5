"""One checkpoint for each test set, chosen on that test set: what releases did, and what is never a result.

Such numbers were chosen with the ground truth, so they stand under `oracle/` only, beside a null control: what the
checkpoints give on average, which is what one gets who chooses none.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noise2pose.errors import InputError
from noise2pose.files import write_text
from noise2pose.reports.comparability import group_by_protocol
from noise2pose.reports.runs import Run

_ERRORS = ("mpjpe", "pa_mpjpe", "pve")


def write_oracle(runs: Sequence[Run], folder: Path) -> Path:
    """Writes the record of a run that has, of every test set, the checkpoint with the smallest MPJPE there.

    Args:
        runs: tests of checkpoints of one method on the same sets.
        folder: to write `test.json` to, which `load_run` reads; it holds nothing else.

    Returns:
        The folder.

    Raises:
        InputError: if there are fewer than two runs, or they differ in method or test sets, or the folder holds more.
    """
    if len(runs) < 2 or any(not run.test for run in runs):
        raise InputError("--oracle_per_set chooses among runs that were tested: give two at least")
    if len(methods := {run.method for run in runs}) > 1:
        raise InputError(
            f"--oracle_per_set chooses among checkpoints of one method, not of {', '.join(sorted(methods))}"
        )
    groups = group_by_protocol(runs)
    for group in groups:
        if len(group.runs) < len(runs) or any(run.metric("mpjpe") is None for run in group.runs):
            raise InputError(
                f"--oracle_per_set: not all of the runs have an MPJPE on {group.protocol['dataset']} by one protocol"
            )
    if folder.exists() and {path.name for path in folder.iterdir()} - {"test.json"}:
        raise InputError(f"--oracle_per_set {folder} holds something else: give a folder of its own")
    metrics, chosen = {}, {}
    for group in groups:
        prefix = f"test/{group.protocol['dataset']}/oracle/best_of_{len(runs)}_checkpoints"
        best = min(group.runs, key=lambda run: float(run.metrics()["mpjpe"]))
        chosen[group.protocol["dataset"]] = best.name
        for name in _ERRORS:
            values = [run.metrics()[name] for run in group.runs if name in run.metrics()]
            if len(values) == len(runs):
                metrics[f"{prefix}/{name}"] = best.metrics()[name]
                metrics[f"{prefix}_null/{name}"] = sum(values) / len(values)
    first: dict[str, Any] = runs[0].test
    record = {
        **{key: first[key] for key in ("method", "steps", "parameters", "device", "poses_per_second")},
        "run": folder.name,
        "dataset": groups[0].protocol["dataset"],
        "protocol": groups[0].protocol,
        "protocols": [group.protocol for group in groups],
        "command": f"python scripts/compare.py {' '.join(run.name for run in runs)} --oracle_per_set {folder.name}",
        "checkpoint": chosen,
        "metrics": metrics,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "test.json", json.dumps(record, indent=2) + "\n")
    return folder
