"""What a checkpoint holds and how it reaches the disk."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a killed process leaves the previous checkpoint whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        torch.save(checkpoint, partial)
        os.replace(partial, target)


class WarmupEMA(WeightAveraging):
    """Exponential moving average of the weights, used for validation and saved as the checkpoint's `state_dict`.

    The decay of the n-th update is min(decay, (1 + n) / (10 + n)), so that short runs are not averages of their start.

    Args:
        decay: of long runs.
    """

    def __init__(self, decay: float = 0.999) -> None:
        def average(averaged: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
            warm = min(decay, (1 + int(num_averaged)) / (10 + int(num_averaged)))
            return torch.lerp(current, averaged, warm)

        super().__init__(use_buffers=False, avg_fn=average)
