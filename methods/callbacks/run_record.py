"""The record of a run: one folder with its configuration, curve, checkpoints, timings and test results.

runs/<name>/config.yaml         resolved configuration of the training; of the last part of a resumed one
           /metrics.csv         every logged value; appended to on resuming
           /checkpoints/        last.ckpt, the one before it (previous.ckpt) and best.ckpt, replaced atomically
           /.lock               of the process that trains it
           /pictures/           people of each validation (see methods/callbacks/outputs.py)
           /fit.json            time, steps, parameters, command; `changes`: options that a resumed part had otherwise
           /test.json           metrics with their protocol, after `test`
           /config_VERB.yaml    resolved configuration of the last `test`, `validate` or `predict` that came to its end
           /test_samples.npz    a few predictions for figures, after `test`
           /predictions.npz     all predictions, after `predict` (see methods/callbacks/outputs.py)
"""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from methods.base import PoseMethod
from methods.callbacks import wandb_record
from methods.callbacks.curve import RunCSVLogger
from methods.callbacks.description import describe, samples_of
from methods.callbacks.saving import Saving
from methods.callbacks.stopping import Interrupted
from noise2pose.batch import PoseBatch
from noise2pose.credentials import refuse_credentials
from noise2pose.errors import InputError
from noise2pose.files import archive_fingerprint, commit, write_npz, write_text
from noise2pose.reports.options import changed_options, in_words

_NUM_SAMPLES = 8  # predictions kept for figures


