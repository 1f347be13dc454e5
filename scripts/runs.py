"""List runs: state, epoch, best error and age, from their folders alone."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from noise2pose.errors import InputError
from noise2pose.reports.listing import Status, statuses, table

DESCRIPTION = """Lists runs, the one that changed last first, from their folders alone.

examples:
  noise2pose runs
  noise2pose runs --state running killed
  noise2pose runs runs/sweep other/runs --json
"""
EPILOG = """how to read it:
  state    running: a process holds the run's lock; finished: the training came to its end; stopped: it was
           interrupted and saved itself, --ckpt_path last continues; killed: it ended otherwise, or its machine did;
           new: it was never trained here
  epoch    finished epochs and those that were asked for
  best     lowest MPJPE of its validations, on the first evaluation set
  age      since one of its files was written
"""
STATES = ("running", "finished", "stopped", "killed", "new")


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("places", nargs="*", type=Path, default=[Path("runs")], metavar="PLACE",
                        help="runs, or folders of runs (default: runs)")  # fmt: skip
    parser.add_argument("--state", nargs="+", choices=STATES, help="only runs of these states")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for other programs")
    arguments = parser.parse_args(args)
    try:
        found = statuses(arguments.places)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = [status for status in found if arguments.state is None or status.state in arguments.state]
    if arguments.json:
        for status in found:
            print(json.dumps(_record(status)))
    else:
        print(table(found) or "no runs")
    return 0


def _record(status: Status) -> dict[str, object]:
    best = {"metric": status.best[0].name, "value": status.best[1]} if status.best else None
    return {**vars(status), "folder": str(status.folder), "best": best}


if __name__ == "__main__":
    sys.exit(main())
