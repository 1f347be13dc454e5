"""Train, validate, test and predict with any method on any data."""

import argparse
import re
import sys
import textwrap
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import torch
from jsonargparse import DefaultHelpFormatter, Namespace, set_parsing_settings
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.base import PoseDataModule
from methods.base import PoseMethod
from methods.callbacks.pictures import ValidationPictures
from methods.callbacks.predictions import PredictionWriter
from methods.callbacks.run_record import RunRecord
from methods.checkpoints import AtomicCheckpointIO, find_checkpoint
from noise2pose.errors import InputError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
LIMITS = tuple(f"limit_{stage}_batches" for stage in ("train", "val", "test", "predict"))
# What Lightning says of things that are meant to be as they are.
NOT_WORTH_A_WARNING = (
    r".*isinstance\(treespec, LeafSpec\).*",
    r"Found \d+ module\(s\) in eval mode.*",  # frozen parts rest
    r"You're using the WeightAveraging callback, but loading a checkpoint outside.*",  # averages are what is tested
    r"The dirpath has changed from.*",
    r"Precision .* is not supported by the model summary.*",
)
# What the parser adds to what is wrong.
SAID_BY_THE_PARSER = (
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

A run is the folder runs/<name>; see `fit --help` for every option, and `fit -c ... --print_config` for their values.
"""


class _Help(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Leaves the examples as they are written, one a line."""


class _Parser(LightningArgumentParser):
    """Says what is wrong with an option in a line, where others list every option first."""

    _reading: Any = "the command line"

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        outer, self._reading = self._reading, path  # which stays where that fails
        parsed = super().parse_path(path, *args, **kwargs)
        self._reading = outer
        return parsed

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:
            super().error(message, ex)
        message = message.replace('"<unicode string>"', str(self._reading))
        command = (getattr(ex, "subcommand_parser", None) or self).prog.replace(" [options]", "")
        part = re.search(r'^Parser key "(model|data)":', message)
        named = re.search(r"class_path '(\S+)'", message)
        about = f"--{part[1]}.help {named[1]}" if part and named else "--help"
        self.exit(2, f"error: {_in_a_line(message)}\nall options: python scripts/{command} {about}\n")


class PoseCLI(LightningCLI):
    """LightningCLI with its silent behaviours closed: one run is one folder, and nothing is overridden unseen."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str, default="run", help="Name of the run and of its folder below runs/.")
        parser.add_lightning_class_args(ValidationPictures, "pictures")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        self.given = args if isinstance(args, list) else sys.argv[1:]

    def _parse_ckpt_path(self) -> None:
        """Lightning would let the hyper-parameters of a checkpoint override the command line silently."""

    def before_instantiate_classes(self) -> None:
        config = self._get_subcommand_config()
        if config.trainer.accelerator == "auto" and torch.backends.mps.is_available():
            config.trainer.accelerator = "cpu"  # metrics are in double precision, which Apple's GPUs lack
        if config.trainer.fast_dev_run:  # it leaves no run behind
            callbacks = config.trainer.callbacks or []
            config.trainer.callbacks = [c for c in callbacks if not c.get("class_path", "").endswith("ModelCheckpoint")]
        root = str(config.trainer.default_root_dir)
        elsewhere = self._is_given("--trainer.default_root_dir") or root.endswith(f"/{config.name}")
        if self._is_given("--name") and not elsewhere:
            # In the configuration that a run left behind, its folder is written out.
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
        path = config.get("ckpt_path")
        continues = path is not None and Path(path).resolve().parent == checkpoints.resolve()
        holds_a_run = rank_zero_only.rank == 0 and any(checkpoints.glob("*.ckpt"))
        if self.subcommand == "fit" and holds_a_run and not continues:
            raise InputError(
                f"{folder} already holds a run: continue it with --ckpt_path last, or start another with --name NEW"
            )

    def before_fit(self) -> None:
        self.model.resumed = self._get_subcommand_config().get("ckpt_path") is not None
        self.model.check_training(self.trainer, self.model.resumed)

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        config = self._get_subcommand_config()
        plugins = config.trainer.get("plugins") or []
        plugins = [*plugins] if isinstance(plugins, list) else [plugins]
        for option in LIMITS:  # to the parser 1 is 1.0, and to the Trainer 1.0 is all batches
            if f"--trainer.{option}=1" in self.given or (f"--trainer.{option}", "1") in pairwise(self.given):
                kwargs[option] = 1
        try:
            return super().instantiate_trainer(plugins=[*plugins, AtomicCheckpointIO()], **kwargs)
        except (ValueError, MisconfigurationException) as error:
            raise InputError(f"trainer: {error}") from error

    def _is_given(self, option: str) -> bool:
        return any(argument == option or argument.startswith(f"{option}=") for argument in self.given)

    def _get_subcommand_config(self) -> Any:
        return self.config[str(self.subcommand)]


def main(args: ArgsType = None) -> int:
    """Runs the command line; returns the exit status."""
    for message in NOT_WORTH_A_WARNING:
        warnings.filterwarnings("ignore", message=message)
    # Files say ${data.init_args.x}, although every option lives below a sub-command.
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    settings = {
        name: {"parser_mode": "omegaconf+", "default_config_files": [str(CONFIGS / "base.yaml")]}
        for name in PoseCLI.subcommands()
    }
    try:
        PoseCLI(
            PoseMethod,
            PoseDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=RunRecord,
            trainer_defaults={"callbacks": [PredictionWriter()]},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={
                "parser_mode": "omegaconf+",
                "description": DESCRIPTION,
                "formatter_class": _Help,
                **settings,
            },
            parser_class=_Parser,
            args=args,
        )
    except Exception as error:
        reason = _input_error(error) or _other_sizes(error)
        if reason is None:
            raise
        print(f"error: {reason}", file=sys.stderr)
        return 2
    return 0


def _moved(part: Any, folder: str, name: str) -> Any:
    """A part of the configuration of the run in `folder`, as one of the run `name` beside it; changed in place."""
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
    """What the parser says, without the types that it tried: a key, the class, its key, and what is wrong there."""
    told = ""
    for line in message.splitlines():
        line = line.strip().removeprefix("- ")
        if line and not line.startswith(SAID_BY_THE_PARSER):
            line = re.sub(r"""^(?:Parser key|Problem with given class_path) ["'](\S+)["']:""", r"\1:", line)
            told += line if not told else f" {line}" if told.endswith(":") else f"; {line}"
    return told


def _other_sizes(error: BaseException) -> str | None:
    """What to do where a checkpoint does not fit the method; None if that is not the error."""
    first, *rest = str(error).splitlines() or [""]
    if not isinstance(error, RuntimeError) or not first.startswith("Error(s) in loading state_dict"):
        return None
    about = textwrap.shorten(rest[0] if rest else first, 160, placeholder=" ...")
    return (
        "the checkpoint is of another method, or of other options; give the same, or the run's own: "
        f"-c runs/NAME/config.yaml ({about}{f', and {len(rest) - 1} more' if len(rest) > 1 else ''})"
    )


def _input_error(error: BaseException | None) -> InputError | None:
    """The user's mistake behind an exception that the parser or the Trainer may have wrapped; None if there is none."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


if __name__ == "__main__":
    sys.exit(main())
