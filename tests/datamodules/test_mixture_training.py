"""Mixtures in training: images of one data set and of another, resuming, two processes."""

from dataclasses import replace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.mixture import Mixture
from methods.hmr import HMR
from tests import forks
from tests.datamodules import toy_folder
from tests.datamodules.toy_folder import Toy
from tests.tiny import TinyPeople, TinyPoses


class KeypointPeople(TinyPeople):
    """The people without their images."""

    def protocols(self, split):
        return [replace(protocol, dataset="people") for protocol in super().protocols(split)]

    def load(self, split):
        return {key: value for key, value in super().load(split).items() if key != "image"}


def people() -> Mixture:
    datasets = [KeypointPeople(num_samples=24), TinyPoses(num_samples=16)]
    return Mixture(datasets, weights=[2.0, 1.0], batch_size=6, epoch_length=24)


def method() -> HMR:
    torch.manual_seed(0)
    return HMR(input="keypoints", width=16, num_blocks=1, hidden=16, vertex_weight=0.0)


def trainer(folder, epochs: int, **options) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        callbacks=[ModelCheckpoint(folder, save_last=True)],
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        **options,
    )


def test_a_resumed_run_goes_on_with_the_same_samples(tmp_path):
    seen: dict[str, list[str]] = {}

    class Noting(HMR):
        def training_step(self, batch, batch_idx):
            seen[key].extend(batch["sample_id"])
            return super().training_step(batch, batch_idx)

    def run(name: str, epochs: int, checkpoint: str | None = None) -> None:
        nonlocal key
        key = name
        seen[key] = []
        L.seed_everything(1, verbose=False)
        noting = Noting(input="keypoints", width=16, num_blocks=1, hidden=16, vertex_weight=0.0)
        trainer(tmp_path / name, epochs).fit(noting, datamodule=people(), ckpt_path=checkpoint)

    key = ""
    run("whole", 3)
    run("part", 2)
    run("rest", 3, str(tmp_path / "part" / "last.ckpt"))
    assert len(seen["whole"]) == 3 * 24 and seen["part"] + seen["rest"] == seen["whole"]


def _train_in_two(rank, folder):
    trainer(folder, 1, devices=2, strategy="ddp").fit(method(), datamodule=people())


@pytest.mark.slow
def test_two_processes_train_on_a_mixture(tmp_path):
    before = method().regressor.state_dict()
    forks.call_in_two(_train_in_two, tmp_path)
    after = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert any(not torch.equal(after[f"regressor.{name}"], value) for name, value in before.items())


def test_images_of_several_data_sets_are_in_one_batch(tmp_path):
    roots = [toy_folder.write(tmp_path / name / "toy", images=True) for name in ("one", "two")]
    datasets = [
        Toy(str(root), images=True, image_size=32, augment=augment)
        for root, augment in zip(roots, ("hmr", "none"), strict=True)
    ]
    module = Mixture(datasets, batch_size=4)
    module.setup("fit")
    batches = [module.on_after_batch_transfer(batch, 0) for batch in module.train_dataloader()]
    assert len(batches) == 22 // 4  # eleven valid frames each
    for batch in batches:
        assert batch["image"].shape == (4, 3, 32, 32) and len(batch["file_name"]) == 4
        assert "patches" not in batch and "variation" not in batch
