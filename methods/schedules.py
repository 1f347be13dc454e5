"""Learning rate schedules, which follow the share of the training that is done also where a run is resumed."""

import math
from collections.abc import Callable
from typing import Any

import lightning as L
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class Schedule(LambdaLR):
    """Learning rates by optimiser step.

    A checkpoint counts the steps of the set-up that it was made with. With more processes, other batches or more epochs
    these are other steps than those of the schedule, so a resumed training goes to the step where it is (`step_of`).
    """

    def go_to(self, step: int) -> None:
        """Continues at a step, with the learning rates that the optimiser was made with."""
        self.last_epoch = step
        for group, factor in zip(self.optimizer.param_groups, self.lr_lambdas, strict=True):
            group["lr"] = group["initial_lr"] * factor(step)
        self.base_lrs = [group["initial_lr"] for group in self.optimizer.param_groups]
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def scheduled(optimizer: Optimizer, warmup_steps: int, *spans: range, final_steps: int = 0) -> dict[str, Any]:
    """An optimiser whose learning rate follows a schedule, as `configure_optimizers` returns it.

    Args:
        optimizer: of the training.
        warmup_steps: optimiser steps of linear warm-up, at most half of a span.
        spans: optimiser steps in which each parameter group is trained; or one span for all groups.
        final_steps: last steps of each span, with a tenth of the learning rate (`warmup_step`); 0 for `warmup_cosine`.
    """

    def factor(span: range) -> Callable[[int], float]:
        warm = min(warmup_steps, len(span) // 2)
        if final_steps:
            return warmup_step(len(span), warm, final_steps, span.start)
        return warmup_cosine(len(span), warm, span.start)

    factors = [factor(span) for span in spans]
    schedule = Schedule(optimizer, factors if len(factors) > 1 else factors[0])
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warmup_cosine(num_steps: int, warmup_steps: int, start: int = 0) -> Callable[[int], float]:
    """Learning rate factor per optimiser step: linear warm-up, then half a cosine down to zero; zero outside.

    Args:
        num_steps: length of the schedule.
        warmup_steps: number of these that warm up.
        start: first step of the schedule.

    Returns:
        Function for `torch.optim.lr_scheduler.LambdaLR`.
    """

    def factor(step: int) -> float:
        step -= start
        if step < 0 or step >= num_steps:
            return 0.0
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / (num_steps - warmup_steps)))

    return factor


def warmup_step(num_steps: int, warmup_steps: int, final_steps: int, start: int = 0) -> Callable[[int], float]:
    """Learning rate factor per optimiser step: linear warm-up, then 1, and a tenth in the last steps; zero outside.

    Args:
        num_steps: length of the schedule.
        warmup_steps: number of these that warm up.
        final_steps: number of these with a tenth.
        start: first step of the schedule.
    """

    def factor(step: int) -> float:
        step -= start
        if step < 0 or step >= num_steps:
            return 0.0
        return min((step + 1) / max(warmup_steps, 1), 1.0) * (0.1 if step >= num_steps - final_steps else 1.0)

    return factor


def step_of(epoch: int, batch: int, num_batches: int, accumulated: int) -> int:
    """The optimiser step of a set-up at which a training is.

    Args:
        epoch: epochs that are done.
        batch: batches of the next epoch that are done.
        num_batches: of an epoch.
        accumulated: batches of a step; the last step of an epoch may have fewer.
    """
    steps = math.ceil(num_batches / accumulated)
    return epoch * steps + (steps if batch >= num_batches else batch // accumulated)


def step_of_training(trainer: L.Trainer) -> int:
    """The optimiser step of the trainer's set-up at which its resumed training is."""
    if 0 < trainer.max_steps <= trainer.estimated_stepping_batches:  # which ends a training whatever its epochs
        return trainer.global_step
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    within = batches.processed if epochs.processed < epochs.started else 0
    return step_of(epochs.processed, within, int(trainer.num_training_batches), trainer.accumulate_grad_batches)
