"""Turn weights that the authors of a method published into a checkpoint of this project."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import methods
from noise2pose.errors import InputError
from noise2pose.files import replacing

DESCRIPTION = """Turn weights that the authors of a method published into a checkpoint of this project.

  noise2pose import METHOD --help
  noise2pose import METHOD SOURCE OUTPUT

A file may hold the weights alone, a dictionary with them, or the release's list; prefixes such as `module.` are
removed. Nothing in a file is run.
"""


def _parser(args: Sequence[str]) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=raw)
    commands = parser.add_subparsers(required=True, metavar="METHOD", dest="method")
    for file in sorted(file for folder in methods.__path__ for file in Path(folder).glob("*/official.py")):
        name = file.parent.name
        command = commands.add_parser(name, help=f"published weights of methods/{name}", formatter_class=raw)
        if name not in args:  # a method that is not asked for need not be imported
            continue
        official = importlib.import_module(f"methods.{name}.official")
        command.description = official.DESCRIPTION
        command.add_argument("source", type=Path, help="published file")
        command.add_argument("output", type=Path, help="checkpoint to write")
        official.add_options(command)
        command.set_defaults(run=official.import_checkpoint)
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = sys.argv[1:] if args is None else args
    arguments = _parser(args).parse_args(args)
    try:
        imported = arguments.run(arguments)
    except InputError as error:
        source = str(arguments.source)
        print(f"error: {error}" if source in str(error) else f"error: {source}: {error}", file=sys.stderr)
        return 2
    checkpoint = {
        "state_dict": dict(imported.state_dict),
        "hyper_parameters": imported.arguments,
        "class_path": imported.class_path,
        # What the Trainer reads, so that the checkpoint can be tested.
        **{"epoch": 0, "global_step": 0, "pytorch-lightning_version": version("lightning")},
    }
    import torch  # here, so that `--help` need not wait for it

    with replacing(arguments.output) as partial:
        torch.save(checkpoint, partial)
    sizes = {key: imported.arguments[key] for key in ("width", "num_blocks", "hidden") if key in imported.arguments}
    number = sum(value.numel() for value in imported.state_dict.values())
    print(
        f"{arguments.output}: {imported.class_path}, {number} parameters",
        *(f"{key} {size}" for key, size in sizes.items()),
        sep=", ",
    )
    if imported.next_commands:
        print(f"next:\n{imported.next_commands}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
