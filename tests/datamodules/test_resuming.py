"""A run that is resumed, between two epochs or within one, sees what the whole run would have seen."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.base import EpochOrder
from datamodules.mixture import MixtureLoader, MixtureOrder
from methods.hmr import HMR
from tests.tiny import TinyPeople


class Watched(TinyPeople):
    """Notes the epoch that what is added to batches belongs to, and their samples."""

    def __init__(self):
        super().__init__(num_samples=32, batch_size=8)
        self.seen = []

    def streams(self, split):
        def stream(batches, epoch):
            for batch in batches:
                self.seen.append((epoch, batch["sample_id"]))
                yield batch

        return stream if split == "train" else None


def fit(folder, checkpoint=None, **options):
    L.seed_everything(3, verbose=False)
    method, data = (
        HMR(input="keypoints", width=16, hidden=16, num_blocks=1, warmup_steps=2, vertex_weight=0.0),
        Watched(),
    )
    saving = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    settings = {
        "default_root_dir": folder, "max_epochs": 3, "accelerator": "cpu", "logger": False, "limit_val_batches": 0,
        "enable_progress_bar": False, "enable_model_summary": False, "callbacks": [saving],
    }  # fmt: skip
    trainer = L.Trainer(**{**settings, **options})
    trainer.fit(method, datamodule=data, ckpt_path=checkpoint)
    return trainer.global_step, data.seen, method.state_dict()


@pytest.mark.parametrize("limit", [1.0, 3])
def test_it_goes_on_after_any_step(tmp_path, limit):
    length = 4 if limit == 1.0 else limit
    steps, seen, weights = fit(tmp_path / "whole", limit_train_batches=limit)
    assert steps == 3 * length and [epoch for epoch, _ in seen] == [e for e in range(3) for _ in range(length)]
    for step in (1, length, length + 2, 2 * length):
        rest = fit(tmp_path / f"{step}", tmp_path / "whole" / f"step={step}.ckpt", limit_train_batches=limit)
        assert rest[0] == steps and rest[1] == seen[step:], step
        assert all(torch.equal(value, weights[key]) for key, value in rest[2].items()), step


def test_a_mixture_goes_on_too_and_only_once():
    order = MixtureOrder([5, 7], [1, 2], 4)
    takes = [torch.Tensor.tolist] * 2
    epochs = []

    def stream(batches, epoch):
        epochs.append(epoch)
        return batches

    loader = MixtureLoader(takes, order, [None, stream])
    order.set_epoch(2)
    whole = list(loader)
    assert loader.state_dict() == {"epoch": 2, "batches": 4}
    loader.load_state_dict({"epoch": 2, "batches": 3})
    first = iter(loader)  # asked for before the epoch is announced
    order.set_epoch(2)
    assert list(first) == whole[3:] and list(loader) == whole
    loader.load_state_dict({"epoch": 1, "batches": 3})
    assert list(loader) == whole and set(epochs) == {2}


def test_an_iterator_knows_the_epoch_that_is_announced_before_its_first_batch():
    data = Watched()
    data.setup("fit")
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, EpochOrder)
    batches = iter(loader)
    loader.sampler.set_epoch(5)
    next(batches)
    assert data.seen[0][0] == 5
