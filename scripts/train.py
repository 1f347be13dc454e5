"""Train, validate, test and predict with any method on any data."""

import sys
from collections.abc import Sequence

from scripts import program
from scripts.training.help import ALL, HELP, VERBS, page


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = sys.argv[1:] if args is None else list(args)
    if (text := page(given, program("train"))) is not None:
        print(text, end="")
        return 0
    from scripts.training.cli import run  # imports Lightning, which takes seconds

    return run(ordered(given))


def ordered(args: Sequence[str]) -> list[str]:
    """The arguments in the order in which settings are read: files, whole pieces, single options.

    A single option such as `--model.width` is understood only where the class that has it is known.
    """
    start = next((number for number, argument in enumerate(args, 1) if argument in VERBS), len(args))
    before, rest = list(args[:start]), list(args[start:])
    files, pieces, options = [], [], []
    while rest:
        argument = rest.pop(0)
        if argument in HELP and rest[:1] == [ALL]:
            del rest[0]  # which only `page` knows
        name, given, _ = argument.partition("=")
        kind = files if name in ("-c", "--config") else pieces if name in ("--model", "--data") else options
        kind.append(argument)
        if kind is not options and not given:
            kind += rest[:1]
            del rest[:1]
    return [*before, *files, *pieces, *options]


if __name__ == "__main__":
    sys.exit(main())
