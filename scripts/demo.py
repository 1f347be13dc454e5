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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = ("width=32", "num_blocks=2", "dropout=0.1")
DESCRIPTION = """Train DiffPose and its context encoder for a few minutes, test both, and compare them.

Real motion is used if data/cmu_mocap has been prepared (see `scripts/prepare.py cmu_mocap --help`), synthetic motion
otherwise. Three runs are trained with small networks and tested by the same command line as any other run:

  demo_encoder    the context encoder
  demo_diffpose   DiffPose (release variant), which starts from that encoder, frozen
  demo_control    the encoder alone, trained for as long as the two together: what the same computing time buys without
                  diffusion

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


def train_and_test(name: str, experiment: str, epochs: int, options: list[str]) -> float:
    """Trains and tests one run from scratch; returns the seconds that training took."""
    shutil.rmtree(ROOT / "runs" / name, ignore_errors=True)
    given = ["-c", f"configs/experiments/{experiment}.yaml", "--name", name, "--trainer.accelerator", "cpu", *options]
    given += ["--trainer.enable_model_summary", "false"]
    if not sys.stdout.isatty():
        given += ["--trainer.enable_progress_bar", "false"]
    run("train.py", "fit", *given, "--trainer.max_epochs", str(epochs))
    run("train.py", "test", *given, "--ckpt_path", "best")
    return json.loads((ROOT / "runs" / name / "fit.json").read_text())["seconds"]


def model_options(*values: str) -> list[str]:
    """Command-line options of the model from `key=value`."""
    return [word for value in values for word in (f"--model.{value.split('=')[0]}", value.split("=")[1])]


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5, help="of the encoder and of the denoiser (5)")
    parser.add_argument("--output", default="report", help="folder of the report (report)")
    arguments = parser.parse_args()
    started = time.perf_counter()
    data = "cmu" if (ROOT / "data" / "cmu_mocap" / "manifest.json").is_file() else "synthetic"
    about = {"cmu": "CMU motion capture", "synthetic": "synthetic motion (no real person)"}[data]
    print(f"The demo trains on {about}: small networks, simulated 2-D detections, CPU.")

    encoder = model_options(*SMALL)
    seconds = train_and_test("demo_encoder", f"context_{data}_frame", arguments.epochs, encoder)
    seconds_diffpose = train_and_test(
        "demo_diffpose",
        f"diffpose_{data}_frame",
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
    train_and_test("demo_control", f"context_{data}_frame", epochs, encoder)

    minutes = (time.perf_counter() - started) / 60.0
    note = (
        f"Made by `make demo` on {about}, in {minutes:.1f} minutes on a CPU, with small networks (width 32, 2 blocks): "
        "it shows that everything runs, not how good the methods are. The control is the encoder alone, trained for as "
        "long as encoder and DiffPose together; only what is better than it is gained by diffusion."
    )
    names = ("demo_encoder", "demo_diffpose", "demo_control")
    run("compare.py", *(f"runs/{name}" for name in names), "--output", arguments.output, "--title", "noise2pose demo",
        "--note", note)  # fmt: skip
    print(f"\nOpen {arguments.output}/index.html (it took {minutes:.1f} minutes).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
