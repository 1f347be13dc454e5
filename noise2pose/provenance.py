"""Which code a number comes from."""

import subprocess
from functools import cache
from pathlib import Path


@cache
def commit() -> str | None:
    """The project's commit, with a `+` if files differ from it; None outside a checkout."""
    where = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=where,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
