"""Where things are that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARITY = ROOT / "tests" / "parity"
SHARED = ROOT.parent / "shared"  # data that may not be redistributed; tests that use it skip without it
