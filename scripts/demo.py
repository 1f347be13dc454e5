"""Train DiffPose and its context encoder for a few minutes, test both, and compare them: `make demo`."""

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = ("width=32", "num_blocks=2", "dropout=0.1")
DESCRIPTION = """Train DiffPose and its context encoder for a few minutes, test both, and compare them.

It uses real motion if data/cmu_mocap has been prepared (see `scripts/prepare.py cmu_mocap --help`) and synthetic motion
otherwise. Three runs with small networks are trained and tested by the same commands as any other run:

  demo_encoder    the context encoder
  demo_diffpose   DiffPose (release variant), which starts from that encoder, frozen
  demo_control    the encoder alone, trained for as long as the two together: what the same time gains without diffusion

It ends in report/index.html.
"""


def run(script: str, *arguments: str) -> None:
    """Runs one of the project's commands as a user would, and shows it."""
    command = [f"scripts/{script}", *arguments]
    print(f"\n$ python {shlex.join(command)}", flush=True)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment)
    if done.returncode:
        sys.exit(f"error: `python {shlex.join(command)}` ended with status {done.returncode}")


def train_and_test(name: str, method: str, data: str, epochs: int, options: list[str]) -> float:
    """Trains and tests one run from scratch; returns the seconds that training took."""
    shutil.rmtree(ROOT / "runs" / name, ignore_errors=True)
    given = ["-c", f"configs/experiments/{method}_synthetic_frame.yaml", "--data", f"configs/data/{data}_frame.yaml"]
    given += ["--name", name, "--trainer.accelerator", "cpu", *options, "--trainer.enable_model_summary", "false"]
    if not sys.stdout.isatty():
        given += ["--trainer.enable_progress_bar", "false"]
    run("train.py", "fit", *given, "--trainer.max_epochs", str(epochs))
    run("train.py", "test", *given, "--ckpt_path", "best")
    return json.loads((ROOT / "runs" / name / "fit.json").read_text())["seconds"]


def model_options(*values: str) -> list[str]:
    """Command-line options of the model from `key=value`."""
    return [word for value in values for word in (f"--model.{value.split('=')[0]}", value.split("=")[1])]


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5, help="of the encoder, and of the denoiser (default: 5)")
    parser.add_argument("--output", default="report", help="folder of the report (default: report)")
    arguments = parser.parse_args(args)
    started = time.perf_counter()
    data = "cmu" if (ROOT / "data" / "cmu_mocap" / "manifest.json").is_file() else "synthetic"
    about = {"cmu": "CMU motion capture", "synthetic": "synthetic motion (no real person)"}[data]
    print(f"The demo trains small networks on {about} with simulated 2-D detections, on the CPU.")

    encoder = model_options(*SMALL)
    seconds = train_and_test("demo_encoder", "context", data, arguments.epochs, encoder)
    seconds_diffpose = train_and_test(
        "demo_diffpose",
        "diffpose",
        data,
        arguments.epochs,
        model_options(
            *SMALL,
            "context_width=32",
            "context_blocks=2",
            "context_checkpoint=runs/demo_encoder/checkpoints/best.ckpt",
        ),
    )
    # As many epochs as fit into the time of the other two.
    epochs = math.ceil(arguments.epochs * (seconds + seconds_diffpose) / seconds)
    train_and_test("demo_control", "context", data, epochs, encoder)

    minutes = (time.perf_counter() - started) / 60.0
    note = (
        f"Made by `make demo` on {about}, in {minutes:.1f} minutes on a CPU, with small networks (width 32, 2 blocks): "
        "it shows that everything runs, not how good the methods are. The control is the encoder alone, trained for as "
        "long as encoder and DiffPose together: diffusion gains only what DiffPose does better than the control."
    )
    names = ("demo_encoder", "demo_diffpose", "demo_control")
    run("compare.py", *(f"runs/{name}" for name in names), "--output", arguments.output, "--title", "noise2pose demo",
        "--note", note)  # fmt: skip
    print(f"\nOpen {arguments.output}/index.html (it took {minutes:.1f} minutes).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
