"""What a training does when its loss or its weights are not finite."""

import textwrap
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from methods.callbacks.stopping import last_checkpoint
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.files import replacing


class FiniteTraining(Callback):
    """Stops a training before a loss that is not finite reaches the weights, and never saves weights that are not.

    The batch is kept in the run's folder as `not_finite.pt`, which `torch.load` reads.

    Args:
        skip: optimiser steps in a row that are left out, with their batches, before the training stops.

    Raises:
        InputError: if that is below 0.
    """

    def __init__(self, skip: int = 0) -> None:
        if skip < 0:
            raise InputError(f"--finite.skip is {skip}, expected at least 0")
        self.skip = skip
        self.skipped = 0  # in a row
        self.wrong = ""  # what is not finite in this step

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.batch: PoseBatch = batch
        self.batch_idx = batch_idx

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Checks the loss.

        Raises:
            InputError: if it is not finite, and too many steps were skipped; the batch, its samples and the terms that
                are not finite are named.
        """
        if bool(loss.isfinite().all()):
            return
        terms = [
            f"{key} is {float(value):g}"
            for key, value in trainer.callback_metrics.items()
            if key.startswith("train/") and not value.isfinite().all()
        ]
        names = textwrap.shorten(", ".join(self.batch.get("sample_id", [])), 160)
        self.wrong = (
            f"the loss of epoch {trainer.current_epoch}, batch {self.batch_idx} is {float(loss.detach()):g} "
            f"({', '.join(terms) or 'no term was logged'}; samples {names})"
        )
        if self.skipped < self.skip:
            return
        path = Path(trainer.default_root_dir) / "not_finite.pt"
        if self.skip:
            self.wrong += f", after {self.skip} steps in a row that were skipped"
        if path.parent.is_dir() and not getattr(trainer, "fast_dev_run", False):  # a refused training has no folder
            with replacing(path) as partial:
                torch.save(
                    {"batch": _on_cpu(self.batch), "batch_idx": self.batch_idx, "seed": torch.initial_seed()}, partial
                )
            self.wrong += f"; the batch is kept in {path}"
        raise InputError(f"{self.wrong}. See whether these samples are right, or {_again(trainer)}")

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        if not self.skip:
            return
        wrong = trainer.strategy.reduce_boolean_decision(bool(self.wrong), all=False)  # also in another process
        self.skipped = self.skipped + 1 if wrong else 0
        if wrong:
            print(f"skipped a step ({self.skipped} in a row): {self.wrong or 'in another process'}", flush=True)
            if getattr(trainer.precision_plugin, "scaler", None) is None:  # which leaves the step out itself
                for parameter in pl_module.parameters():
                    parameter.grad = None  # so that the optimiser changes nothing
        self.wrong = ""

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


def _on_cpu(tree: Any) -> Any:
    """A batch on the CPU, of values that `torch.load` reads without running code."""
    if isinstance(tree, dict):
        return {key: _on_cpu(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_on_cpu(value) for value in tree]
    return tree.detach().cpu() if isinstance(tree, Tensor) else tree


def _again(trainer: L.Trainer) -> str:
    """How to go on after a training whose values became infinite."""
    kept = last_checkpoint(trainer).is_file()
    how = "continue from the last good checkpoint with --ckpt_path last" if kept else "start again"
    return f"{how} and a smaller --model.learning_rate or --trainer.gradient_clip_val"
