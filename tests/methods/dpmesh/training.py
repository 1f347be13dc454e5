"""A small DPMesh and its training, for tests."""

import lightning as L
import torch

from datamodules.base import select
from methods.dpmesh import DPMesh
from tests.tiny import TinyPeople

SMALL = {"backbone": "transformer", "pose_head": "rot6d", "warmup_steps": 1}


def make(**options) -> DPMesh:
    torch.manual_seed(0)
    return DPMesh(**{**SMALL, **options})


def people(number=8):
    return TinyPeople(num_samples=number, batch_size=4)


def fit(method, folder, epochs=1, ckpt_path=None, data=None, **options):
    settings = {
        "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
        "accelerator": "cpu", "limit_val_batches": 0, "default_root_dir": folder, "max_epochs": epochs,
    }  # fmt: skip
    L.seed_everything(3, verbose=False)
    trainer = L.Trainer(**{**settings, **options})
    trainer.fit(method, datamodule=data or people(), ckpt_path=ckpt_path)
    return trainer


def batch_of(number=2):
    return select(TinyPeople().load("val"), torch.arange(number))


def weights(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(before, after):
    return {key for key in before if not torch.equal(before[key], after[key])}
