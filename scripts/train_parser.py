"""How the files and options of `train` are read, and how a wrong one is reported."""

import argparse
import re
from contextlib import suppress
from typing import Any, NoReturn

import yaml
from jsonargparse import DefaultHelpFormatter
from lightning.pytorch.cli import LightningArgumentParser

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
)


class Help(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the line breaks of the examples."""


class Parser(LightningArgumentParser):
    """Reports a wrong option in one line instead of listing every option first."""

    _reading: Any = "the command line"

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        outer, self._reading = self._reading, path  # not restored after an error, which then names the file
        try:
            parsed = super().parse_path(path, *args, **kwargs)
        except UnicodeDecodeError:
            self.error(f"{path} is not a configuration: it is no text in UTF-8")
        self._reading = outer
        return parsed

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Any:
        for old, new in MOVED.items():
            content = content.replace(old, new)
        with suppress(yaml.YAMLError):  # which the parser reports
            tree = yaml.safe_load(content)
            if _entries(tree, {}) > MOST_ENTRIES:
                self.error(f"{self._reading}: with its aliases written out it has more than {MOST_ENTRIES:,} entries")
            self._check_changes(tree)
        return super().parse_string(content, *args, **kwargs)

    def _check_changes(self, tree: Any) -> None:
        """Refuses what would drop lines beside `config: OTHER.yaml`: blocks such as `trainer:`, or lines above it."""
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

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        message = message.replace('"<unicode string>"', str(self._reading))
        command = (getattr(ex, "subcommand_parser", None) or self).prog.replace(" [options]", "")
        part = re.search(r'^Parser key "(model|data)":', message)
        named = re.search(r"class_path '(\S+)'", message)
        about = f"--{part[1]}.help {named[1]}" if part and named else "--help"
        if missing := re.search(r"required: .*(model|data)$", message):
            message = f"--{missing[1]} is missing: give an experiment with -c configs/experiments/NAME.yaml"
        self.exit(2, f"error: {_in_a_line(message)}\nall options: {command} {about}\n")


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
