"""The commands, each a short composition root: `noise2pose COMMAND`, or `python scripts/COMMAND.py`."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def program(script: str) -> str:
    """How a script was called, for usage lines and hints: `noise2pose train` or `python scripts/train.py`."""
    called = Path(sys.argv[0]).name.partition(" ")[0]
    return f"noise2pose {script}" if called == "noise2pose" else f"python scripts/{script}.py"


def run(script: str, *arguments: str, **environment: str) -> None:
    """Runs one of the commands as a user would, and shows it; ends this process if it fails."""
    command = [f"scripts/{script}.py", *arguments]
    if script == "train" and not sys.stdout.isatty():
        command += ["--trainer.enable_progress_bar", "false"]
    print(f"\n$ python {shlex.join(command)}", flush=True)
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(f"error: `python {shlex.join(command)}` ended with status {done.returncode}")
