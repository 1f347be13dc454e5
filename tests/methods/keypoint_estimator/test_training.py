"""Training of both methods that find keypoints: resumed exactly, and by two processes."""

import json

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from methods.keypoint_estimator import KeypointEstimator
from methods.posepp import Refiner
from tests.scripts.train.runs import run_apart, run_in_two
from tests.tiny import TinyPeople

KINDS = {
    "estimator": lambda: KeypointEstimator(skeleton="h36m_17", channels=8, warmup_steps=2),
    "refiner": lambda: Refiner(skeleton="h36m_17", channels=8, num_layers=1, warmup_steps=2),
}


def fit(kind, folder, ckpt_path=None, **options):
    L.seed_everything(3, verbose=False)
    method = KINDS[kind]()
    trainer = L.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, max_epochs=3, limit_val_batches=0, **options,
    )  # fmt: skip
    trainer.fit(method, datamodule=TinyPeople(num_samples=8, batch_size=4), ckpt_path=ckpt_path)
    return method, trainer


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(kind, tmp_path):
    every_epoch = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    whole, _ = fit(kind, tmp_path, callbacks=[every_epoch])
    resumed, trainer = fit(kind, tmp_path, tmp_path / "epoch=0.ckpt", enable_checkpointing=False)
    assert trainer.global_step == 6
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)["class_path"].split(".")[-1] == type(whole).__name__


CONFIG = """
model:
  class_path: {kind}
  init_args: {{skeleton: h36m_17, channels: 8, warmup_steps: 2}}
data: {{class_path: tests.tiny.TinyPeople, init_args: {{num_samples: 8, batch_size: 4, eval_batch_size: 8}}}}
trainer: {{max_epochs: 1, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}}
"""


@pytest.mark.parametrize("kind", ["methods.keypoint_estimator.KeypointEstimator", "methods.posepp.Refiner"])
def test_two_processes_train_and_measure_what_one_does(kind, tmp_path):
    """Every weight that is not frozen has a gradient, or the processes would refuse to train."""
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(kind=kind))
    run_in_two(tmp_path, "fit", "-c", "tiny.yaml", "--name", "two")
    trained = ("test", "-c", "tiny.yaml", "--ckpt_path", "runs/two/checkpoints/last.ckpt")
    run_apart(tmp_path, *trained, "--name", "by_one")
    run_in_two(tmp_path, *trained, "--name", "by_two")
    one, two = (
        json.loads((tmp_path / "runs" / name / "test.json").read_text())["metrics"] for name in ("by_one", "by_two")
    )
    assert {"test/tiny/mpjpe_2d", "test/tiny/oks", "test/tiny/pck_2d"} <= one.keys() == two.keys()
    assert one == pytest.approx(two, rel=1e-4)
