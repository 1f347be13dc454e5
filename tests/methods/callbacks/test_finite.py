"""Trainings that stop before their end."""

import lightning as L
import pytest
import torch

from methods.callbacks.finite import FiniteTraining
from methods.diffpose import ContextEncoder
from noise2pose.errors import InputError
from tests.methods.diffpose.contract import SMALL
from tests.methods.test_base import train


class Breaks(ContextEncoder):
    """Has a loss that is not finite in batch 1 of epoch 1, or weights in its last batch."""

    def __init__(self, breaks, **options) -> None:
        super().__init__(**options)
        self.breaks = breaks

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if self.breaks == "loss" and (self.current_epoch, batch_idx) == (1, 1):
            self.log_dict({"train/loss_near": loss, "train/loss_far": loss * torch.inf})
            return loss * torch.inf
        return loss

    def on_before_optimizer_step(self, optimizer):
        if self.breaks == "weights" and self.trainer.is_last_batch and self.current_epoch == 1:
            next(self.parameters()).grad.fill_(torch.nan)


@pytest.mark.parametrize(
    "breaks, message",
    [
        ("loss", r"epoch 1, batch 1 is inf \(train/loss_far is inf; samples train_\d+, train"),
        ("weights", "after epoch 1, .* weights hold NaN"),
    ],
)
def test_nothing_is_saved_after_the_first_loss_or_weight_that_is_not_finite(tmp_path, breaks, message):
    last = L.pytorch.callbacks.ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True)
    with pytest.raises(InputError, match=message):
        train(Breaks(breaks, **SMALL), tmp_path, 3, enable_checkpointing=True, callbacks=[FiniteTraining(), last])
    found = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert found["epoch"] == 0 and all(values.isfinite().all() for values in found["state_dict"].values())
