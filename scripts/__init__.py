"""The commands, each a short composition root: `noise2pose COMMAND`, or `python scripts/COMMAND.py`."""

import sys
from pathlib import Path


def program(script: str, command: str | None = None) -> str:
    """What was typed to run a script, for usage lines and hints: `noise2pose train` or `python scripts/train.py`."""
    called = Path(sys.argv[0]).name
    return f"noise2pose {command or script}" if called == "noise2pose" else f"python scripts/{script}.py"
