"""Train, validate, test and predict with any method on any data."""

import argparse
import os
import re
import shlex
import sys
import textwrap
import traceback
import warnings
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
import yaml
from jsonargparse import DefaultHelpFormatter, Namespace, set_parsing_settings
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.base import PoseDataModule
from methods.base import PoseMethod
from methods.callbacks.outputs import PredictionWriter, ValidationPictures
from methods.callbacks.run_record import RunRecord, check_free, check_name
from methods.callbacks.stopping import FiniteTraining, Interrupted, Interruption, handled, interrupt
from methods.checkpoints import AtomicCheckpointIO, find_checkpoint
from noise2pose.errors import InputError
from noise2pose.files import lock, unwritable
from scripts import program

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MOST_ENTRIES = 100_000  # of a configuration; the largest of the project has a few hundred
LIMITS = tuple(f"limit_{stage}_batches" for stage in ("train", "val", "test", "predict"))
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
# Lightning's warnings about what is intended here.
INTENDED = (
    r".*isinstance\(treespec, LeafSpec\).*",
    r"LightningCLI's args parameter is intended to run from within Python.*",
    r"Found \d+ module\(s\) in eval mode.*",  # the frozen parts of a method
    r"You're using the WeightAveraging callback, but loading a checkpoint outside.*",  # the averages are tested
    r"The dirpath has changed from.*",
    r"Precision .* is not supported by the model summary.*",
)
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
DESCRIPTION = """Train, validate, test and predict with any method on any data.

examples:
  python scripts/train.py fit -c configs/experiments/diffpose_synthetic_frame.yaml
  python scripts/train.py fit -c configs/experiments/diffpose_synthetic_frame.yaml --ckpt_path last        (resume)
  python scripts/train.py test -c configs/experiments/diffpose_synthetic_frame.yaml --ckpt_path best
  python scripts/train.py fit -c ... -c configs/loggers/wandb.yaml --name my_run --trainer.devices 4 --model.width 64
  python scripts/train.py fit -c ... --data configs/data/cmu_frame.yaml --name the_same_on_other_data
  python scripts/train.py test -c runs/my_run/config.yaml --ckpt_path best         (a run with options of its own)

A run is the folder runs/<name>. Settings come from configs/base.yaml, then each -c file, then the options; the last one
wins. Every option: `fit --help`; of one method or data set: `fit --model.help methods.diffpose.DiffPose`,
`fit --data.help datamodules.cmu_mocap.CMUMocap`; all values of an experiment: `fit -c FILE --print_config`.
"""


