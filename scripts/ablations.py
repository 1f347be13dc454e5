"""Train and test every ablation of DiffPose with several seeds, and print their medians."""

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from noise2pose.files import write_text

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "configs" / "experiments" / "ablations"
DESCRIPTION = """Train and test every ablation of DiffPose (configs/experiments/ablations) with several seeds, and print
the medians, the gains over the context encoder, and whether the hypotheses are calibrated.

All runs of a seed start from the same encoder, which is trained once. What is finished is not trained again, and what
was interrupted continues, so the command can be stopped and repeated. Run several at once with different --seeds.

  python scripts/ablations.py                                     about two hours on one core
  python scripts/ablations.py --seeds 0 --only encoder gmm_5 control
  python scripts/ablations.py --table                             only prints the table of what there is
"""
# In this order: the first gives the others their encoder, the last the time that its two parts took.
TRAINED = ("encoder", "gmm_5", "control", "single_step", "stacked", "standard", "gmm_1", "gmm_9", "k_10", "k_100",
           "histogram", "release")  # fmt: skip
# Tests of the weights of gmm_5 with other settings.
TESTED = ("n_1", "n_2", "n_10", "n_20", "reprojection")


def run_name(experiment: str, seed: int) -> str:
    return f"ablation_{experiment}_seed{seed}"


def record(experiment: str, seed: int, file: str) -> dict[str, Any] | None:
    """A JSON file of a run, or None if the run has not got there."""
    path = ROOT / "runs" / run_name(experiment, seed) / file
    return json.loads(path.read_text()) if path.is_file() else None


def train(verb: str, experiment: str, seed: int, options: list[str]) -> None:
    """Calls the command line of training as a user would."""
    command = ["scripts/train.py", verb, "-c", str((FOLDER / f"{experiment}.yaml").relative_to(ROOT)), "--name",
               run_name(experiment, seed), "--seed_everything", str(seed), *options]  # fmt: skip
    if not sys.stdout.isatty():
        command += ["--trainer.enable_progress_bar", "false"]
    print(f"$ python {shlex.join(command)}", flush=True)
    if status := subprocess.run([sys.executable, *command], cwd=ROOT).returncode:
        sys.exit(f"error: that command ended with status {status}")


def run_one(experiment: str, seed: int) -> None:
    """Trains, unless it is trained, and tests one experiment."""
    if record(experiment, seed, "test.json"):
        return
    checkpoints = ROOT / "runs" / run_name("gmm_5" if experiment in TESTED else experiment, seed) / "checkpoints"
    encoder = f"runs/{run_name('encoder', seed)}/checkpoints/best.ckpt"
    options: list[str] = []
    if experiment == "control":
        options = ["--trainer.max_epochs", str(control_epochs(seed))]
    elif experiment != "encoder":
        options = ["--model.context_checkpoint", encoder, "--trainer.max_epochs", "12"]
    if experiment not in TESTED:
        resume = ["--ckpt_path", "last"] if (checkpoints / "last.ckpt").is_file() else []
        train("fit", experiment, seed, [*options, *resume])
    train("test", experiment, seed, [*options, "--ckpt_path", str(checkpoints / "best.ckpt")])


def control_epochs(seed: int) -> int:
    """Epochs that the encoder alone makes in the time that encoder and DiffPose took together, on this machine."""
    encoder, diffpose = record("encoder", seed, "fit.json"), record("gmm_5", seed, "fit.json")
    if encoder is None or diffpose is None:
        sys.exit("error: the control needs encoder and gmm_5 of the same seed to be trained first")
    epochs = encoder["epochs"] * (encoder["seconds"] + diffpose["seconds"]) / encoder["seconds"]
    return 4 * math.ceil(epochs / 4)  # validated every four epochs, the last one included


def table(seeds: list[int]) -> str:
    """Medians over the seeds, as Markdown; gains are of the medians, relative to the encoder alone."""
    header = ["experiment", "method", "MPJPE", "gain", "PA-MPJPE", "gain", "N", "coverage 50 / 90", "CRPS", "AUSE",
              "seconds", "seeds"]  # fmt: skip
    rows = []
    baseline: dict[str, float] = {}
    for experiment in (*TRAINED, *TESTED):
        tests = [test for seed in seeds if (test := record(experiment, seed, "test.json"))]
        fits = [fit for seed in seeds if (fit := record(experiment, seed, "fit.json"))]
        if not tests:
            continue
        values = {key: median(tests, key) for key in ("mpjpe", "pa_mpjpe", "calibration/coverage_50",
                  "calibration/coverage_90", "calibration/crps", "calibration/ause")}  # fmt: skip
        baseline = baseline or {key: values[key] or math.nan for key in ("mpjpe", "pa_mpjpe")}
        gains = {key: f"{100 * (1 - (values[key] or math.nan) / baseline[key]):+.1f} %" for key in baseline}
        coverage = [values["calibration/coverage_50"], values["calibration/coverage_90"]]
        rows.append(
            [
                experiment,
                tests[0]["method"],
                number(values["mpjpe"]),
                gains["mpjpe"],
                number(values["pa_mpjpe"]),
                gains["pa_mpjpe"],
                str(tests[0]["num_hypotheses"]),
                " / ".join(map(number, coverage)) if coverage[0] else "",
                number(values["calibration/crps"]),
                number(values["calibration/ause"]),
                f"{statistics.median(fit['seconds'] for fit in fits):.0f}" if fits else "",
                str(len(tests)),
            ]
        )
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def median(tests: list[dict[str, Any]], key: str) -> float | None:
    """Median over the seeds of a metric of the first test set, None if the method does not have it."""
    found = [test["metrics"].get(f"test/{test['dataset']}/{key}") for test in tests]
    return None if None in found else statistics.median(found)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds to run (0 1 2)")
    parser.add_argument("--only", nargs="+", choices=(*TRAINED, *TESTED), metavar="NAME", help="experiments to run")
    parser.add_argument("--table", action="store_true", help="train nothing, print what there is")
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    if not arguments.table:
        for experiment in (*TRAINED, *TESTED):
            for seed in arguments.seeds:
                if not arguments.only or experiment in arguments.only:
                    run_one(experiment, seed)
    text = table(arguments.seeds)
    print(text)
    if arguments.output:
        write_text(arguments.output, text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
