"""Learning rates of runs that are resumed in another set-up."""

import itertools
import math
from typing import NamedTuple

import lightning as L
import torch

from datamodules.base import EpochOrder
from methods.diffpose import ContextEncoder
from methods.schedules import scheduled, step_of, warmup_cosine, warmup_step
from tests.methods.diffpose.contract import SMALL
from tests.methods.test_base import train


class SetUp(NamedTuple):
    processes: int
    batch_size: int
    accumulated: int
    epochs: int

    @property
    def num_batches(self):
        return len(EpochOrder(1000, self.batch_size, shuffle=True, world_size=self.processes))

    @property
    def steps(self):
        return math.ceil(self.num_batches / self.accumulated)

    def schedule(self):
        """As methods of two stages make it, the first of two epochs."""
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
        spans = range(2 * self.steps), range(2 * self.steps, self.epochs * self.steps)
        return scheduled(torch.optim.SGD(groups, lr=0.1), 3, *spans)["lr_scheduler"]["scheduler"]

    def rates(self):
        """At the first step of each epoch of a run that always had this set-up."""
        schedule, found = self.schedule(), []
        for _ in range(self.epochs):
            found.append(rates_now(schedule))
            for _ in range(self.steps):
                schedule.optimizer.step()
                schedule.step()
        return found


def rates_now(schedule):
    return [group["lr"] for group in schedule.optimizer.param_groups]


def test_a_resumed_run_has_the_rates_of_one_that_always_had_its_set_up():
    set_ups = [SetUp(*each) for each in itertools.product((1, 4), (10, 64), (1, 3), (5, 8))]
    expected = {set_up: set_up.rates() for set_up in set_ups}
    assert all(sum(rates) > 0 for rates in itertools.chain(*expected.values()))
    for before, after in itertools.product(set_ups, set_ups):
        for epoch in range(1, min(before.epochs, after.epochs)):
            interrupted, resumed = before.schedule(), after.schedule()
            interrupted.go_to(epoch * before.steps)
            assert rates_now(interrupted) == expected[before][epoch]
            resumed.optimizer.load_state_dict(interrupted.optimizer.state_dict())
            resumed.load_state_dict(interrupted.state_dict())
            resumed.go_to(step_of(epoch, 0, after.num_batches, after.accumulated))
            assert resumed.last_epoch == epoch * after.steps and rates_now(resumed) == expected[after][epoch]


def test_the_last_step_of_an_epoch_may_have_fewer_batches():
    assert [step_of(2, batch, 5, 2) for batch in range(6)] == [6, 6, 7, 7, 8, 9]


class Rates(ContextEncoder):
    """Notes the learning rate of each batch."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.rates = []

    def training_step(self, batch, batch_idx):
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return super().training_step(batch, batch_idx)


def rates_of(folder, epochs, ckpt_path=None, learning_rate=0.001, **options):
    method = Rates(**SMALL, learning_rate=learning_rate)
    trainer = train(method, folder, epochs, ckpt_path, **options)
    trainer.save_checkpoint(folder / "last.ckpt")
    return method.rates


def test_the_trainer_resumes_in_another_set_up(tmp_path):
    whole = rates_of(tmp_path, 3, learning_rate=0.1)
    rates_of(tmp_path, 2, batch_size=4)
    assert rates_of(tmp_path, 3, tmp_path / "last.ckpt", learning_rate=0.1) == whole[6:]


class SaveWithin(L.Callback):
    """Saves a checkpoint within an epoch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (1, 1):
            trainer.save_checkpoint(trainer.default_root_dir + "/within.ckpt")


def test_within_an_epoch_another_set_up_starts_the_epoch_again(tmp_path):
    whole = rates_of(tmp_path, 3, callbacks=[SaveWithin()])
    assert rates_of(tmp_path, 3, tmp_path / "within.ckpt") == whole[5:]  # the same set-up goes on
    other = rates_of(tmp_path, 3, batch_size=8)
    assert rates_of(tmp_path, 3, tmp_path / "within.ckpt", batch_size=8) == other[6:]


def test_schedule_warms_up_and_ends_at_zero():
    factor = warmup_cosine(10, 2, start=5)
    values = [factor(step) for step in range(17)]
    assert values[:5] == [0.0] * 5 and values[5:8] == [0.5, 1.0, 1.0] and values[15:] == [0.0, 0.0]
    assert all(a >= b for a, b in zip(values[7:], values[8:], strict=False))


def test_the_last_steps_have_a_tenth_of_the_rate():
    factor = warmup_step(10, 2, 3, start=5)
    rates = [factor(step) for step in range(4, 16)]
    assert rates == [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.0]
    assert warmup_step(4, 0, 1)(0) == 1.0
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedule = scheduled(optimizer, 0, range(4), range(4, 8), final_steps=1)["lr_scheduler"]["scheduler"]
    found = []
    for step in range(8):
        schedule.go_to(step)
        found.append(rates_now(schedule))
    assert found == [[1.0, 0.0]] * 3 + [[0.1, 0.0]] + [[0.0, 1.0]] * 3 + [[0.0, 0.1]]