class _Help(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the line breaks of the examples."""


class _Parser(LightningArgumentParser):
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


class PoseCLI(LightningCLI):
    """LightningCLI with one folder for each run, and without its silent overrides."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str, default="run", help="Name of the run and of its folder below runs/.")
        parser.add_lightning_class_args(ValidationPictures, "pictures")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        self.given = args if isinstance(args, list) else sys.argv[1:]

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise InputError(f"--seed_everything: {error}") from error

    def _parse_ckpt_path(self) -> None:
        """Lightning would let the hyper-parameters of a checkpoint override the command line silently."""

    def before_instantiate_classes(self) -> None:
        config = self._get_subcommand_config()
        check_name(config.name)
        if config.trainer.accelerator == "auto" and torch.backends.mps.is_available():
            config.trainer.accelerator = "cpu"  # metrics are in double precision, which Apple's GPUs lack
        if config.trainer.fast_dev_run:  # which writes no checkpoint
            callbacks = config.trainer.callbacks or []
            config.trainer.callbacks = [c for c in callbacks if not c.get("class_path", "").endswith("ModelCheckpoint")]
        root = str(config.trainer.default_root_dir)
        elsewhere = self._is_given("--trainer.default_root_dir") or root.endswith(f"/{config.name}")
        if self._is_given("--name") and not elsewhere:
            # The configuration of a run contains the name of its folder, without ${name}.
            config.trainer = _moved(config.trainer, root, config.name)
        folder = Path(config.trainer.default_root_dir)
        checkpoints = folder / "checkpoints"
        given = config.get("ckpt_path")
        if given in ("last", "best"):
            path = checkpoints / f"{given}.ckpt"
            if not path.is_file():
                raise InputError(f"--ckpt_path {given}: {path} does not exist; train the run first, or check --name")
            config.ckpt_path = str(path)
        elif given is not None:
            config.ckpt_path = str(find_checkpoint(given))
        elif given is None and self.subcommand != "fit":
            raise InputError(f"{self.subcommand} needs trained weights: give --ckpt_path best, last or a file")
        if self.subcommand == "fit" and rank_zero_only.rank == 0:
            check_free(folder, config.get("ckpt_path"))

    def before_fit(self) -> None:
        config = self._get_subcommand_config()
        self.model.resumed = config.get("ckpt_path") is not None
        self.model.check_training(self.trainer, self.model.resumed)
        if rank_zero_only.rank == 0 and not config.trainer.fast_dev_run:
            folder = Path(config.trainer.default_root_dir)
            self.held.enter_context(lock(folder, "wait for its end, or start another run with --name NEW"))
            check_free(folder, config.get("ckpt_path"))  # the run of another process may just have ended

    def _run_subcommand(self, subcommand: str) -> None:
        with ExitStack() as self.held:
            super()._run_subcommand(subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        config = self._get_subcommand_config()
        plugins = config.trainer.get("plugins") or []
        plugins = [*plugins] if isinstance(plugins, list) else [plugins]
        for option in LIMITS:  # the parser makes 1.0 of 1, which the Trainer takes for all batches
            if f"--trainer.{option}=1" in self.given or (f"--trainer.{option}", "1") in pairwise(self.given):
                kwargs[option] = 1
        try:
            trainer: Any = super().instantiate_trainer(plugins=[*plugins, AtomicCheckpointIO()], **kwargs)
        except (ValueError, RuntimeError, MisconfigurationException) as error:  # also of the cluster's variables
            raise InputError(f"trainer: {error}") from error
        check_trainer(trainer)
        trainer.callbacks.append(Interruption())  # after the callbacks that save checkpoints
        return trainer

    def _is_given(self, option: str) -> bool:
        return any(argument == option or argument.startswith(f"{option}=") for argument in self.given)

    def _get_subcommand_config(self) -> Any:
        return self.config[str(self.subcommand)]


def check_trainer(trainer: L.Trainer) -> None:
    """Checks what Lightning does not: intervals of 0, and the processes that it is about to start.

    Raises:
        InputError: if it would divide by 0, copy this process, or start far more processes than there are processors.
    """
    if trainer.accumulate_grad_batches < 1 or trainer.check_val_every_n_epoch == 0:
        raise InputError("trainer.accumulate_grad_batches and trainer.check_val_every_n_epoch must be at least 1")
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise InputError("trainer.strategy: processes that are copies of this one lose the run's record; take ddp")
    most = max(16, os.cpu_count() or 1)
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > most:
        raise InputError(f"trainer.devices is {trainer.num_devices}, and this machine has {os.cpu_count()} processors")


def main(args: ArgsType = None) -> int:
    """Runs the command line; returns the exit status."""
    for message in INTENDED:
        warnings.filterwarnings("ignore", message=message)
    # Files say ${data.init_args.x}, although every option is below a subcommand.
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    settings = {
        name: {"parser_mode": "omegaconf+", "default_config_files": [str(CONFIGS / "base.yaml")]}
        for name in PoseCLI.subcommands()
    }
    try:
        with handled(interrupt):
            PoseCLI(
                PoseMethod,
                PoseDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=RunRecord,
                trainer_defaults={"callbacks": [PredictionWriter(), FiniteTraining()]},
                seed_everything_default=0,
                auto_configure_optimizers=False,
                parser_kwargs={
                    "parser_mode": "omegaconf+",
                    "prog": program("train"),
                    "description": DESCRIPTION,
                    "formatter_class": _Help,
                    **settings,
                },
                parser_class=_Parser,
                args=args,
            )
    except Interrupted as stop:
        return _interrupted(stop, args if isinstance(args, list) else sys.argv[1:])
    except Exception as error:
        reason = _input_error(error) or _other_sizes(error) or _trainer_error(error) or unwritable(error)
        if reason is None:
            raise
        print(f"error: {reason}", file=sys.stderr)
        return 2
    return 0


def _interrupted(stop: Interrupted, arguments: list[str]) -> int:
    """Says how the command continues; returns the exit status."""
    if rank_zero_only.rank != 0:  # whose status would make Lightning kill the first process
        return 0
    told = f"stopped by {stop}"
    if stop.checkpoint is not None:
        pairs = zip(["", *arguments], arguments, strict=False)
        kept = [x for before, x in pairs if before != "--ckpt_path" and not x.startswith("--ckpt_path")]
        told += f"; to continue from {stop.checkpoint}:\n  {program('train')} {shlex.join(kept)} --ckpt_path last"
    print(told, file=sys.stderr)
    return 128 + stop.signum


def _entries(tree: Any, known: dict[int, int]) -> int:
    """How many entries a tree has, in which containers may be repeated; those in `known` have been counted."""
    if not isinstance(tree, dict | list):
        return 1
    if id(tree) not in known:
        known[id(tree)] = MOST_ENTRIES + 1  # if it holds itself
        known[id(tree)] = 1 + sum(_entries(part, known) for part in (tree.values() if isinstance(tree, dict) else tree))
    return known[id(tree)]


def _moved(part: Any, folder: str, name: str) -> Any:
    """A part of the configuration of the run in `folder`, changed in place to one of the run `name` beside it."""
    if isinstance(part, str):
        inside = part == folder or part.startswith(f"{folder}/")
        return f"{Path(folder).parent / name}{part.removeprefix(folder)}" if inside else part
    if isinstance(part, list):
        return [_moved(value, folder, name) for value in part]
    if isinstance(part, dict | Namespace):
        for key, value in vars(part).items() if isinstance(part, Namespace) else part.items():
            called = key in ("name", "id") and isinstance(value, str) and folder.endswith(f"/{value}")
            part[key] = name if called else _moved(value, folder, name)
    return part


def _in_a_line(message: str) -> str:
    """The parser's message without the types that it tried: a key, the class, its key, and what is wrong there."""
    told = ""
    for line in message.splitlines():
        line = line.strip().removeprefix("- ")
        if line and not line.startswith(ADDED_BY_THE_PARSER):
            line = re.sub(r"""^(?:Parser key|Problem with given class_path) ["'](\S+)["']:""", r"\1:", line)
            told += line if not told else f" {line}" if told.endswith(":") else f"; {line}"
    return told


def _other_sizes(error: BaseException) -> str | None:
    """What to do if a checkpoint does not fit the method; None if that is not the error."""
    first, *rest = str(error).splitlines() or [""]
    if not isinstance(error, RuntimeError) or not first.startswith("Error(s) in loading state_dict"):
        return None
    about = textwrap.shorten(rest[0] if rest else first, 160, placeholder=" ...")
    return (
        "the checkpoint was made by another method, or with other options; give those, or the run's configuration: "
        f"-c runs/NAME/config.yaml ({about}{f', and {len(rest) - 1} more' if len(rest) > 1 else ''})"
    )


def _trainer_error(error: BaseException) -> str | None:
    """What Lightning finds wrong with the options of its Trainer; None if that is not the error."""
    frames = traceback.extract_tb(error.__traceback__)
    refused = isinstance(error, ValueError) and Path(L.__file__).parent in Path(frames[-1].filename).parents
    return f"trainer: {error}" if refused or isinstance(error, MisconfigurationException) else None


def _input_error(error: BaseException | None) -> InputError | None:
    """The user's mistake in an exception that the parser or the Trainer may have wrapped; None if there is none."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


if __name__ == "__main__":
    sys.exit(main())
