"""The moving average of a method's weights, which runs validate, test and save."""

import itertools
from collections.abc import Iterable, Iterator

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.nn import Parameter

from methods.base import PoseMethod


class WarmupEMA(WeightAveraging):
    """Exponential moving average of the weights, used for validation and saved as the checkpoint's `state_dict`.

    The decay of the n-th update is min(decay, (1 + n) / (10 + n)), so that initial weights count little in short runs.
    When a method begins to train other parts (`PoseMethod.starts_stage`), the parts trained so far keep their averages
    and n starts again, so that initial weights of the new parts count little as well.

    Parameters that are not trained in an epoch have no average, which saves memory and room in checkpoints.

    Args:
        decay: of long runs, for methods without their own (`PoseMethod.ema_decay`).
    """

    def __init__(self, decay: float = 0.999) -> None:
        def average(averaged: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
            if averaged.data_ptr() == current.data_ptr():
                return averaged
            warm = min(self.decay, (1 + int(num_averaged)) / (10 + int(num_averaged)))
            return torch.lerp(current, averaged, warm)

        super().__init__(use_buffers=False, avg_fn=average)
        self.decay = decay

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        frozen = [(parameter, parameter.data) for parameter in pl_module.parameters() if not parameter.requires_grad]
        for parameter, data in frozen:
            parameter.data = data.new_empty(0)  # or the copy that is made now would contain them
        super().setup(trainer, pl_module, stage)
        for parameter, data in frozen:
            parameter.data = data
        self._average_what_is_trained(pl_module)
        if isinstance(pl_module, PoseMethod) and pl_module.ema_decay is not None:
            self.decay = pl_module.ema_decay

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if isinstance(pl_module, PoseMethod) and trainer.fit_loop.restarted_mid_epoch:
            self._average_what_is_trained(pl_module, pl_module.frozen_parameters())

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._average_model is None or not isinstance(pl_module, PoseMethod):
            return
        if pl_module.starts_stage:
            self._copy_average_to_current(pl_module)
            self._average_model.n_averaged.zero_()
        self._average_what_is_trained(pl_module, pl_module.frozen_parameters())

    def _swap_models(self, pl_module: L.LightningModule) -> None:
        # Lightning's own also writes shared tensors, which copies those that are mapped from a file into memory.
        assert self._average_model is not None
        for average, current in zip(_tensors(self._average_model.module), _tensors(pl_module), strict=True):
            if average.data_ptr() != current.data_ptr():
                held = average.data.clone()
                average.data.copy_(current.data)
                current.data.copy_(held)

    def _average_what_is_trained(self, pl_module: L.LightningModule, frozen: Iterable[Parameter] = ()) -> None:
        """Gives parameters that are trained now an average on their device; all others are shared with the method."""
        if self._average_model is None:
            return
        excluded = {id(parameter) for parameter in frozen}
        for average, current in zip(_tensors(self._average_model.module), _tensors(pl_module), strict=True):
            if not current.requires_grad or id(current) in excluded:
                average.data = current.data
            elif average.data_ptr() == current.data_ptr():
                average.data = current.data.clone()
            else:
                average.data = average.data.to(current.device)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(module.parameters(), module.buffers())
