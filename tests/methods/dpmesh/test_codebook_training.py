"""The training of the codebook: what it logs, that it goes on where it stopped, and that two processes are one."""

import lightning as L
import pytest
import torch

from datamodules.motion_poses import MotionPoses
from methods.checkpoints import load_method, make_method
from methods.dpmesh import Codebook
from methods.dpmesh.codebook_training import CodebookUsage
from noise2pose.errors import InputError
from tests.tiny import TinyPeople, TinyPoses

TINY = {
    "num_tokens": 4,
    "num_codes": 16,
    "code_width": 8,
    "encoder_width": 32,
    "encoder_blocks": 1,
    "encoder_hidden": 32,
    "decoder_width": 32,
    "token_hidden": 16,
    "warmup_steps": 2,
}


class StopAfterOneEpoch(L.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True


def trainer(folder, epochs, **options):
    return L.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **options},
    )


def codebook(**options):
    L.seed_everything(3, verbose=False)
    return Codebook(**{**TINY, **options})


def test_it_logs_reconstruction_usage_and_revival(tmp_path):
    method, run = codebook(rotation_format="6d"), trainer(tmp_path, 2)
    run.fit(method, datamodule=TinyPeople())
    logged = run.callback_metrics
    train = ("loss", "loss_rotations", "loss_commitment", "loss_joints")
    train += ("codebook_perplexity", "codebook_alive", "codebook_revived")
    assert {f"train/{name}" for name in train} <= set(logged)
    assert 1.0 <= logged["val/tiny/codebook/perplexity"] <= 16.0
    assert 0.0 < logged["val/tiny/codebook/usage"] <= 100.0
    assert 0.0 < logged["val/tiny/rotation_error"] < 90.0
    assert logged["val/tiny/mpjpe"] < 200.0 and "val/tiny/pve" in logged


def test_validation_leaves_the_codebook_alone(tmp_path):
    method = codebook()
    run = trainer(tmp_path, 1)
    run.fit(method, datamodule=TinyPeople())
    before = {key: value.clone() for key, value in method.state_dict().items()}
    run.validate(method, datamodule=TinyPeople(), verbose=False)
    run.test(method, datamodule=TinyPeople(), verbose=False)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


def test_it_learns_poses(tmp_path):
    method = codebook(learning_rate=3e-3, rotation_format="6d")
    run = trainer(tmp_path, 15)
    data = MotionPoses("synthetic", clips_per_activity=1, train_stride=10, eval_stride=20, batch_size=32)
    run.validate(method, datamodule=data, verbose=False)
    before = float(run.callback_metrics["val/synthetic_poses/rotation_error"])
    run.fit(method, datamodule=data)
    after = run.callback_metrics
    assert after["val/synthetic_poses/rotation_error"] < 0.8 * before
    assert after["val/synthetic_poses/mpjpe_24"] < 250.0


def test_resuming_gives_the_same_codes(tmp_path):
    whole = codebook()
    trainer(tmp_path, 3).fit(whole, datamodule=TinyPeople())
    run = trainer(tmp_path, 3, callbacks=[StopAfterOneEpoch()])
    run.fit(codebook(), datamodule=TinyPeople())
    assert run.global_step == 3
    run.save_checkpoint(tmp_path / "one.ckpt")
    resumed = codebook()
    trainer(tmp_path, 3).fit(resumed, datamodule=TinyPeople(), ckpt_path=tmp_path / "one.ckpt")
    for key, value in resumed.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key


def test_a_checkpoint_gives_the_codebook_back(tmp_path):
    method, run = codebook(), trainer(tmp_path, 1)
    run.fit(method, datamodule=TinyPeople())
    run.save_checkpoint(tmp_path / "codebook.ckpt")
    checkpoint = torch.load(tmp_path / "codebook.ckpt", weights_only=True)
    checkpoint["class_path"] = "methods.dpmesh.Codebook"
    torch.save(checkpoint, tmp_path / "codebook.ckpt")
    loaded = load_method(tmp_path / "codebook.ckpt")
    assert isinstance(loaded, Codebook) and not loaded.training
    batch = TinyPeople().load("val")
    assert torch.equal(loaded(batch)["joints_3d"], method.eval()(batch)["joints_3d"])
    assert make_method("methods.dpmesh.Codebook", TINY).codebook.num_codes == 16


def test_data_without_bodies_is_refused(tmp_path):
    with pytest.raises(InputError, match="no"):
        trainer(tmp_path, 1, num_sanity_val_steps=0).fit(codebook(), datamodule=TinyPoses())


def test_usage_counts_codes():
    usage = CodebookUsage(8)
    usage.update(torch.tensor([[0, 1], [1, 0]]))
    usage.update(torch.tensor([[2, 3], [3, 2]]))
    values = usage.compute()
    assert values["usage"] == 50.0 and values["perplexity"] == pytest.approx(4.0)
