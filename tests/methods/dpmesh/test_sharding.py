"""DPMesh trained with its weights shared out over two processes, by the real command and gloo."""

import os

import pytest
import torch

from methods.dpmesh import DPMesh
from scripts.train import main
from tests import forks
from tests.places import ROOT
from tests.scripts.train.runs import checkpoint

DPMESH = """
model:
  class_path: methods.dpmesh.DPMesh
  init_args: {backbone: diffusion, pose_head: rot6d, warmup_steps: 1, unet_training: full}
data: {class_path: tests.tiny.TinyPeople, init_args: {num_samples: 16, batch_size: 4, eval_batch_size: 12}}
trainer: {max_epochs: 2, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false,
          gradient_clip_val: 0.1, log_every_n_steps: 1}
"""


def train(rank, folder, name, piece, *more):
    """Trains in one of two processes, and notes the parts of AdamW's state that it holds."""

    def note(method):
        states = method.trainer.optimizers[0].state
        local = [
            v["exp_avg"].to_local() if hasattr(v["exp_avg"], "to_local") else v["exp_avg"] for v in states.values()
        ]
        (folder / f"{name}_{rank}").write_text(str(sum(part.numel() for part in local)))

    DPMesh.on_train_end = note
    os.chdir(folder)
    piece = str(ROOT / "configs" / "trainers" / f"{piece}.yaml")
    status = main(["fit", "-c", "dpmesh.yaml", "-c", piece, "--name", name, "--trainer.devices", "2", *more])
    assert status == 0


@pytest.mark.long
def test_two_processes_share_the_weights_and_train_as_two_copies_do(tmp_path):
    (tmp_path / "dpmesh.yaml").write_text(DPMESH)
    forks.call_in_two(train, tmp_path, "ddp", "ddp")
    forks.call_in_two(train, tmp_path, "fsdp", "fsdp", "--trainer.max_epochs", "1")
    forks.call_in_two(train, tmp_path, "fsdp", "fsdp", "--ckpt_path", "auto")  # resumed
    copies, parts = ([int((tmp_path / f"{name}_{rank}").read_text()) for rank in range(2)] for name in ("ddp", "fsdp"))
    assert copies[0] == copies[1] and max(parts) < 0.6 * copies[0] and sum(parts) >= copies[0]
    ddp, fsdp = (checkpoint(tmp_path / "runs" / name) for name in ("ddp", "fsdp"))
    assert ddp["global_step"] == fsdp["global_step"] == 4
    for key, value in ddp["current_model_state"].items():  # the weights themselves, beside their averages
        torch.testing.assert_close(fsdp["state_dict"][key], value, rtol=1e-3, atol=1e-4, msg=key)