class RunRecord(SaveConfigCallback):
    """Writes the files of this module's docstring, and describes the run to W&B."""

    config: Any
    seconds_before = 0.0  # training time of the parts of a resumed run that came before
    started = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.changes: list[str] = []  # of options, where the training was resumed
        self.described: dict[str, Any] = {}  # the configuration and protocols of this training, for its checkpoints

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.config.ckpt_path = None  # the record describes the run, not the start of this process
        arguments = self.config.model.get("init_args") or {}
        # Arguments that the method set from files, which may be missing when the run is resumed or tested.
        for key in [key for key, value in arguments.items() if value is None]:
            arguments[key] = pl_module.hparams.get(key)
        refuse_credentials(json.loads(self.parser.dump(self.config, skip_none=False, format="json")))
        commit()  # of the running code, before the next commit is made

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Announces and records the options that are others than those of the checkpoint.

        Raises:
            InputError: if the run would go on with other data, whose errors its curve and `best.ckpt` would mix.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        assert isinstance(pl_module, PoseMethod)
        before = checkpoint.get("callbacks", {}).get(self.state_key, {})
        recorded = Path(str(trainer.ckpt_path)).parent.parent / "config.yaml"
        if "config" in before:
            config = yaml.safe_load(before["config"])
        else:  # of a run from before checkpoints held it
            config = yaml.safe_load(recorded.read_text()) if recorded.is_file() else None
        if config is None:
            return
        now = yaml.safe_load(self._dumped())
        changed = changed_options(config, now)
        if recorded.parent.resolve() == Path(trainer.default_root_dir).resolve():
            protocols = [protocol.as_dict() for protocol in pl_module.protocols]
            if config["data"].get("class_path") != now["data"].get("class_path"):
                other = f"{now['data'].get('class_path')} instead of {config['data'].get('class_path')}"
            elif before.get("protocols", protocols) != protocols:
                other = ", ".join(key for key in changed if key.startswith("data.")) or "other evaluation sets"
            else:
                other = None
            if other:
                raise InputError(
                    f"{recorded.parent} would go on with other data ({other}), and its curve and best.ckpt would mix "
                    f"the errors of both: start another run from its weights with --name NEW --ckpt_path "
                    f"{trainer.ckpt_path}"
                )
        if changed:
            told = in_words(changed)
            epoch = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
            self.changes.append(f"from epoch {epoch} (step {checkpoint['global_step']}) on: {told}")
            if trainer.is_global_zero:
                print(f"resuming with other options, kept in fit.json: {told}", file=sys.stderr)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PoseMethod)
        self.described = {
            "config": self._dumped(),
            "protocols": [protocol.as_dict() for protocol in pl_module.protocols],
        }

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.begun, self.epochs = False, trainer.current_epoch
        self.started = time.perf_counter()
        for logger in trainer.loggers:
            if isinstance(logger, RunCSVLogger):
                logger.begin(trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any, **__: Any) -> None:
        if not self.begun:  # a training that is refused at its first batch leaves nothing behind, nor a run of W&B
            self.begun, before = True, time.perf_counter()
            self._write_config(trainer, "config.yaml")
            self._describe_to_wandb(trainer, pl_module)
            self.started += time.perf_counter() - before

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epochs = trainer.current_epoch + 1
        if trainer.is_global_zero:
            self._write_fit(trainer, pl_module, self.epochs)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Records that the training came to its end, also an early one; an interruption has not ended it."""
        callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        interrupted = any(isinstance(each, Saving) and each.signum is not None for each in callbacks)
        if self.begun and not interrupted and trainer.is_global_zero:
            self._write_fit(trainer, pl_module, self.epochs, finished=True)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Records an interrupted training up to its last step."""
        if isinstance(exception, Interrupted) and exception.checkpoint and self.started and trainer.is_global_zero:
            self._write_fit(trainer, pl_module, trainer.current_epoch, stopped=True)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.samples: list[dict[str, np.ndarray]] = []

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._describe_to_wandb(trainer, pl_module)  # after the method has compared the 2-D sources

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: PoseBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, PoseMethod)
        if trainer.is_global_zero and dataloader_idx == 0 and pl_module.protocols[0].dimensions == 3:
            num_batches = int(trainer.num_test_batches[0])
            wanted = np.linspace(0, num_batches - 1, min(_NUM_SAMPLES, num_batches)).astype(int)
            count = -(-_NUM_SAMPLES // len(wanted)) if batch_idx in wanted else 0
            if count and len(self.samples) < _NUM_SAMPLES:
                self.samples.append(samples_of(batch, outputs, count))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            assert isinstance(pl_module, PoseMethod)
            folder = Path(trainer.default_root_dir)
            samples = folder / "test_samples.npz"
            samples.unlink(missing_ok=True)  # of an earlier test, possibly of another data set
            if self.samples:
                keys = self.samples[0]
                joined = {key: np.concatenate([part[key] for part in self.samples])[:_NUM_SAMPLES] for key in keys}
                write_npz(samples, skeleton=np.array(pl_module.protocols[0].skeleton), **joined)
            metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
            record = describe(trainer, pl_module, self.config)
            limit = trainer.limit_test_batches
            if isinstance(limit, int) or limit < 1.0:  # 1 is one batch, 1.0 is all of them
                for protocol in record["protocols"]:  # or tables would show a part as the whole
                    protocol["split"] += f", ONLY {limit} BATCHES"
            record |= {
                "checkpoint": str(trainer.ckpt_path),
                "checkpoint_fingerprint": archive_fingerprint(Path(str(trainer.ckpt_path))),
                "poses_per_second": pl_module.predicted_poses / max(pl_module.predict_seconds, 1e-9),
                "metrics": metrics,
                "calibration": pl_module.calibration,
                "groups": pl_module.group_tables,
                **pl_module.details,
            }
            self._write_config(trainer, "config_test.yaml")
            write_text(folder / "test.json", json.dumps(record, indent=2) + "\n")
            for logger in _wandb_loggers(trainer):
                wandb_record.log_test(logger, record)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._describe_to_wandb(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._write_config(trainer, "config_validate.yaml")

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write_config(trainer, "config_predict.yaml")

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._seconds(), "changes": self.changes, **self.described}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds_before = state_dict["seconds"]
        self.changes = [*state_dict.get("changes", []), *self.changes]

    def _dumped(self) -> str:
        return self.parser.dump(self.config, skip_none=False)

    def _write_config(self, trainer: L.Trainer, name: str) -> None:
        if trainer.is_global_zero:
            write_text(Path(trainer.default_root_dir) / name, self._dumped())

    def _seconds(self) -> float:
        return self.seconds_before + (time.perf_counter() - self.started if self.started else 0.0)

    def _write_fit(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        epochs: int,
        finished: bool = False,
        stopped: bool = False,
    ) -> None:
        record = {
            **describe(trainer, pl_module, self.config),
            "seconds": self._seconds(),
            "epochs": epochs,
            "steps": trainer.global_step,
            "changes": self.changes,
            "finished": finished,
            "stopped": stopped,
        }
        write_text(Path(trainer.default_root_dir) / "fit.json", json.dumps(record, indent=2) + "\n")

    def _describe_to_wandb(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PoseMethod)
        kinds = {TrainerFn.FITTING: "fit", TrainerFn.VALIDATING: "validate"}
        for logger in _wandb_loggers(trainer):
            about = {**describe(trainer, pl_module, self.config), "changes": self.changes}
            config = json.loads(self.parser.dump(self.config, skip_none=False, format="json"))
            wandb_record.begin(
                logger, pl_module, about, config, kinds.get(trainer.state.fn or TrainerFn.TESTING, "test")
            )


def _wandb_loggers(trainer: L.Trainer) -> list[WandbLogger]:
    """Those of this process, which are the first's alone."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger) and trainer.is_global_zero]


def check_name(name: str) -> None:
    """Checks the name of a run.

    Raises:
        InputError: if it names no folder of its own below `runs/`.
    """
    path = Path(name)
    if not name.strip() or not name.isprintable() or path.is_absolute() or not path.parts or ".." in path.parts:
        raise InputError(f"--name '{name}' is not the name of a folder below runs/: give one such as --name my_run")


def check_free(folder: Path, checkpoint: str | None) -> None:
    """Checks that a training from a checkpoint, or from the beginning, overwrites no other run.

    Raises:
        InputError: if the folder holds a run, and not the checkpoint.
    """
    checkpoints = folder / "checkpoints"
    continues = checkpoint is not None and Path(checkpoint).resolve().parent == checkpoints.resolve()
    continues = continues or (checkpoint is not None and Path(checkpoint).resolve().parent == folder.resolve())
    if not continues and (any(checkpoints.glob("*.ckpt")) or any(folder.glob("hpc_ckpt_*.ckpt"))):
        raise InputError(
            f"{folder} already holds a run: continue it with --ckpt_path last, or start another with --name NEW"
        )


def remove_unused(folder: Path, made: Sequence[Path]) -> None:
    """Removes the folder of a training that was refused before its first step; nothing if it holds more than the lock.

    Args:
        folder: of the run.
        made: folders that this command made, the innermost first.
    """
    if folder in made and not any(path.is_file() and path.name != ".lock" for path in folder.rglob("*")):
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made[1:]:
            with suppress(OSError):  # it holds other runs by now
                parent.rmdir()
