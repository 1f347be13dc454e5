"""`noise2pose COMMAND ...`: every script under one name. Nothing is imported but the command that was asked for."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Command(NamedTuple):
    """A command."""

    script: str  # its module in `scripts/`, whose `main(args)` returns the exit status
    about: str  # what it does, in a line
    example: str  # options of a typical call


COMMANDS = {
    "train": Command(
        "train",
        "train, resume, validate or test any method on any data",
        "fit -c configs/experiments/diffpose_synthetic_frame.yaml",
    ),
    "predict": Command(
        "predict",
        "3-D poses or bodies of people in images or keypoint files",
        "--checkpoint diffannot-people photo.jpg --output annotated",
    ),
    "view": Command("view", "what predict wrote, in space and over time, in a browser or as one page", "lifted"),
    "compare": Command("compare", "one table and one page of several runs", "runs/diffpose runs/context"),
    "dashboard": Command(
        "dashboard", "a report and workspace of W&B for some runs, or the page where W&B is out of reach", "runs/*"
    ),
    "runs": Command("runs", "runs with their state, epoch, best error and age", "--state running killed"),
    "prepare": Command(
        "prepare",
        "convert a data set, a body model or the 2-D detector",
        "threedpw --source 3DPW --output data/threedpw",
    ),
    "generate": Command(
        "generate",
        "make labelled people with a controlled diffusion model (Pose++)",
        "all generated -c configs/generation/small.yaml",
    ),
    "import": Command(
        "import_checkpoint",
        "turn published weights into a checkpoint of this project",
        "diffpose gcnpose.pth encoder.ckpt",
    ),
    "export": Command(
        "export",
        "write a trained method as a model folder with a card",
        "runs/my_run models/my_model --dtype float16",
    ),
    "ablations": Command("ablations", "train, test and tabulate the ablations of a method", "diffpose --seeds 0"),
    "sweep": Command("sweep", "search options of a training with optuna", "configs/sweeps/diffpose.yaml --trials 20"),
    "annotator-report": Command(
        "annotator_report",
        "what refinement by DiffAnnot gains, with every control",
        "--data configs/data/rendered_cmu_keypoints.yaml --output report FILE.ckpt",
    ),
    "benchmark": Command("benchmark", "measure the fast paths beside naive ones", "diffpose"),
    "doctor": Command("doctor", "what is installed and prepared, and the command for what is missing", ""),
    "demo": Command("demo", "train, test and compare two methods in a few minutes", ""),
    "fit-gmm": Command(
        "fit_gmm",
        "fit Gaussian mixtures to 2-D keypoints, as DiffPose's release reads them",
        "--keypoints FILE.npz --output FILE_gmm.npz",
    ),
    "completion": Command("completion", "print the tab completion of a shell", "bash"),
}


def usage() -> str:
    """Every command with what it does and an example."""
    lines = ["usage: noise2pose COMMAND [options]", ""]
    lines += ["Diffusion methods for human pose on one command line.", ""]
    for name, command in COMMANDS.items():
        lines += [f"  {name:<17} {command.about}", f"  {'':<17}   noise2pose {name} {command.example}".rstrip()]
    lines += ["", "All options of a command: noise2pose COMMAND --help"]
    return "\n".join(lines)


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status."""
    name, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.0)[0]
        print(f"error: there is no command {name}; did you mean {near}? All: noise2pose --help", file=sys.stderr)
        return 2
    if name != "train":  # whose processes for further GPUs are started with sys.argv as it is
        sys.argv = [f"noise2pose {name}", *rest]  # for usage lines
    return importlib.import_module(f"scripts.{COMMANDS[name].script}").main(rest)


if __name__ == "__main__":
    sys.exit(main())
