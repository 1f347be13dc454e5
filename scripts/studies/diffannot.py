"""The ablation of DiffAnnot: losses, conditions, noise and settings, on held-out people, beside null controls."""

import statistics
from collections.abc import Sequence
from typing import Any

from noise2pose.errors import InputError
from noise2pose.metrics.keys import named
from scripts import ROOT, run
from scripts.studies import runs

NUM_SEEDS = 5
FRONT_END = "hmr_people"  # experiment and run
EXPERIMENT = "diffannot_people"
DATA = "configs/data/motion_bodies.yaml"
_PAPER = ("--model", "configs/methods/diffannot_paper.yaml")
_SHARED = ("--model.condition", "none")
# What each row is, and its options. The gammas are those of diffannot_paper.yaml; the first rows differ in them alone.
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "none": ("no further loss", _SHARED),
    "3d": ("L_3D", (*_SHARED, "--model.weight_3d", "5.0")),
    "2d": ("L_2D", (*_SHARED, "--model.weight_2d", "1.0")),
    "3d_2d": ("L_3D and L_2D", (*_SHARED, "--model.weight_3d", "5.0", "--model.weight_2d", "1.0")),
    "theta1": ("told Theta1", ("--model.condition", "frontend")),
    "keypoints": ("told the keypoints", ("--model.condition", "keypoints")),
    "both": ("told both", ("--model.condition", "both")),
    "frontend_noise": ("front-end errors as noise", (*_SHARED, "--model.noise", "frontend", "--model.sampler", "ddim")),
    "ddim": ("isotropic noise, DDIM", (*_SHARED, "--model.sampler", "ddim")),
    "paper": ("as the paper", _PAPER),
    "paper_mpjpe": ("as the paper, chosen by MPJPE", (*_PAPER, "--model.select_by", "mpjpe")),
}
_SAME_WEIGHTS = {"paper_mpjpe": "paper"}  # rows that differ in how they choose, and need no training
# Theta1 lies beyond the 60 steps of the paper's figure; without noise of its own a longer chain costs little.
_MAX_STEPS = {"frontend_noise": "100", "ddim": "100"}
_COLUMNS = (("fixed", "deployable"), ("guided", "deployable"), ("oracle", "oracle"))


def run_name(row: str, seed: int) -> str:
    return f"ablation_diffannot_{row}_seed{seed}"


def measure(row: str, seed: int, threads: int) -> None:
    """Trains, unless it is trained, and measures one row beside its null controls.

    Raises:
        InputError: if the front end is not trained.
    """
    name, best = run_name(row, seed), f"runs/{FRONT_END}/checkpoints/best.ckpt"
    if runs.record(name, "report/numbers.json"):
        return
    if not (ROOT / best).is_file():
        raise InputError(f"train the front end first: noise2pose train fit -c configs/experiments/{FRONT_END}.yaml")
    options = (*ROWS[row][1], "--model.frontend_checkpoint", best)
    trained = _SAME_WEIGHTS.get(row, row)
    if runs.record(run_name(trained, seed), "fit.json") is None:
        runs.fit(EXPERIMENT, run_name(trained, seed), seed, (*ROWS[trained][1], *options[-2:]), threads)
    steps = _MAX_STEPS.get(row, "60")
    select_by = "mpjpe" if row.endswith("_mpjpe") else "pa_mpjpe"
    checkpoint = f"runs/{run_name(trained, seed)}/checkpoints/best.ckpt"
    report = ("--data", DATA, "--output", f"runs/{name}/report", "--select_by", select_by, "--threads", str(threads))
    run("annotator_report", *report, "--max_steps", steps, "--max_people", "200", "--curve_people", "100", checkpoint)


def table(seeds: Sequence[int]) -> str:
    """Medians over the seeds with their range, trained and without a network, as Markdown."""
    errors = named("mpjpe", "pa_mpjpe")
    header = [
        "row",
        "what",
        "answer",
        *(f"{key.caption}, {of}" for of in ("trained", "null") for key in errors),
        "seeds",
    ]
    lines = []
    for row, (what, _) in ROWS.items():
        reports = [found for seed in seeds if (found := runs.record(run_name(row, seed), "report/numbers.json"))]
        if not reports:
            continue
        front = [_row(report, "deployable", "front end", "") for report in reports]
        cells = [_over_seeds(key, [each[key.name] for each in front]) for key in errors]
        lines.append([row, what, "front end", *cells, "", "", str(len(reports))])
        for selector, part in _COLUMNS:
            cells = [
                _over_seeds(key, [_row(report, part, selector, control)[key.name] for report in reports])
                for control in ("trained", "none")
                for key in errors
            ]
            lines.append(["", "", selector, *cells, ""])
    return runs.markdown(header, lines) if lines else ""


def _row(report: dict[str, Any], part: str, name: str, control: str) -> dict[str, Any]:
    """A row of the report of one checkpoint."""
    (rows,) = report[part]
    return next(row for row in rows if row["name"] == name and row["control"] == control)


def _over_seeds(key: Any, values: Sequence[float]) -> str:
    median = key.text(statistics.median(values))
    return f"{median} ({key.text(min(values))} to {key.text(max(values))})" if len(values) > 1 else median
