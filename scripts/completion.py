"""Print the tab completion of `noise2pose` for a shell; docs/command_line.md says where to keep it."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import jsonargparse

from scripts.command_line import COMMANDS

DESCRIPTION = """Print the tab completion of `noise2pose` for a shell: commands, options, choices and file names.

  pip install shtab
  noise2pose completion bash > ~/.local/share/bash-completion/completions/noise2pose
"""


class _Found(BaseException):
    """Carries a parser out of the command that was about to use it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def parser_of(run: Callable[[Sequence[str]], int], args: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of a command, which is started and stopped where it would read its options."""

    def stop(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise _Found(parser)

    classes = (argparse.ArgumentParser, jsonargparse.ArgumentParser)
    with mock.patch.object(classes[0], "parse_args", stop), mock.patch.object(classes[1], "parse_args", stop):
        try:
            run(list(args))
        except _Found as found:
            names = [name for action in _subcommands(found.parser) for name in action.choices]
            # Some commands add the options of a subcommand only where it is named.
            return parser_of(run, names) if names and not args else found.parser
    raise AssertionError(f"{run} reads no options")


def whole_parser(file: dict[str, str]) -> argparse.ArgumentParser:
    """All commands as one parser for shtab, in which every option without choices takes a file.

    Args:
        file: how shtab completes file names.
    """
    whole = argparse.ArgumentParser(prog="noise2pose")
    commands = whole.add_subparsers()
    for name, command in COMMANDS.items():
        parser = parser_of(importlib.import_module(f"scripts.{command.script}").main)
        commands.add_parser(name, help=command.about, parents=[parser], add_help=False)
        parsers = [parser, *(sub for action in _subcommands(parser) for sub in action.choices.values())]
        for action in (action for each in parsers for action in each._actions):
            if action.nargs != 0 and not action.choices:
                action.complete = file  # type: ignore[attr-defined]
    return whole


def _subcommands(parser: argparse.ArgumentParser) -> list[Any]:
    return [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="whose completion to print")
    arguments = parser.parse_args(args)
    try:
        import shtab  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("error: this needs shtab: pip install shtab", file=sys.stderr)
        return 2
    print(shtab.complete(whole_parser(shtab.FILE), arguments.shell))
    return 0


if __name__ == "__main__":
    sys.exit(main())
