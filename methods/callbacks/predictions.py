"""Files that `predict` writes to the folder of a run.

runs/<name>/annotations/       of a method with a body, see noise2pose/annotation/writer.py
           /predictions.npz    of any other method: all predictions

With several processes, each writes its own: annotations_RANK/ and predictions_RANK.npz.
"""

import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback

from methods.base import PoseMethod
from methods.callbacks.run_record import RunRecord, as_array
from methods.model_folders import weights_sha256
from noise2pose.annotation.layout import annotate_batch
from noise2pose.annotation.writer import AnnotationWriter, fingerprint
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.files import command, write_npz


class PredictionWriter(Callback):
    """Writes predictions; with a method with a body, an interrupted `predict` continues where it stopped."""

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PoseMethod)
        self.parts: list[dict[str, np.ndarray]] = []
        self.suffix = f"_{trainer.global_rank}" if trainer.world_size > 1 else ""
        self.writer: AnnotationWriter | None = None
        if pl_module.body is None:
            return
        folder = Path(trainer.default_root_dir) / f"annotations{self.suffix}"
        self.writer = AnnotationWriter(folder, _info(trainer, pl_module), _fingerprint(trainer))
        numbers = [int(number) for number in trainer.num_predict_batches]
        pl_module.finished_batches = frozenset(
            (loader, batch)
            for loader, number in enumerate(numbers)
            for batch in range(number)
            if self.writer.has(_part(trainer, loader, batch))
        )

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: PoseBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, PoseMethod)
        if self.writer is None:
            self.parts.append(_predictions(batch, outputs))
        elif outputs:
            assert pl_module.body is not None
            arrays = annotate_batch(batch, outputs, pl_module.body)
            self.writer.write(_part(trainer, dataloader_idx, batch_idx), arrays)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PoseMethod)
        if self.writer is not None:
            pl_module.finished_batches = frozenset()
            found = self.writer.finish(sum(int(number) for number in trainer.num_predict_batches))
            print(f"{found.people} annotations, {found.suspect} of them suspect, written to {self.writer.folder}")
            return
        path = Path(trainer.default_root_dir) / f"predictions{self.suffix}.npz"
        write_npz(path, **{key: np.concatenate([part[key] for part in self.parts]) for key in self.parts[0]})
        print(f"{sum(len(part['sample_id']) for part in self.parts)} predictions written to {path}")


def _predictions(batch: PoseBatch, prediction: Prediction) -> dict[str, np.ndarray]:
    part = {"sample_id": np.array(batch["sample_id"]), "joints_3d": as_array(prediction["joints_3d"])}
    if "uncertainty" in prediction:
        part["uncertainty"] = as_array(prediction["uncertainty"])
    if "hypotheses" in prediction:
        part["hypotheses"] = as_array(prediction["hypotheses"].transpose(0, 1))  # (B, N, J, 3), samples first
    return part


def _part(trainer: L.Trainer, loader: int, batch: int) -> int:
    return sum(int(number) for number in trainer.num_predict_batches[:loader]) + batch


def _info(trainer: L.Trainer, method: PoseMethod) -> dict[str, Any]:
    return {
        "method": method.title,
        "checkpoint": None if trainer.ckpt_path is None else str(trainer.ckpt_path),
        "body": method.body_name,
        "gender": method.body.gender if method.body else "neutral",
        "command": command(),
    }


def _fingerprint(trainer: L.Trainer) -> dict[str, str]:
    """Everything that predictions depend on; data sets are identified by their configuration."""
    known = {"batches": fingerprint(trainer.world_size, [int(number) for number in trainer.num_predict_batches])}
    if trainer.ckpt_path is not None:
        known["checkpoint"] = weights_sha256(Path(trainer.ckpt_path))
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    record = next((callback for callback in callbacks if isinstance(callback, RunRecord)), None)
    if record is not None:
        config = json.loads(record.parser.dump(record.config, skip_none=False, format="json"))
        known |= {key: fingerprint(config.get(key)) for key in ("model", "data", "seed_everything")}
    return known
