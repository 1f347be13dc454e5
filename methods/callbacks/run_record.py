"""The record of a run: one folder with its configuration, curve, checkpoints, timings and test results.

runs/<name>/config.yaml         resolved configuration of the training
           /metrics.csv         every logged value; appended to on resuming
           /checkpoints/        last.ckpt and best.ckpt, replaced atomically
           /pictures/           people of each validation (see methods/callbacks/outputs.py)
           /fit.json            time, steps, parameters, command
           /test.json           metrics with their protocol, after `test`
           /test_samples.npz    a few predictions for figures, after `test`
           /predictions.npz     all predictions, after `predict` (see methods/callbacks/outputs.py)
"""

import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from methods.base import PoseMethod
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.files import command, commit, write_npz, write_text
from noise2pose.metrics.keys import CALIBRATION, POSE_ERRORS

_NUM_SAMPLES = 8  # predictions kept for figures


class RunCSVLogger(CSVLogger):
    """`metrics.csv` in the run's folder. Rows are written in training only, and are kept when the run is resumed.

    Args:
        save_dir: the run's folder.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="")
        self._training = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            os.makedirs(self.save_dir, exist_ok=True)
            self._experiment = _AppendingWriter(self.save_dir)
        return self._experiment

    @rank_zero_only
    def begin(self, step: int) -> None:
        """Starts writing at a training step; rows of an interrupted part of the run from there on are dropped."""
        self.experiment.truncate(step)
        self._training = True

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if self._training:
            super().log_metrics(metrics, step)

    @rank_zero_only
    def save(self) -> None:
        if self._training:
            super().save()


class _AppendingWriter(ExperimentWriter):
    """Appends to an existing file, which Lightning's writer would delete."""

    def _check_log_dir_exists(self) -> None:
        pass

    def truncate(self, step: int) -> None:
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            kept = [row for row in reader if (row.get("step") or "").isdigit() and int(row["step"]) < step]
            keys = list(reader.fieldnames or [])
        path.unlink()
        if kept:
            self.metrics_keys = keys
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=keys)
                writer.writeheader()
                writer.writerows(kept)


class RunRecord(SaveConfigCallback):
    """Writes the files of this module's docstring, and describes the run to W&B."""

    config: Any
    seconds_before = 0.0  # training time of the parts of a resumed run that came before
    started = 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.is_global_zero:
            self.config.ckpt_path = None  # the record describes the run, not the start of this process
            verb = trainer.state.fn.value if trainer.state.fn else stage
            name = "config.yaml" if verb == "fit" else f"config_{verb}.yaml"
            arguments = self.config.model.get("init_args") or {}
            # Arguments that the method set from files, which may be missing when the run is resumed or tested.
            for key in [key for key, value in arguments.items() if value is None]:
                arguments[key] = pl_module.hparams.get(key)
            text = self.parser.dump(self.config, skip_none=False)
            write_text(Path(trainer.default_root_dir) / name, text)
            commit()  # of the running code, before the next commit is made

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._describe_to_wandb(trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.perf_counter()
        for logger in trainer.loggers:
            if isinstance(logger, RunCSVLogger):
                logger.begin(trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._write_fit(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.samples: list[dict[str, np.ndarray]] = []

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._describe_to_wandb(trainer, pl_module)  # after the method has compared the 2-D sources

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: PoseBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, PoseMethod)
        if trainer.is_global_zero and dataloader_idx == 0 and pl_module.protocols[0].dimensions == 3:
            num_batches = int(trainer.num_test_batches[0])
            wanted = np.linspace(0, num_batches - 1, min(_NUM_SAMPLES, num_batches)).astype(int)
            count = -(-_NUM_SAMPLES // len(wanted)) if batch_idx in wanted else 0
            if count and len(self.samples) < _NUM_SAMPLES:
                self.samples.append(_samples(batch, outputs, count))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            assert isinstance(pl_module, PoseMethod)
            folder = Path(trainer.default_root_dir)
            samples = folder / "test_samples.npz"
            samples.unlink(missing_ok=True)  # of an earlier test, possibly of another data set
            if self.samples:
                keys = self.samples[0]
                joined = {key: np.concatenate([part[key] for part in self.samples])[:_NUM_SAMPLES] for key in keys}
                write_npz(samples, skeleton=np.array(pl_module.protocols[0].skeleton), **joined)
            metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
            record = _describe(trainer, pl_module, self.config)
            limit = trainer.limit_test_batches
            if isinstance(limit, int) or limit < 1.0:  # 1 is one batch, 1.0 is all of them
                for protocol in record["protocols"]:  # or tables would show a part as the whole
                    protocol["split"] += f", ONLY {limit} BATCHES"
            record |= {
                "checkpoint": str(trainer.ckpt_path),
                "poses_per_second": pl_module.predicted_poses / max(pl_module.predict_seconds, 1e-9),
                "metrics": metrics,
                "calibration": pl_module.calibration,
                "groups": pl_module.group_tables,
                "poses": pl_module.tested_poses,
            }
            write_text(folder / "test.json", json.dumps(record, indent=2) + "\n")

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds_before = state_dict["seconds"]

    def _seconds(self) -> float:
        return self.seconds_before + (time.perf_counter() - self.started if self.started else 0.0)

    def _write_fit(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        record = {
            **_describe(trainer, pl_module, self.config),
            "seconds": self._seconds(),
            "epochs": trainer.current_epoch + 1,
            "steps": trainer.global_step,
        }
        write_text(Path(trainer.default_root_dir) / "fit.json", json.dumps(record, indent=2) + "\n")

    def _describe_to_wandb(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PoseMethod)
        for logger in trainer.loggers:
            if not isinstance(logger, WandbLogger) or not trainer.is_global_zero:
                continue
            about = _describe(trainer, pl_module, self.config)
            config = json.loads(self.parser.dump(self.config, skip_none=False, format="json"))
            logger.experiment.config.update({**config, **about}, allow_val_change=True)
            for protocol in pl_module.protocols:
                for key in (*POSE_ERRORS, *CALIBRATION):
                    name = f"val/{protocol.dataset}/{key.name}"
                    logger.experiment.define_metric(name, step_metric="trainer/global_step", summary=key.best)


def as_array(tensor: Tensor) -> np.ndarray:
    """A tensor as a float32 array."""
    return tensor.detach().float().cpu().numpy()


def _samples(batch: PoseBatch, prediction: Prediction, count: int) -> dict[str, np.ndarray]:
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


def _describe(trainer: L.Trainer, pl_module: L.LightningModule, config: Any) -> dict[str, Any]:
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
