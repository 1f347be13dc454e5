"""Compare runs: one table here, and a page with curves and pictures."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from noise2pose.errors import InputError
from noise2pose.files import write_text
from noise2pose.metrics.keys import POSE_ERRORS, main_error, oracle_key
from noise2pose.reports.comparability import group_by_protocol
from noise2pose.reports.pages import write_report
from noise2pose.reports.runs import Run, load_run, run_folder
from noise2pose.reports.tables import text_report

DESCRIPTION = """Compare runs: prints one table, and writes report/index.html and report/report.md with validation
curves and with the predictions of every run for the same samples.

examples:
  noise2pose compare context_synthetic_frame diffpose_synthetic_frame
  noise2pose compare dpmesh_epoch_10 dpmesh_epoch_20 --oracle_per_set runs/dpmesh_oracle
  noise2pose compare runs/* --output report/cmu --title "Lifting on CMU motion" --note "One seed each."
"""
EPILOG = """how to read it:
  rows              runs that differ in their seed alone are one row: median (smallest-largest)
  vs best, p        over the people of the test set, paired with the best row: mean difference, and p of Wilcoxon's
                    signed-rank test corrected by Holm; of runs whose test.json has the errors of each person
  MPJPE, PA-MPJPE   mean error per joint in mm, after centring on the root / after the best similarity transform
  protocol          rows are comparable within one letter only: same data, split, joints, root, ground truth, average
                    and source of 2-D input; a run that was tested on several sets has several letters
  2-D               gt, detected (by a detector) or synthetic (simulated errors); "trained on" where that differs
  hyp., steps       hypotheses averaged for the answer, and denoiser calls for each (0: no diffusion)
  poses/s, training measured on the device named below the table; they compare on the same device only
  calibration       of methods with several hypotheses: how well their spread predicts the error; see docs/protocols.md
  oracle            numbers whose poses were chosen with the ground truth have a table of their own, beside the same
                    choice among poses of noise (null control); never compare them with the others
  --oracle_per_set  one checkpoint for each test set, chosen on it, as some releases report: for tests of several
                    checkpoints of one method; the null control is their mean. Choose on validation data instead.

A run is the folder that scripts/train.py fills. One that has not been tested is listed with the command to type.
Folders beside them that are no runs are skipped and named. A broken file ends the command with status 2 and is named.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or its name below runs/")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder to write (default: report)")
    parser.add_argument("--title", help="heading of the report")
    parser.add_argument("--note", default="", help="paragraph below the heading")
    parser.add_argument(
        "--oracle_per_set",
        type=Path,
        metavar="DIR",
        help="also write the best run of each test set, chosen there, to DIR",
    )
    arguments = parser.parse_args(args)
    try:
        runs = _load_each_once(_without_others(arguments.runs))
        if arguments.oracle_per_set is not None:
            runs.append(load_run(write_oracle(runs, arguments.oracle_per_set)))
        print(text_report(runs))
        page = write_report(runs, arguments.output, arguments.title, arguments.note)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\n{page}\n{page.with_name('report.md')}")
    return 0


def write_oracle(runs: Sequence[Run], folder: Path) -> Path:
    """Writes the record of a run that takes for each test set the best checkpoint on that set; returns its folder.

    Args:
        runs: tests of checkpoints of one method on the same sets.
        folder: to write `test.json` to; it must not hold anything else.

    Raises:
        InputError: if there are fewer than two runs, or they differ in method or test sets, or the folder holds more.
    """
    if len(runs) < 2 or any(not run.test for run in runs):
        raise InputError("--oracle_per_set chooses among runs that were tested: give two at least")
    if len(methods := {run.method for run in runs}) > 1:
        raise InputError(
            f"--oracle_per_set chooses among checkpoints of one method, not of {', '.join(sorted(methods))}"
        )
    if folder.exists() and {path.name for path in folder.iterdir()} - {"test.json"}:
        raise InputError(f"--oracle_per_set {folder} holds something else: give a folder of its own")
    groups, error, choice = group_by_protocol(runs), main_error(3), f"best_of_{len(runs)}_checkpoints"
    metrics, chosen = {}, {}
    for group in groups:
        dataset = group.protocol.dataset
        if len(group.runs) < len(runs) or any(run.metric(error.name) is None for run in group.runs):
            raise InputError(
                f"--oracle_per_set: not all of the runs have an {error.caption} on {dataset} by one protocol"
            )
        best = min(group.runs, key=lambda run: run.metrics()[error.name])
        chosen[dataset] = best.name
        for key in POSE_ERRORS:
            values = [run.metrics()[key.name] for run in group.runs if key.name in run.metrics()]
            if len(values) == len(runs):
                metrics[f"test/{dataset}/{oracle_key(choice, key.name)}"] = best.metrics()[key.name]
                metrics[f"test/{dataset}/{oracle_key(choice, key.name, null=True)}"] = sum(values) / len(values)
    first: dict[str, Any] = runs[0].test
    record = {
        **{key: first[key] for key in ("method", "num_steps", "parameters", "device", "poses_per_second")},
        "run": folder.name,
        "protocols": [group.protocol.as_dict() for group in groups],
        "command": f"noise2pose compare {' '.join(run.name for run in runs)} --oracle_per_set {folder.name}",
        "checkpoint": chosen,
        "metrics": metrics,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "test.json", json.dumps(record, indent=2) + "\n")
    return folder


def _without_others(names: Sequence[str]) -> Sequence[str]:
    """The names, without files and folders that are no runs, which are told; all of them if none is a run."""
    others = [name for name in names if Path(name).exists() and run_folder(Path(name)) is None]
    if not others or len(others) == len(names):
        return names
    print(f"skipped, not the folder of a run: {', '.join(others)}", file=sys.stderr)
    return [name for name in names if name not in others]


def _load_each_once(names: Sequence[str]) -> list[Run]:
    """The runs, each named by as many folders of its path as tell it from the others."""
    runs = {run.folder.resolve(): run for run in map(load_run, names)}
    labelled = []
    for folder, run in runs.items():
        lengths = range(1, len(folder.parts) + 1)
        alike = (sum(other.parts[-length:] == folder.parts[-length:] for other in runs) for length in lengths)
        length = next(length for length, number in zip(lengths, alike, strict=True) if number == 1)
        labelled.append(replace(run, label="/".join(folder.parts[-length:])))
    return labelled


if __name__ == "__main__":
    sys.exit(main())
