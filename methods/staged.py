"""Methods that are trained in two stages within one run, the first on parts that then rest."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from methods.base import PoseMethod, warmup_cosine
from noise2pose.errors import InputError

Group = tuple[float, list[Parameter]]  # weight decay of parameters


class StagedMethod(PoseMethod):
    """A method whose first epochs train other parts than the rest; each stage has a learning rate schedule of its own.

    Attributes:
        first_epochs: length of the first stage; 0 if there is none.
        first_option: how the command line calls it.
        learning_rate: of AdamW, at its peak in each stage.
        warmup_steps: optimiser steps of linear warm-up of each stage.
    """

    first_epochs: int
    first_option: str
    learning_rate: float
    warmup_steps: int

    @abstractmethod
    def stage_groups(self) -> tuple[list[Group], list[Group]]:
        """What is trained in the first stage and in the second; nothing is in both."""

    @property
    def in_first_stage(self) -> bool:
        """Whether this epoch belongs to the first stage; never outside training."""
        return self._trainer is not None and self.trainer.training and self.current_epoch < self.first_epochs

    @property
    def starts_anew(self) -> bool:
        return 0 < self.first_epochs == self.current_epoch

    @property
    def selectable(self) -> bool:
        return self.current_epoch >= self.first_epochs

    def resting(self) -> Iterator[Parameter]:
        groups = self.stage_groups()[1 if self.in_first_stage else 0]
        return (parameter for _, parameters in groups for parameter in parameters)

    def awaiting_no_gradient(self, loss: Tensor) -> Tensor:
        """The loss, for data-parallel training, which waits for a gradient of every parameter.

        Those at rest get zeros here and none in `on_before_optimizer_step`.
        """
        resting = [parameter.sum() for parameter in self.resting()]
        return loss + 0.0 * torch.stack(resting).sum() if resting and self.trainer.world_size > 1 else loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        for parameter in self.resting():
            parameter.grad = None

    def on_train_epoch_start(self) -> None:
        self.train()  # parts come to rest with the epoch that ends their training
        for optimizer in self.trainer.optimizers:
            for parameter in self.resting():
                optimizer.state.pop(parameter, None)  # as large as two copies of the part

    def check_training(self, trainer: L.Trainer, resumed: bool) -> None:
        """Refuses weights of few digits, and a training without a second stage: it counts steps, or ends too early."""
        precision = str(getattr(trainer, "precision", "32-true"))
        if precision.endswith("-true") and precision != "32-true":
            raise InputError(f"trainer.precision is {precision}: take 32-true, or bf16-mixed for less time and memory")
        if not self.first_epochs or getattr(trainer, "fast_dev_run", False):
            return
        max_epochs = trainer.max_epochs or 0
        if max_epochs < 0 or trainer.max_steps > 0:
            raise InputError(
                f"model.{self.first_option} counts epochs: give trainer.max_epochs and no trainer.max_steps"
            )
        if max_epochs <= self.first_epochs:
            raise InputError(
                f"trainer.max_epochs ({max_epochs}) must exceed model.{self.first_option} ({self.first_epochs}), or "
                "the second part is never trained; give more of the former or less of the latter"
            )

    def configure_optimizers(self) -> dict[str, Any]:
        num_steps = int(self.trainer.estimated_stepping_batches)
        first = round(num_steps * self.first_epochs / max(self.trainer.max_epochs or 1, 1)) if self.first_epochs else 0
        groups: list[dict[str, Any]] = []
        factors = []
        for stage, start, steps in zip(self.stage_groups(), (0, first), (first, num_steps - first), strict=True):
            for weight_decay, parameters in stage:
                groups.append({"params": parameters, "weight_decay": weight_decay})
                factors.append(warmup_cosine(steps, min(self.warmup_steps, steps // 2), start))
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate)
        schedule = LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
