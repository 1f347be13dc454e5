"""What the base of every method does in training."""

import csv

import lightning as L
import torch

from methods.callbacks import RunCSVLogger
from methods.diffpose import ContextEncoder, DiffPose
from noise2pose.reports.runs import load_run
from tests.methods.diffpose.contract import SMALL, SMALL_DIFFPOSE
from tests.methods.test_contract import fit
from tests.tiny import TinyPoses


def train(method, folder, epochs=2, ckpt_path=None, batch_size=16, **options):
    """Trains on 48 poses without validation; returns the trainer."""
    settings = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
        "accelerator": "cpu", "limit_val_batches": 0, "default_root_dir": folder, "max_epochs": epochs,
    }  # fmt: skip
    trainer = L.Trainer(**{**settings, **options})
    trainer.fit(method, datamodule=TinyPoses(num_samples=48, batch_size=batch_size), ckpt_path=ckpt_path)
    return trainer


class Draws(ContextEncoder):
    """Notes the seed of each training batch and the first number drawn in it."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.draws = []

    def training_step(self, batch, batch_idx):
        state = torch.get_rng_state()
        self.draws.append((self.global_step, torch.initial_seed(), float(torch.randn(()))))
        torch.set_rng_state(state)
        return super().training_step(batch, batch_idx)


def draws_of(folder, accumulate):
    torch.manual_seed(7)
    method = Draws(**SMALL)
    fit(method, folder, accumulate_grad_batches=accumulate)
    return method.draws


def test_every_batch_of_an_optimiser_step_draws_its_own_noise(tmp_path):
    draws = draws_of(tmp_path, 2)
    assert [step for step, _, _ in draws] == [0, 0, 1, 2, 2, 3]
    assert len({number for _, _, number in draws}) == len(draws)


def test_without_accumulation_the_seed_is_that_of_the_step(tmp_path):
    assert [seed for _, seed, _ in draws_of(tmp_path, 1)] == [7 + 1_000_003 * step for step in range(6)]


class Begin(L.Callback):
    def on_train_start(self, trainer, pl_module):
        trainer.logger.begin(0)


def test_errors_of_the_first_stage_are_not_the_methods(tmp_path):
    method = DiffPose(**SMALL_DIFFPOSE)
    train(method, tmp_path, limit_val_batches=1.0, logger=RunCSVLogger(str(tmp_path)), callbacks=[Begin()])
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/tiny/mpjpe"] or row["val/tiny/first_stage/mpjpe"]]
    assert [(row["epoch"], bool(row["val/tiny/mpjpe"])) for row in rows] == [("0", False), ("1", True)]
    assert rows[1]["val/tiny/first_stage/mpjpe"] == ""
    steps, errors = load_run(tmp_path).curves["tiny"]["mpjpe"]
    assert steps.tolist() == [5] and errors.tolist() == [float(rows[1]["val/tiny/mpjpe"])]
    found = L.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, default_root_dir=tmp_path).validate(
        method, datamodule=TinyPoses(), verbose=False
    )
    assert "val/tiny/mpjpe" in found[0]
