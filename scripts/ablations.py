"""Train and test every ablation of DiffPose with several seeds, and print their medians."""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from noise2pose.files import write_text
from noise2pose.metrics.keys import CALIBRATION, MetricKey, named
from scripts import ROOT, run

DESCRIPTION = """Train and test every ablation of a method with several seeds, and print the medians.

diffpose  configs/experiments/diffpose_ablation.yaml with one option changed at a time: gains over the context encoder,
          and whether the hypotheses are calibrated. All runs of a seed start from one encoder, which is trained once.
dpmesh    configs/experiments/dpmesh_*.yaml: what heat-maps, context, reasoning and the diffusion prior are worth, and
          other backbones. All runs start from one prior, which must be trained first.

Finished runs are not trained again and interrupted ones continue, so the command can be stopped and repeated. Several
can run at once with different --seeds.

  noise2pose ablations diffpose                            about two hours on one core
  noise2pose ablations diffpose --seeds 0 --only encoder gmm_5 control
  noise2pose ablations dpmesh                              about four hours on one core
  noise2pose ablations dpmesh --table                      trains nothing, prints the table of what is finished
"""
# Experiment -> options. In this order: the first gives the others their encoder; the control needs the times of both.
DIFFPOSE = {
    "encoder": "--model methods.diffpose.ContextEncoder --trainer.max_epochs 20",  # the context encoder alone
    "gmm_5": "--model.num_components 5",  # the paper's method
    "control": "--model methods.diffpose.ContextEncoder",  # the encoder, trained for as long as encoder and gmm_5
    "single_step": "--model.variant single_step",  # the paper's baseline A
    "stacked": "--model.variant stacked",  # baseline B: as many networks in a row as DiffPose has steps
    "standard": "--model.variant standard",  # Eq. 4, from white noise that knows nothing of the pose
    "gmm_1": "--model.num_components 1",
    "gmm_9": "--model.num_components 9",
    "k_10": "--model.num_diffusion_steps 10",
    "k_100": "--model.num_diffusion_steps 100",
    "histogram": "--model.depth_from histogram",  # depth of H_K from the training poses instead of the encoder
    "release": "--model.variant release",  # as the authors' code does it
    # Tests of the weights of gmm_5.
    "n_1": "--model.num_hypotheses 1",
    "n_2": "--model.num_hypotheses 2",
    "n_10": "--model.num_hypotheses 10",
    "n_20": "--model.num_hypotheses 20",
    "reprojection": "--model.aggregation reprojection",
}
TESTED = ("n_1", "n_2", "n_10", "n_20", "reprojection")
PRIOR = "dpmesh_prior"  # experiment and run
DPMESH = {  # experiment -> what it is: in the order of the paper's table, then what the paper does not have
    "z0": "latents alone",
    "heatmap": "+ heat-maps",
    "context": "+ context",
    "nkr": "+ reasoning",
    "random": "context, random weights",
    "random_full": "context, random weights, all trained",
    "full": "context, all trained",
    "resnet50": "ResNet-50",
    "transformer": "transformer",
}
WITHOUT_PRIOR = ("random", "random_full", "resnet50", "transformer")


def run_name(method: str, experiment: str, seed: int) -> str:
    return f"ablation_{'' if method == 'diffpose' else f'{method}_'}{experiment}_seed{seed}"


def record(name: str, file: str) -> dict[str, Any] | None:
    """A JSON file of a run, or None if it has not been written yet."""
    path = ROOT / "runs" / name / file
    return json.loads(path.read_text()) if path.is_file() else None


def train(verb: str, experiment: str, name: str, seed: int, options: list[str], weights: str = "") -> None:
    """Calls the command line of training: it continues a run, or tests the best weights of the run `weights`."""
    last = ROOT / "runs" / name / "checkpoints" / "last.ckpt"
    if verb == "test":
        options = [*options, "--ckpt_path", str(ROOT / "runs" / weights / "checkpoints" / "best.ckpt")]
    elif last.is_file():
        options = [*options, "--ckpt_path", "last"]
    file = f"configs/experiments/{experiment}.yaml"
    run("train", verb, "-c", file, "--name", name, "--seed_everything", str(seed), *options)


def run_diffpose(experiment: str, seed: int) -> None:
    """Trains, unless it is trained, and tests one experiment."""
    name, file = run_name("diffpose", experiment, seed), "diffpose_ablation"
    if record(name, "test.json"):
        return
    weights = run_name("diffpose", "gmm_5", seed) if experiment in TESTED else name
    options = DIFFPOSE[experiment].split()
    if experiment == "control":
        options += ["--trainer.max_epochs", str(control_epochs(seed))]
    elif experiment != "encoder":
        encoder = f"runs/{run_name('diffpose', 'encoder', seed)}/checkpoints/best.ckpt"
        options += ["--model.context_checkpoint", encoder, "--trainer.max_epochs", "12"]
    if experiment not in TESTED:
        train("fit", file, name, seed, options)
    train("test", file, name, seed, options, weights)


def run_dpmesh(experiment: str, seed: int) -> None:
    """Trains, unless it is trained, and tests one experiment."""
    name, file = run_name("dpmesh", experiment, seed), f"dpmesh_{experiment}"
    if record(name, "test.json"):
        return
    if experiment not in WITHOUT_PRIOR and not prior_is_trained():
        sys.exit(f"error: train the prior first: noise2pose train fit -c configs/experiments/{PRIOR}.yaml")
    train("fit", file, name, seed, [])
    train("test", file, name, seed, [], name)


