"""LightningCLI with one folder for each run, and its refusals in one line."""

import logging
import os
import sys
import warnings
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from jsonargparse import Namespace, set_parsing_settings
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.base import PoseDataModule
from methods.base import PoseMethod
from methods.callbacks.announcement import Announcement
from methods.callbacks.finite import FiniteTraining
from methods.callbacks.outputs import PredictionWriter, ValidationPictures
from methods.callbacks.run_record import RunRecord, check_free, check_name, remove_unused
from methods.callbacks.saving import Saving
from methods.callbacks.stopping import Interrupted, handled, interrupt
from methods.checkpoints import AtomicCheckpointIO, find_checkpoint, find_resumable
from noise2pose.errors import InputError
from noise2pose.files import lock
from noise2pose.reports.options import in_words, other_options, read_configuration
from scripts import program
from scripts.training.ending import end_processes, interrupted, reason_of
from scripts.training.parser import Parser, load_renamed, renamed
from scripts.training.suggestions import CONFIGS

LIMITS = tuple(f"limit_{stage}_batches" for stage in ("train", "val", "test", "predict"))
# Lightning's warnings about what is intended here.
INTENDED = (
    r".*isinstance\(treespec, LeafSpec\).*",
    r"LightningCLI's args parameter is intended to run from within Python.*",
    r"Found \d+ module\(s\) in eval mode.*",  # the frozen parts of a method
    r"You're using the WeightAveraging callback, but loading a checkpoint outside.*",  # the averages are tested
    r"The dirpath has changed from.*",
    r"Precision .* is not supported by the model summary.*",
    r"The number of training batches \(\d+\) is smaller than the logging interval.*",
    r"Checkpoint directory .* exists and is not empty.*",  # that of a resumed run
    r".*could not find the monitored key.*",  # of stages whose epochs cannot be the best
)
# And its lines that say nothing about the run.
NEEDLESS = ("GPU available", "TPU available", "HPU available", "\U0001f4a1 Tip", "Loading `train_dataloader`")


