"""Options of the command line about motion over time; imports nothing heavy."""

import argparse
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--smooth`, `--level` and `--lock_feet`."""
    parser.add_argument(
        "--smooth",
        default="none",
        metavar="FILTER",
        help="smooths the motion of each person: butterworth:HZ (no lag) or one_euro:HZ (default: none)",
    )
    parser.add_argument(
        "--level",
        action="store_true",
        help="writes people upright, with y along an estimate of gravity, and reports feet that rest (default: as the "
        "camera saw them; pictures and --format are upright anyway)",
    )
    parser.add_argument(
        "--lock_feet",
        action="store_true",
        help="of bodies in a video: holds feet that rest where they are (docs/video.md)",
    )


def chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was chosen, by the names that predictions take.

    Raises:
        InputError: if there is no such filter.
    """
    from noise2pose.motion.filters import filter_of

    filter_of(arguments.smooth)
    return {"smooth": arguments.smooth, "level": arguments.level, "lock_feet": arguments.lock_feet}
