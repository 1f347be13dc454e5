"""Options of the command line about motion over time; imports nothing heavy."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--smooth`."""
    parser.add_argument(
        "--smooth",
        default="none",
        metavar="FILTER",
        help="smooths the motion of each person: butterworth:HZ (no lag) or one_euro:HZ (default: none)",
    )
