"""The ablation of DPMesh: what heat-maps, context, reasoning and the diffusion prior are worth, and other backbones."""

import statistics
from collections.abc import Sequence
from typing import Any

from noise2pose.errors import InputError
from noise2pose.metrics.keys import named
from scripts.studies import runs

NUM_SEEDS = 3
PRIOR = "dpmesh_prior"  # experiment and run
CODEBOOK = "dpmesh_codebook_motion"  # the same
ROWS = {  # experiment -> what it is: in the order of the paper's table, then what the paper does not have
    "z0": "latents alone",
    "heatmap": "+ heat-maps",
    "add": "+ heat-maps, added to the latents",
    "context": "+ context",
    "nkr": "+ reasoning",
    "vq_soft": "context, codebook, averages of codes",
    "vq_ce": "context, codebook, most probable codes",
    "random": "context, random weights",
    "random_full": "context, random weights, all trained",
    "full": "context, all trained",
    "resnet50": "ResNet-50",
    "transformer": "transformer",
}
WITH_CODEBOOK = ("vq_soft", "vq_ce")
WITHOUT_PRIOR = ("random", "random_full", "resnet50", "transformer")


def run_name(row: str, seed: int) -> str:
    return f"ablation_dpmesh_{row}_seed{seed}"


def measure(row: str, seed: int, threads: int) -> None:
    """Trains, unless it is trained, and tests one row.

    Raises:
        InputError: if it starts from the prior or needs the codebook, which is not trained.
    """
    name, file = run_name(row, seed), f"dpmesh_{row}"
    if runs.record(name, "test.json"):
        return
    if row not in WITHOUT_PRIOR and not _is_trained(PRIOR):
        raise InputError(f"train the prior first: noise2pose train fit -c configs/experiments/{PRIOR}.yaml")
    if row in WITH_CODEBOOK and not _is_trained(CODEBOOK):
        raise InputError(f"train the codebook first: noise2pose train fit -c configs/experiments/{CODEBOOK}.yaml")
    runs.fit(file, name, seed, [], threads)
    runs.test(file, name, seed, [], threads)


def table(seeds: Sequence[int]) -> str:
    """Medians over the seeds with their range, as Markdown."""
    errors = named("mpjpe", "pa_mpjpe", "pve")
    header = ["experiment", "what", *(f"{key.caption} (range)" for key in errors), "seconds", "seeds"]
    rows = []
    for row, what in ROWS.items():
        names = [run_name(row, seed) for seed in seeds]
        tests = [test for name in names if (test := runs.record(name, "test.json"))]
        fits = [fit for name in names if (fit := runs.record(name, "fit.json"))]
        if not tests:
            continue
        dataset = tests[0]["protocols"][0]["dataset"]
        seconds = f"{statistics.median(fit['seconds'] for fit in fits):.0f}" if fits else ""
        cells = [runs.median_and_range(tests, key, dataset) for key in errors]
        rows.append([f"dpmesh_{row}", what, *cells, seconds, str(len(tests))])
    return runs.markdown(header, rows) if rows else ""


def _is_trained(name: str) -> bool:
    """Whether a run has all its epochs."""
    from omegaconf import OmegaConf

    fit = runs.record(name, "fit.json")
    if fit is None:
        return False
    config: Any = OmegaConf.load(runs.folder_of(name) / "config.yaml")
    return fit["epochs"] >= config.trainer.max_epochs
