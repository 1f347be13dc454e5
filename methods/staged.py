"""Methods that are trained in two stages of one run; each stage freezes the parameters that the other trains."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from methods.base import PoseMethod
from methods.schedules import scheduled
from noise2pose.errors import InputError

Group = tuple[float, list[Parameter]]  # weight decay of parameters


class StagedMethod(PoseMethod):
    """A method whose first epochs train other parameters than the later ones, with a learning rate schedule per stage.

    Attributes:
        first_stage_epochs: length of the first stage; 0 if there is none.
        first_stage_option: its name on the command line, without `model.`.
        learning_rate: of AdamW, at its peak in each stage.
        first_learning_rate: that of the first stage where it is another; None for the same.
        warmup_steps: optimiser steps of linear warm-up of each stage.
        final_epochs: last epochs of each stage, with a tenth of the learning rate; 0 for half a cosine instead.
    """

    first_stage_epochs: int
    first_stage_option: str
    learning_rate: float
    first_learning_rate: float | None = None
    warmup_steps: int
    final_epochs: int = 0

    @abstractmethod
    def stage_groups(self) -> tuple[list[Group], list[Group]]:
        """Parameter groups of the first stage and of the second; no parameter is in both."""

    @property
    def in_first_stage(self) -> bool:
        """Whether this epoch belongs to the first stage; never outside training."""
        return self._trainer is not None and self.trainer.training and self.current_epoch < self.first_stage_epochs

    @property
    def starts_stage(self) -> bool:
        return 0 < self.first_stage_epochs == self.current_epoch

    @property
    def selectable(self) -> bool:
        fitting = self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        return not fitting or self.current_epoch >= self.first_stage_epochs

    def frozen_parameters(self) -> Iterator[Parameter]:
        groups = self.stage_groups()[1 if self.in_first_stage else 0]
        return (parameter for _, parameters in groups for parameter in parameters)

    def with_frozen_parameters(self, loss: Tensor) -> Tensor:
        """The loss plus zero times the frozen parameters in data-parallel training, which waits for all gradients.

        Frozen parameters get zeros here, and no gradient in `on_before_optimizer_step`.
        """
        frozen = [parameter.sum() for parameter in self.frozen_parameters()]
        waits = isinstance(self.trainer.strategy, ParallelStrategy)  # also with one process
        return loss + 0.0 * torch.stack(frozen).sum() if frozen and waits else loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        for parameter in self.frozen_parameters():
            parameter.grad = None

    def on_train_epoch_start(self) -> None:
        self.train()  # networks of the first stage change to evaluation mode after it
        for optimizer in self.trainer.optimizers:
            for parameter in self.frozen_parameters():
                optimizer.state.pop(parameter, None)  # as large as two copies of the network

    def check_training(self, trainer: L.Trainer, resumed: bool) -> None:
        """Also refuses weights in half precision, and a training that counts steps or ends before the second stage."""
        precision = str(getattr(trainer, "precision", "32-true"))
        if precision in ("16-true", "bf16-true"):
            raise InputError(f"trainer.precision is {precision}: take 32-true, or bf16-mixed for less time and memory")
        if getattr(trainer, "fast_dev_run", False):
            return
        max_epochs = trainer.max_epochs or 0
        stages = [epochs for epochs in (self.first_stage_epochs, max_epochs - self.first_stage_epochs) if epochs > 0]
        if self.final_epochs and (max_epochs < 0 or trainer.max_steps > 0 or self.final_epochs >= min(stages)):
            raise InputError(
                f"model.final_epochs ({self.final_epochs}) must be less than the epochs of each stage: give more "
                "trainer.max_epochs and no trainer.max_steps, or model.final_epochs 0 for a cosine"
            )
        if not self.first_stage_epochs:
            return
        option = f"model.{self.first_stage_option}"
        if max_epochs < 0 or trainer.max_steps > 0:
            raise InputError(f"{option} counts epochs: give trainer.max_epochs and no trainer.max_steps")
        if max_epochs <= self.first_stage_epochs:
            raise InputError(
                f"trainer.max_epochs ({max_epochs}) must exceed {option} ({self.first_stage_epochs}), or the second "
                "stage is never trained; give more of the former or less of the latter"
            )

    def configure_optimizers(self) -> dict[str, Any]:
        num_steps = int(self.trainer.estimated_stepping_batches)
        epochs = max(self.trainer.max_epochs or 1, 1)
        first = round(num_steps * self.first_stage_epochs / epochs)
        final_steps = round(num_steps * self.final_epochs / epochs)
        groups: list[dict[str, Any]] = []
        spans = []
        second_rate = self.learning_rate
        rates = (second_rate if self.first_learning_rate is None else self.first_learning_rate, second_rate)
        stages = zip(self.stage_groups(), (range(first), range(first, num_steps)), rates, strict=True)
        for stage, span, rate in stages:
            for weight_decay, parameters in stage:
                groups.append({"params": parameters, "weight_decay": weight_decay, "lr": rate})
                spans.append(span)
        return scheduled(
            torch.optim.AdamW(groups, lr=self.learning_rate), self.warmup_steps, *spans, final_steps=final_steps
        )