def prior_is_trained() -> bool:
    """Whether the prior's run has all its epochs."""
    from omegaconf import OmegaConf

    fit = record(PRIOR, "fit.json")
    if fit is None:
        return False
    config: Any = OmegaConf.load(ROOT / "runs" / PRIOR / "config.yaml")
    return fit["epochs"] >= config.trainer.max_epochs


def control_epochs(seed: int) -> int:
    """Epochs of the encoder alone that take as long as encoder and DiffPose took together, on this machine."""
    encoder, diffpose = (record(run_name("diffpose", name, seed), "fit.json") for name in ("encoder", "gmm_5"))
    if encoder is None or diffpose is None:
        sys.exit("error: the control needs encoder and gmm_5 of the same seed to be trained first")
    epochs = encoder["epochs"] * (encoder["seconds"] + diffpose["seconds"]) / encoder["seconds"]
    return 4 * math.ceil(epochs / 4)  # validated every four epochs, the last one included


def diffpose_table(seeds: list[int]) -> str:
    """Medians over the seeds, as Markdown; gains are of the medians, relative to the encoder alone."""
    errors, (coverage_50, coverage_90, *scores) = named("mpjpe", "pa_mpjpe"), CALIBRATION
    header = ["experiment", "method", *(column for key in errors for column in (key.caption, "gain")), "N",
              "coverage 50 / 90", *(key.caption for key in scores), "seconds", "seeds"]  # fmt: skip
    rows = []
    baseline: dict[str, float] = {}
    for experiment in DIFFPOSE:
        tests, seconds = finished("diffpose", experiment, seeds)
        if not tests:
            continue
        cells = [experiment, tests[0]["method"]]
        for key in errors:
            value = statistics.median(values_of(tests, key) or [math.nan])
            gain = 1.0 - value / baseline.setdefault(key.name, value)
            cells += [key.text(value), f"{100 * gain:+.1f} %"]
        coverage = [median(tests, key) for key in (coverage_50, coverage_90)]
        cells += [str(tests[0]["protocols"][0]["num_hypotheses"]), " / ".join(coverage) if all(coverage) else ""]
        rows.append([*cells, *(median(tests, key) for key in scores), seconds, str(len(tests))])
    return markdown(header, rows)


def dpmesh_table(seeds: list[int]) -> str:
    """Medians over the seeds with their range, as Markdown."""
    errors = named("mpjpe", "pa_mpjpe", "pve")
    header = ["experiment", "what", *(f"{key.caption} (range)" for key in errors), "seconds", "seeds"]
    rows = []
    for experiment, what in DPMESH.items():
        tests, seconds = finished("dpmesh", experiment, seeds)
        if tests:
            cells = [f"{median(tests, key)} ({spread(tests, key)})" for key in errors]
            rows.append([f"dpmesh_{experiment}", what, *cells, seconds, str(len(tests))])
    return markdown(header, rows)


def finished(method: str, experiment: str, seeds: list[int]) -> tuple[list[dict[str, Any]], str]:
    """Tests of an experiment, and the median of the seconds that its trainings took."""
    runs = [run_name(method, experiment, seed) for seed in seeds]
    tests = [test for run in runs if (test := record(run, "test.json"))]
    fits = [fit for run in runs if (fit := record(run, "fit.json"))]
    return tests, f"{statistics.median(fit['seconds'] for fit in fits):.0f}" if fits else ""


def values_of(tests: list[dict[str, Any]], key: MetricKey) -> list[float]:
    """A metric of the first test set in each test; empty if the method does not have it."""
    found = [test["metrics"].get(f"test/{test['protocols'][0]['dataset']}/{key.name}") for test in tests]
    return [] if None in found else found


def median(tests: list[dict[str, Any]], key: MetricKey) -> str:
    """Median over the seeds; empty if the method does not have the metric."""
    found = values_of(tests, key)
    return key.text(statistics.median(found)) if found else ""


def spread(tests: list[dict[str, Any]], key: MetricKey) -> str:
    """Smallest and largest over the seeds; empty as for the median."""
    found = values_of(tests, key)
    return f"{key.text(min(found))} to {key.text(max(found))}" if found else ""


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# Experiments in the order in which they are run; what trains and tests one with a seed; the table of what is finished.
STUDIES: dict[str, tuple[Collection[str], Callable[[str, int], None], Callable[[list[int]], str]]] = {
    "diffpose": (DIFFPOSE, run_diffpose, diffpose_table),
    "dpmesh": (DPMESH, run_dpmesh, dpmesh_table),
}


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=list(STUDIES), help="whose ablations")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds to run (default: 0 1 2)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="experiments to run")
    parser.add_argument("--table", action="store_true", help="train nothing, print what is finished")
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args(args)
    experiments, train_and_test, table = STUDIES[arguments.method]
    chosen = [name.removeprefix(f"{arguments.method}_") for name in arguments.only or experiments]
    if unknown := set(chosen) - set(experiments):
        parser.error(f"--only {' '.join(sorted(unknown))}: expected some of {', '.join(experiments)}")
    if not arguments.table:
        for seed in arguments.seeds:
            for experiment in (name for name in experiments if name in chosen):
                train_and_test(experiment, seed)
    text = table(arguments.seeds)
    if len(text.splitlines()) == 2:
        print("no experiment of these seeds is finished yet", file=sys.stderr)
    print(text)
    if arguments.output:
        write_text(arguments.output, text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
