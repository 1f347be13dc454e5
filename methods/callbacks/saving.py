"""`last.ckpt` within an epoch: every few minutes, and at a signal that ends the training.

A run that is resumed from there goes on as if nothing had happened.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from methods.callbacks.stopping import Interrupted, handled, last_checkpoint
from noise2pose.errors import InputError

_AGREE_EVERY = 5.0  # seconds after which several processes ask each other, which takes time


class Saving(Checkpoint):
    """Saves `last.ckpt` every few minutes, and at SIGTERM, SIGUSR1 or Ctrl-C, after which the command ends.

    It saves after the optimiser step. Where an epoch or a validation is about to end, it waits for that. A second
    Ctrl-C ends the command at once. It must come after all other callbacks, since it saves their states.

    Args:
        minutes: between two saves within an epoch, beside the one at its end; 0 for none.

    Raises:
        InputError: if that is below 0.
    """

    def __init__(self, minutes: float = 10.0) -> None:
        if not minutes >= 0.0:
            raise InputError(f"--saving.minutes is {minutes}, expected at least 0")
        self.minutes = minutes
        self.signum: int | None = None
        self.agreed = False  # on all processes, which must stop at one step
        self.due = False  # on all processes: to save
        self.stops = False  # before the next step
        self.last: Path | None = None  # checkpoint
        self.saved = self.asked = time.monotonic()  # which a clock that is set does not change
        self.batches = self.asked_at = 0  # batches in this process
        self.ask_at = 1
        self._unwritten = False  # values that were logged before the save
        self._handled: Any = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Checks that all processes resume from one checkpoint.

        Raises:
            InputError: if this one found another than the first, or none.
        """
        own = str(trainer.ckpt_path)
        first = trainer.strategy.broadcast(own)
        if own != first:
            raise InputError(
                f"process {trainer.global_rank} resumes from {own} and the first one from {first}: runs/ must be on a "
                "file system that all machines share"
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.last = last_checkpoint(trainer)
        self._handled = handled(self._note)
        self._handled.__enter__()
        self.saved = self.asked = time.monotonic()
        if trainer.fit_loop.restarted_mid_epoch and trainer.progress_bar_callback is not None:
            trainer.progress_bar_callback.on_train_epoch_start(trainer, pl_module)  # which Lightning leaves out

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self._stop()  # here the values that the last batch logged have reached the loggers
        if self._unwritten:  # a run that is resumed from the save does not log them again
            self._unwritten = False
            for logger in trainer.loggers:
                logger.save()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches += 1
        if trainer.world_size == 1 or self.batches >= self.ask_at:
            self._agree(trainer)
        loop: Any = trainer.fit_loop
        ends = trainer.is_last_batch or loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
        if (self.agreed or self.due) and not ends and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved, self.due = time.monotonic(), False  # by ModelCheckpoint
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
        launcher = trainer.strategy.launcher
        if not self.stops and isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGTERM)  # processes that may wait for this one, which stops alone

    def _note(self, signum: int, frame: Any) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise Interrupted(signum, self.last)
        if self.signum is None:  # written without Python's buffers, in which the signal may have come
            told = f"\n{signal.Signals(signum).name}: stopping after this step (Ctrl-C: at once)\n"
            with suppress(OSError):  # a terminal or pipe that is gone
                os.write(2, told.encode())
        self.signum = signum

    def _agree(self, trainer: L.Trainer) -> None:
        """Takes over what any process wants, and plans when to ask again, in the same way in all of them."""
        now = time.monotonic()
        late = bool(self.minutes) and now - self.saved >= 60.0 * self.minutes
        asked: Any = torch.tensor([self.signum or 0, late, now - self.asked], device=trainer.strategy.root_device)
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce(asked, reduce_op="max")
        signum, late, seconds = asked.tolist()
        self.agreed = self.agreed or signum > 0
        self.due = self.due or late > 0
        self.signum = self.signum or int(signum) or None
        passed = max(self.batches - self.asked_at, 1)
        self.asked, self.asked_at = now, self.batches
        self.ask_at = self.batches + max(1, min(1000, int(_AGREE_EVERY * passed / max(seconds, 1e-3))))

    def _save(self, trainer: L.Trainer) -> None:
        if not getattr(trainer, "fast_dev_run", False):
            trainer.save_checkpoint(last_checkpoint(trainer), weights_only=False)
        self.saved, self.due, self._unwritten = time.monotonic(), False, True
        self.stops = self.agreed

    def _stop(self) -> None:
        if self.stops:
            raise Interrupted(self.signum or signal.SIGTERM, self.last)

    def _restore(self) -> None:
        if self._handled is not None:
            self._handled.__exit__(None, None, None)
            self._handled = None