class PoseCLI(LightningCLI):
    """LightningCLI with one folder for each run, and without its silent overrides."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str, default="run", help="Name of the run and of its folder below runs/.")
        parser.add_lightning_class_args(ValidationPictures, "pictures")
        parser.add_lightning_class_args(FiniteTraining, "finite")
        parser.add_lightning_class_args(Saving, "saving")

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
        if given == "auto" and self.subcommand == "fit":
            config["ckpt_path"] = self._resumable(folder, config)
        elif given in ("last", "best"):
            path = checkpoints / f"{given}.ckpt"
            if not path.is_file():
                raise InputError(f"--ckpt_path {given}: {path} does not exist; train the run first, or check --name")
            config.ckpt_path = str(path)
        elif given not in (None, "auto"):
            config.ckpt_path = str(find_checkpoint(given))
        elif self.subcommand != "fit":
            raise InputError(f"{self.subcommand} needs trained weights: give --ckpt_path best, last or a file")
        if self.subcommand == "fit":
            if rank_zero_only.rank == 0:
                check_free(folder, config.get("ckpt_path"))
        else:
            trained = Path(config.ckpt_path).parent.parent  # the run of the weights, perhaps another one
            self._check_options(trained if (trained / "config.yaml").is_file() else folder, config)

    def _resumable(self, folder: Path, config: Any) -> str | None:
        """The checkpoint that `--ckpt_path auto` resumes from; None for a run that starts.

        Raises:
            InputError: if the run has other options than this command, or none of its checkpoints can be read.
        """
        found, damaged = find_resumable(folder)
        if found is None:
            return None
        if damaged and rank_zero_only.rank == 0:
            print(f"{'; '.join(damaged)}\nresuming from {found}", file=sys.stderr)
        trained = read_configuration(folder / "config.yaml")
        now = yaml.safe_load(self._parser(self.subcommand).dump(config, skip_none=False))
        if changed := {**other_options("data", trained, now), **other_options("model", trained, now)}:
            raise InputError(
                f"{folder} was trained with other options: {in_words(changed)}. Continue it with these by --ckpt_path "
                "last, or start another run with --name NEW"
            )
        return str(found)

    def _check_options(self, folder: Path, config: Any) -> None:
        """Compares the options of a test with those that the weights were trained with.

        Args:
            folder: of the run that trained them.
            config: of the test.

        Raises:
            InputError: if the data are others, and no option of this command asks for that.
        """
        trained = read_configuration(folder / "config.yaml")
        tested = yaml.safe_load(self._parser(self.subcommand).dump(config, skip_none=False))
        named = {argument.partition("=")[0].removeprefix("--").rstrip("+") for argument in self.given}
        found = {
            part: {
                key: values
                for key, values in other_options(part, trained, tested).items()
                if not any(key == option or key.startswith(f"{option}.") for option in named)
            }
            for part in ("data", "model")
        }
        own = f"-c {folder}/config.yaml"
        if found["data"]:
            raise InputError(
                f"{folder} was trained with other data: {in_words(found['data'])}. To {self.subcommand} it as it was "
                f"trained, take {own}; for other data say so with --data FILE or --data.OPTION VALUE"
            )
        if found["model"] and rank_zero_only.rank == 0:
            print(f"other options than in the training: {in_words(found['model'])}; its own: {own}", file=sys.stderr)

    def before_fit(self) -> None:
        config = self._get_subcommand_config()
        self.model.resumed = config.get("ckpt_path") is not None
        self.model.check_training(self.trainer, self.model.resumed)
        if rank_zero_only.rank == 0 and not config.trainer.fast_dev_run:
            folder = Path(config.trainer.default_root_dir)
            made = [path for path in (folder, *folder.parents) if not path.exists()]
            self.held.enter_context(lock(folder, "wait for its end, or start another run with --name NEW"))
            self.held.callback(remove_unused, folder, made)  # while it is locked
            check_free(folder, config.get("ckpt_path"))  # the run of another process may just have ended

    def _run_subcommand(self, subcommand: str) -> None:
        with ExitStack() as self.held:
            try:
                super()._run_subcommand(subcommand)
            except BaseException:
                end_processes(self.trainer.strategy.launcher)
                raise

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
        # Lightning would answer SIGTERM by a message to the other processes, for which it waits forever while they wait
        # for this one, and SLURM's signal by saving in the middle of a step.
        trainer._signal_connector.register_signal_handlers = lambda: None
        return trainer

    def _is_given(self, option: str) -> bool:
        return any(argument == option or argument.startswith(f"{option}=") for argument in self.given)

    def _get_subcommand_config(self) -> Any:
        return self.config[str(self.subcommand)]


def check_trainer(trainer: L.Trainer) -> None:
    """Checks what Lightning does not: intervals of 0, and the processes that it is about to start.

    Raises:
        InputError: if it would divide by 0 or take a number below 0, copy this process, or start far more processes
            than there are processors.
    """
    for name in ("log_every_n_steps", "gradient_clip_val"):
        if (value := getattr(trainer, name) or 0) < 0:
            raise InputError(f"trainer.{name} is {value}, expected at least 0")
    if trainer.accumulate_grad_batches < 1 or trainer.check_val_every_n_epoch == 0:
        raise InputError("trainer.accumulate_grad_batches and trainer.check_val_every_n_epoch must be at least 1")
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise InputError("trainer.strategy: processes that are copies of this one lose the run's record; take ddp")
    most = max(16, os.cpu_count() or 1)
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > most:
        raise InputError(f"trainer.devices is {trainer.num_devices}, and this machine has {os.cpu_count()} processors")


def says_something(record: logging.LogRecord) -> bool:
    """Whether a line of Lightning's log is about the run."""
    return not record.getMessage().startswith(NEEDLESS)


def run(args: list[str]) -> int:
    """Runs the command line with the arguments in the order in which they are read; returns the exit status."""
    args = [renamed(argument) for argument in args]
    for message in INTENDED:
        warnings.filterwarnings("ignore", message=message)
    for package in ("fabric", "pytorch"):
        logger = logging.getLogger(f"lightning.{package}.utilities.rank_zero")
        logger.addFilter(says_something)
    # Files say ${data.init_args.x}, although every option is below a subcommand.
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    settings = {"parser_mode": "omegaconf+", "allow_abbrev": False}
    load_renamed(settings["parser_mode"])
    of_subcommands = {**settings, "default_config_files": [str(CONFIGS / "base.yaml")]}
    try:
        if not CONFIGS.is_dir():
            raise InputError(f"{CONFIGS} is missing: install the project from its clone with pip install -e .")
        with handled(interrupt):
            PoseCLI(
                PoseMethod,
                PoseDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=RunRecord,
                trainer_defaults={"callbacks": [PredictionWriter(), Announcement()]},
                seed_everything_default=0,
                auto_configure_optimizers=False,
                parser_kwargs={
                    **settings,
                    "prog": program("train"),
                    **dict.fromkeys(PoseCLI.subcommands(), of_subcommands),
                },
                parser_class=Parser,
                args=args,
            )
    except Interrupted as stop:
        return interrupted(stop, args)
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        print(f"error: {reason}", file=sys.stderr)
        return 2
    return 0


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
