"""The diffusion prior: what each stage trains, that it learns, and that DPMesh starts from it."""

import lightning as L
import pytest
import torch

from methods.dpmesh import DPMesh, Prior
from noise2pose.errors import InputError
from tests.methods.dpmesh.test_module import changed, fit, weights
from tests.methods.test_contract import Losses
from tests.tiny import TinyPeople


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior")
    torch.manual_seed(0)
    prior = Prior(warmup_steps=1, context="mlp2_visible")
    data = TinyPeople(num_samples=4, batch_size=2)
    before = weights(prior)
    trainer = fit(prior, folder, 2, data=data, limit_val_batches=1)
    trainer.save_checkpoint(folder / "prior.ckpt")
    return prior, before, trainer, folder / "prior.ckpt"


def test_golden_losses(tmp_path):
    """Of the steps of one epoch of each stage: a refactoring must leave them as they are. Reset only with a reason."""
    L.seed_everything(7, verbose=False)
    prior, losses = Prior(warmup_steps=1), Losses()
    settings = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        **settings, default_root_dir=tmp_path, max_epochs=2, limit_val_batches=0, enable_model_summary=False,
        callbacks=[losses],
    )  # fmt: skip
    trainer.fit(prior, datamodule=TinyPeople(num_samples=6, batch_size=2))
    assert losses.values == pytest.approx([0.3939, 0.37154, 0.37156, 1.10369, 0.92655, 0.88549], rel=2e-3)


@pytest.mark.slow
def test_both_parts_are_trained_and_measured(trained):
    prior, before, trainer, _ = trained
    moved = changed(before, weights(prior))
    assert {key.split(".")[1] for key in moved if key.startswith("backbone")} >= {"autoencoder", "unet", "controlnet"}
    assert any(key.startswith("context.") for key in moved) and "backbone.latent_scale" in moved
    logged = trainer.callback_metrics
    assert logged["val_mpjpe"] == logged["val/tiny/epsilon"] and logged["val/tiny/reconstruction"].isfinite()
    assert 0.5 < logged["val/tiny/epsilon"] < 1.5  # noise has a variance of one


@pytest.mark.slow
def test_dpmesh_starts_from_it(trained, tmp_path):
    prior, _, _, path = trained
    method = DPMesh(pose_head="rot6d", lora_rank=4, prior_checkpoint=str(path))
    method.network.features.load_pretrained(str(path))
    theirs, ours = prior.state_dict(), method.network.features.state_dict()
    taken = {key: value for key, value in ours.items() if ".lora_" not in key and not key.startswith("fusion.")}
    assert all(torch.equal(value, theirs[key.replace(".base_layer.", ".")]) for key, value in taken.items())
    blind = DPMesh(pose_head="rot6d", heatmaps=False, context="none")
    blind.network.features.load_pretrained(str(path))
    other = DPMesh(pose_head="rot6d", context="linear30")
    with pytest.raises(InputError, match="was trained with another context"):
        other.network.features.load_pretrained(str(path))
    torch.save({"state_dict": {}, "hyper_parameters": {}}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="a.ckpt is not a checkpoint of methods.dpmesh.Prior"):
        blind.network.features.load_pretrained(str(tmp_path / "a.ckpt"))


def test_it_answers_with_no_pose():
    with pytest.raises(InputError, match="a diffusion prior predicts no poses"):
        Prior().setup("test")
