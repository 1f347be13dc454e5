"""How a training stops before its end, with a checkpoint from which it continues."""

import textwrap
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError

_CONTINUE = "continue with --ckpt_path last and a smaller --model.learning_rate or --trainer.gradient_clip_val"


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
            f"({', '.join(terms) or 'no term was logged'}; samples {names}). Checkpoints from before are kept: "
            f"{_CONTINUE}, or see what is wrong with these samples"
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
                f"and are not saved. Checkpoints from before are kept: {_CONTINUE}"
            )
