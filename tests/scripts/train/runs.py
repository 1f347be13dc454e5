"""A small experiment, the command in a process of its own and in two, and the checkpoints that it writes."""

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from scripts.train import main
from tests import forks

TINY = """
model:
  class_path: methods.diffpose.DiffPose
  init_args: {width: 16, num_blocks: 1, num_heads: 2, context_width: 16, context_blocks: 1, context_epochs: 1,
              warmup_steps: 2}
data: {class_path: tests.tiny.TinyPoses}
trainer: {max_epochs: 3, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""
# Without a random number in the training step, which would be another one in each process.
ENCODER = """
model:
  class_path: methods.diffpose.ContextEncoder
  init_args: {encoder: residual, width: 16, num_blocks: 1, dropout: 0.0, warmup_steps: 2}
data: {class_path: tests.tiny.TinyPoses, init_args: {batch_size: 4, eval_batch_size: 5}}
trainer: {max_epochs: 2, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""


def run_apart(folder: Path, *arguments: str) -> None:
    """Runs the command in a process of its own, which works in the folder."""
    forks.call(run_in, folder, arguments)


def run_in_two(folder: Path, *arguments: str) -> None:
    """Runs the command in two processes, as if Lightning's launcher had started them."""
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    forks.call_in_two(_run_rank, folder, (*arguments, *two))


def run_in(folder: Path, arguments: tuple[str, ...]) -> None:
    """Runs the command in this process, whose folder and environment it changes for good."""
    os.chdir(folder)
    os.environ["WANDB_MODE"] = "offline"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = main(list(arguments))
    assert status == 0, printed.getvalue()


def _run_rank(rank: int, folder: Path, arguments: tuple[str, ...]) -> None:
    run_in(folder, arguments)


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def assert_same_weights(left: dict[str, Any], right: dict[str, Any]) -> None:
    for part in ("state_dict", "current_model_state"):
        assert left[part].keys() == right[part].keys()
        for key, value in left[part].items():
            assert torch.equal(value, right[part][key]), key
