"""The runs of a study: a folder of `runs/` each, trained and tested by the command line as users have it."""

import csv
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noise2pose.files import write_text
from noise2pose.metrics.keys import MetricKey
from scripts import ROOT, run


def folder_of(name: str) -> Path:
    """The folder of a run."""
    return ROOT / "runs" / name


def record(name: str, file: str) -> dict[str, Any] | None:
    """A JSON file of a run, or None if it has not been written yet."""
    path = folder_of(name) / file
    return json.loads(path.read_text()) if path.is_file() else None


def write_record(name: str, file: str, values: dict[str, Any]) -> None:
    """Writes a JSON file of a run."""
    path = folder_of(name) / file
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(values, indent=2) + "\n")


def best_epoch(name: str, key: MetricKey) -> dict[str, int] | None:
    """Epoch with the smallest value of a metric on the first validation set, counted from 1, and how many there were.

    Args:
        name: of the run.
        key: metric, such as MPJPE.

    Returns:
        `epoch` and `epochs`, or None if the run was not trained or not validated.
    """
    fit, curve = record(name, "fit.json"), folder_of(name) / "metrics.csv"
    if fit is None or not curve.is_file():
        return None
    with curve.open(newline="") as file:
        lines = list(csv.DictReader(file))
    column = next((name for name in lines[0] if name.startswith("val/") and name.endswith(f"/{key.name}")), "")
    validated = [(float(line[column]), int(line["epoch"])) for line in lines if line.get(column)]
    return {"epoch": min(validated)[1] + 1, "epochs": fit["epochs"]} if validated else None


def fit(file: str, name: str, seed: int, options: Sequence[str], threads: int) -> None:
    """Trains a run, or continues it."""
    resumed = (folder_of(name) / "checkpoints" / "last.ckpt").is_file()
    _train("fit", file, name, seed, [*options, *(["--ckpt_path", "last"] if resumed else [])], threads)


def test(file: str, name: str, seed: int, options: Sequence[str], threads: int, weights: str = "") -> None:
    """Tests the best weights of the run `weights`, by default its own."""
    best = folder_of(weights or name) / "checkpoints" / "best.ckpt"
    _train("test", file, name, seed, [*options, "--ckpt_path", str(best.relative_to(ROOT))], threads)


def _train(verb: str, file: str, name: str, seed: int, options: Sequence[str], threads: int) -> None:
    arguments = ("-c", f"configs/experiments/{file}.yaml", "--name", name, "--seed_everything", str(seed))
    run("train", verb, *arguments, *options, OMP_NUM_THREADS=str(threads))


def values_of(tests: Sequence[dict[str, Any]], key: MetricKey, dataset: str) -> list[float]:
    """A metric of a test set in each test; empty if the method does not have it."""
    found = [test["metrics"].get(f"test/{dataset}/{key.name}") for test in tests]
    return [] if None in found else found


def median(tests: Sequence[dict[str, Any]], key: MetricKey, dataset: str) -> str:
    """Median over the tests; empty if the method does not have the metric."""
    found = values_of(tests, key, dataset)
    return key.text(statistics.median(found)) if found else ""


def median_and_range(tests: Sequence[dict[str, Any]], key: MetricKey, dataset: str) -> str:
    """Median with the smallest and the largest of the tests; empty if the method does not have the metric."""
    found = values_of(tests, key, dataset)
    if len(found) < 2:
        return median(tests, key, dataset)
    return f"{median(tests, key, dataset)} ({key.text(min(found))} to {key.text(max(found))})"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))
