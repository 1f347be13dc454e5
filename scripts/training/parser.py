"""How the files and options of `train` are read, and how a wrong one is reported."""

import argparse
import re
import sys
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from scripts.training.help import ALL, VERBS
from scripts.training.suggestions import missing_configuration, nearest, nearest_class, nearest_option, options_of

MOST_ENTRIES = 100_000  # of a configuration; the largest of the project has a few hundred
# Class paths in the configurations of runs that were made before callbacks and data sets were put together.
MOVED = {
    "lightning.pytorch.loggers.WandbLogger": "methods.callbacks.RunWandbLogger",
    "methods.run.RunCSVLogger": "methods.callbacks.RunCSVLogger",
    "methods.checkpoints.WarmupEMA": "methods.callbacks.WarmupEMA",
    "datamodules.coco.COCO": "datamodules.annotated_people.COCO",
    "datamodules.crowdpose.CrowdPose": "datamodules.annotated_people.CrowdPose",
    "datamodules.halpe.Halpe": "datamodules.annotated_people.Halpe",
    "datamodules.muco.MuCo": "datamodules.annotated_people.MuCo",
    "datamodules.panoptic.Panoptic": "datamodules.occluded_people.Panoptic",
    "datamodules.threedoh.ThreeDOH": "datamodules.occluded_people.ThreeDOH",
    "datamodules.threedpw.ThreeDPW": "datamodules.occluded_people.ThreeDPW",
}
_NO = "there is no"
# Beginnings of the lines that the parser adds to the one that says what is wrong.
ADDED_BY_THE_PARSER = (
    "Does not validate against any of the Union subtypes",
    "Subtypes: ",
    "Errors:",
    "Expected a <class 'NoneType'>",
    "Given value type: ",
    "Given value: NestedArg(",
    "Given value: Namespace(",
    "Given value: {",
    "Given value: [",
    "Not a valid subclass of ",
    "Subclass types expect one of:",
    "a class path (str)",
    "a dict ",
    "Expected a path but ",
)


def renamed(text: str) -> str:
    """A text with the class paths of today."""
    for old, new in MOVED.items():
        text = text.replace(old, new)
    return text


@cache  # once in a process, which has one loader
def load_renamed(mode: str) -> None:
    """Makes the parsers of a mode read class paths of today in every file, also in those of `--model` and `--data`."""
    parser = ArgumentParser(parser_mode=mode)
    parser.add_argument("--any")
    parser.parse_string("any: text")  # makes the loader
    load = get_loader(mode)
    set_loader(mode, lambda text: load(renamed(text)), (yaml.YAMLError,))


