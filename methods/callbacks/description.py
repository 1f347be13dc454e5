"""What a run's numbers mean and how they were made, and a few of its predictions."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from methods.base import PoseMethod
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.files import command, commit


def as_array(tensor: Tensor) -> np.ndarray:
    """A tensor as a float32 array."""
    return tensor.detach().float().cpu().numpy()


def samples_of(batch: PoseBatch, prediction: Prediction, count: int) -> dict[str, np.ndarray]:
    """Up to `count` samples spread over a batch, root-relative; the middle frame of a clip."""
    chosen = torch.linspace(0, len(batch["sample_id"]) - 1, min(count, len(batch["sample_id"]))).long()

    def pose(values: Tensor) -> np.ndarray:
        values = values[chosen.to(values.device)]
        return as_array(values[:, values.shape[1] // 2] if values.ndim == 4 else values)

    target = batch["keypoints_3d"][..., :3]
    return {
        "sample_id": np.array([batch["sample_id"][i] for i in chosen.tolist()]),
        "keypoints_2d": pose(batch["keypoints_2d"]),
        "target": pose(target - target[..., :1, :]),
        "prediction": pose(prediction["joints_3d"]),
        "image_size": as_array(batch["camera"]["image_size"])[chosen.numpy()],
    }


def describe(trainer: L.Trainer, pl_module: L.LightningModule, config: Any) -> dict[str, Any]:
    """Everything that is needed to interpret and repeat the run's numbers."""
    assert isinstance(pl_module, PoseMethod)
    number = pl_module.num_hypotheses
    device = pl_module.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    return {
        "run": Path(trainer.default_root_dir).name,
        "method": pl_module.title,
        "protocols": [{**protocol.as_dict(), "num_hypotheses": number} for protocol in pl_module.protocols],
        "num_steps": pl_module.num_steps,
        "parameters": sum(parameter.numel() for parameter in pl_module.parameters()),
        "device": f"{trainer.world_size} x {name}" if trainer.world_size > 1 else name,
        "command": command(),
        "commit": commit(),
        "seed": config.seed_everything,
    }
