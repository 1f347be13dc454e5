"""The commands, each a short composition root: `noise2pose COMMAND`, or `python scripts/COMMAND.py`."""

import sys
from pathlib import Path


def program(script: str) -> str:
    """How a script was called, for usage lines and hints: `noise2pose train` or `python scripts/train.py`."""
    called = Path(sys.argv[0]).name.partition(" ")[0]
    return f"noise2pose {script}" if called == "noise2pose" else f"python scripts/{script}.py"