class Parser(LightningArgumentParser):
    """Reports a wrong option in one line instead of listing every option first."""

    _reading: Any = "the command line"
    _given: tuple[str, ...] = ()  # arguments, of which the messages of the parser name a part

    def parse_args(self, args: Any = None, *more: Any, **options: Any) -> Any:
        self._given = tuple(sys.argv[1:] if args is None else args)
        return super().parse_args(args, *more, **options)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        outer, self._reading = self._reading, path  # not restored after an error, which then names the file
        try:
            parsed = super().parse_path(path, *args, **kwargs)
        except UnicodeDecodeError:
            self.error(f"{path} is not a configuration: it is no text in UTF-8")
        self._reading = outer
        return parsed

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Any:
        with suppress(yaml.YAMLError):  # which the parser reports
            tree = yaml.safe_load(content)
            if _entries(tree, {}) > MOST_ENTRIES:
                self.error(f"{self._reading}: with its aliases written out it has more than {MOST_ENTRIES:,} entries")
            self._check_changes(tree)
        return super().parse_string(content, *args, **kwargs)

    def _check_changes(self, tree: Any) -> None:
        """Refuses what would drop lines beside `config: OTHER.yaml`.

        That is: blocks such as `trainer:`, lines above it, and `data: FILE` beside a change of `data`.
        """
        if not isinstance(tree, dict) or "config" not in tree:
            return
        if next(iter(tree)) != "config":
            self.error(f"{self._reading}: `config: {tree['config']}` must be the first line, since it is read first")
        for key, value in tree.items():
            if isinstance(value, dict) and "class_path" not in value:
                first = next(iter(value), "max_epochs")
                self.error(
                    f"{self._reading}: beside `config: {tree['config']}` each line changes one option; write "
                    f"`{key}.{first}: ...` instead of a block `{key}:`, which would replace the whole of it"
                )
            changed = next((other for other in tree if other.startswith(f"{key}.")), None)
            if changed and isinstance(value, str):
                self.error(
                    f"{self._reading}: beside `config: {tree['config']}`, `{key}: {value}` would be dropped for "
                    f"`{changed}`; put that option into a file that `{key}` names, or give it on the command line"
                )

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        message = message.replace('"<unicode string>"', str(self._reading))
        command = (getattr(ex, "subcommand_parser", None) or self).prog.replace(" [options]", "")
        part = re.search(r'^Parser key "(model|data)":', message)
        named = re.search(r"class_path '(\S+)'", message)
        if missing := re.search(r"required: .*(model|data)$", message):
            message = f"--{missing[1]} is missing: give an experiment with -c configs/experiments/NAME.yaml"
        message = self._with_suggestion(_in_a_line(message))
        about = f"--help {ALL}" if command.endswith(VERBS) else "--help"
        if part and named and not message.startswith(_NO):
            about = f"--{part[1]}.help {named[1]}"
        self.exit(2, f"error: {message}\nall options: {command} {about}\n")

    def _with_suggestion(self, message: str) -> str:
        """A message, with what was probably meant."""
        near = None
        if found := re.search(r"unrecognized arguments: (--[^\s=]+)", message):
            given = [argument.partition("=")[0] for argument in self._given]
            shortened = (name for name in given if name.endswith(found[1].replace("--", ".", 1)))
            option = found[1] if found[1] in given else next(shortened, found[1])
            message = f"{_NO} option {option}"
            if part := re.match(r"--(model|data)\.", option):
                return f"{message}; --{part[1]}.help CLASS lists those of the class"
            near = nearest_option(option, self._options())
            if near is None:
                message += "; those of the method and of the data begin with --model. and --data."
        elif found := re.search(r"^argument --(\S+): expected one argument", message):
            bare = (
                name for name, value in pairwise((*self._given, "--")) if value.startswith("--") and "=" not in name
            )
            option = next((name for name in bare if name.startswith(f"--{found[1]}")), f"--{found[1]}")
            message = f"option {option} has no value"
        elif found := re.search(r"(\S+): Option '(\S+)' is not accepted", message):
            near = nearest(found[2], options_of(found[1]))
        elif found := re.search(
            r"^(?:Group '(\S+)' does not accept o|Subcommand '\S+' does not accept o|O)ption '(\S+)'", message
        ):
            key = ".".join(filter(None, found.groups()))
            near = nearest_option(f"--{key}", self._options())
            near, message = near and near.removeprefix("--"), f"no configuration has a key {key}"
        elif found := re.search(r"^(model|data): .*; Given value: (\S+\.ya?ml)$", message):
            return f"{_NO} file --{found[1]} {found[2]}; {missing_configuration(Path(found[2]))}"
        elif found := re.search(r"([\w.]+): module '?[\w.]+'? has no attribute", message):
            near, message = nearest_class(found[1]), f"{_NO} class {found[1]}"
        elif found := re.search(r"File does not exist: '(.+)'", message):
            return f"{message}; {missing_configuration(Path(found[1]))}"
        return f"{message}; did you mean {near}?" if near else message

    def _options(self) -> list[str]:
        """Options of this parser and of its subcommands."""
        parsers: list[argparse.ArgumentParser] = [self]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
        return [option for parser in parsers for action in parser._actions for option in action.option_strings]


def _in_a_line(message: str) -> str:
    """The parser's message without the types that it tried: a key, the class, its key, and what is wrong there."""
    told = ""
    for line in message.splitlines():
        line = line.strip().removeprefix("- ")
        if line and not line.startswith(ADDED_BY_THE_PARSER):
            line = re.sub(r"""^(?:Parser key|Problem with given class_path) ["'](\S+)["']:""", r"\1:", line)
            told += line if not told else f" {line}" if told.endswith(":") else f"; {line}"
    return told


def _entries(tree: Any, known: dict[int, int]) -> int:
    """How many entries a tree has, in which containers may be repeated; those in `known` have been counted."""
    if not isinstance(tree, dict | list):
        return 1
    if id(tree) not in known:
        known[id(tree)] = MOST_ENTRIES + 1  # if it holds itself
        known[id(tree)] = 1 + sum(_entries(part, known) for part in (tree.values() if isinstance(tree, dict) else tree))
    return known[id(tree)]
