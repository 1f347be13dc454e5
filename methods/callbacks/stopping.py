"""How a training stops before its end, with a checkpoint from which it continues."""

import os
import signal
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor

from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError

_AGREE_EVERY = 20  # batches after which several processes ask each other, which takes time


class FiniteTraining(Callback):
    """Stops a training before a loss that is not finite reaches the weights, and never saves weights that are not."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.batch: PoseBatch = batch
        self.batch_idx = batch_idx

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Checks the loss.

        Raises:
            InputError: if it is not finite; the batch, its samples and the terms that are not finite are named.
        """
        if bool(loss.isfinite().all()):
            return
        terms = [
            f"{key} is {float(value):g}"
            for key, value in trainer.callback_metrics.items()
            if key.startswith("train/") and not value.isfinite().all()
        ]
        names = textwrap.shorten(", ".join(self.batch.get("sample_id", [])), 160)
        raise InputError(
            f"the loss of epoch {trainer.current_epoch}, batch {self.batch_idx} is {float(loss.detach()):g} "
            f"({', '.join(terms) or 'no term was logged'}; samples {names}). See whether these samples are right, or "
            f"{_again(trainer)}"
        )

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Checks the weights that are trained.

        Raises:
            InputError: if one is not finite.
        """
        trained = ((name, values) for name, values in pl_module.named_parameters() if values.requires_grad)
        broken = [name for name, values in trained if not bool(values.isfinite().all())]
        if broken:
            raise InputError(
                f"after epoch {trainer.current_epoch}, {len(broken)} weights hold NaN or infinity ({broken[0]}, ...) "
                f"and are not saved: {_again(trainer)}"
            )


def _again(trainer: L.Trainer) -> str:
    """How to go on after a training whose values became infinite."""
    kept = last_checkpoint(trainer).is_file()
    how = "continue from the last good epoch with --ckpt_path last" if kept else "start again"
    return f"{how} and a smaller --model.learning_rate or --trainer.gradient_clip_val"


def last_checkpoint(trainer: L.Trainer) -> Path:
    """Where a run keeps the checkpoint that it is resumed from."""
    return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"


class Interrupted(BaseException):
    """A signal ended the command.

    Attributes:
        signum: the signal.
        checkpoint: from which a training continues; None if there is none.
    """

    def __init__(self, signum: int, checkpoint: Path | None = None) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.checkpoint = checkpoint if checkpoint is not None and checkpoint.is_file() else None


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Calls a function at SIGTERM and Ctrl-C, where Python allows it: in the main thread."""
    try:
        before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # another thread
        before = {}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def interrupt(signum: int, frame: Any) -> None:
    """A handler that ends the command at once."""
    raise Interrupted(signum)


class Interruption(Checkpoint):
    """At SIGTERM or Ctrl-C, saves `last.ckpt` after the optimiser step, and ends the command by `Interrupted`.

    A run that is resumed from there goes on as if it had not been interrupted. Where an epoch or a validation is about
    to end, this waits for it. A second Ctrl-C ends the command at once. It must come after all other callbacks, since
    it saves their states.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.agreed = False  # on all processes, which must stop at one step
        self.stops = False  # before the next step
        self.last: Path | None = None  # checkpoint
        self._handled: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.last = last_checkpoint(trainer)
        self._handled = handled(self._note)
        self._handled.__enter__()
        if trainer.fit_loop.restarted_mid_epoch and trainer.progress_bar_callback is not None:
            trainer.progress_bar_callback.on_train_epoch_start(trainer, pl_module)  # which Lightning leaves out

    def on_train_batch_start(self, *_: Any) -> None:
        self._stop()  # here the values that the last batch logged have reached the loggers

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loop: Any = trainer.fit_loop
        if trainer.world_size == 1 or (batch_idx + 1) % _AGREE_EVERY == 0:
            self._agree(trainer)
        due = trainer.is_last_batch or loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
        if self.agreed and not due and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._agree(trainer)
        if self.agreed:
            self._save(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restore()
        if self.signum is not None:
            raise Interrupted(self.signum, self.last)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _note(self, signum: int, frame: Any) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise Interrupted(signum, self.last)
        if self.signum is None:  # written without Python's buffers, in which the signal may have come
            told = f"\n{signal.Signals(signum).name}: stopping after this step (Ctrl-C: at once)\n"
            with suppress(OSError):  # a terminal or pipe that is gone
                os.write(2, told.encode())
        self.signum = signum

    def _agree(self, trainer: L.Trainer) -> None:
        self.agreed = self.agreed or trainer.strategy.reduce_boolean_decision(self.signum is not None, all=False)

    def _save(self, trainer: L.Trainer) -> None:
        if not getattr(trainer, "fast_dev_run", False):
            trainer.save_checkpoint(last_checkpoint(trainer))
        self.stops = True

    def _stop(self) -> None:
        if self.stops:
            raise Interrupted(self.signum or signal.SIGTERM, self.last)

    def _restore(self) -> None:
        if self._handled is not None:
            self._handled.__exit__(None, None, None)
            self._handled = None
