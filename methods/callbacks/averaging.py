"""The moving average of a method's weights, which is what runs validate, test and save."""

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

    The decay of the n-th update is min(decay, (1 + n) / (10 + n)), so that short runs are not averages of their start.
    When a method turns to other parts of itself (`PoseMethod.starts_stage`), the parts trained so far keep their
    averages and n starts again, or the new parts would be averages of their start.

    What is not trained in an epoch has no average: it takes no memory twice, and no room in checkpoints.

    Args:
        decay: of long runs, of a method that asks for no other (`PoseMethod.ema_decay`).
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
            parameter.data = data.new_empty(0)  # or the copy that is made now would hold them as well
        super().setup(trainer, pl_module, stage)
        for parameter, data in frozen:
            parameter.data = data
        self._keep_what_is_trained(pl_module)
        if isinstance(pl_module, PoseMethod) and pl_module.ema_decay is not None:
            self.decay = pl_module.ema_decay

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._average_model is None or not isinstance(pl_module, PoseMethod):
            return
        if pl_module.starts_stage:
            self._copy_average_to_current(pl_module)
            self._average_model.n_averaged.zero_()
        self._keep_what_is_trained(pl_module, pl_module.frozen_parameters())

    def _swap_models(self, pl_module: L.LightningModule) -> None:
        # Lightning's own would also write what is shared, and copy what is still a part of a file into memory by that.
        assert self._average_model is not None
        for average, current in zip(_tensors(self._average_model.module), _tensors(pl_module), strict=True):
            if average.data_ptr() != current.data_ptr():
                held = average.data.clone()
                average.data.copy_(current.data)
                current.data.copy_(held)

    def _keep_what_is_trained(self, pl_module: L.LightningModule, frozen: Iterable[Parameter] = ()) -> None:
        """Gives what is trained now an average of its own, on its device; all else is shared with the method."""
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
