"""What a method answers, in the folder of a run: files of `predict`, and pictures while it is trained.

runs/<name>/annotations/               of a method with a body, see noise2pose/annotation/writer.py
           /predictions.npz            of any other method: all predictions
           /pictures/epoch_NNNN.png    the first people of the first validation batch, by `noise2pose.rendering.people`

With several processes, each writes its own predictions: annotations_RANK/ and predictions_RANK.npz.
"""

import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from methods.base import PoseMethod
from methods.callbacks.run_record import RunRecord, as_array
from methods.model_folders import weights_sha256
from noise2pose.annotation.layout import annotate_batch
from noise2pose.annotation.writer import AnnotationWriter, fingerprint
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.files import command, write_npz, write_png
from noise2pose.rendering.people import draw_people

_SHOWN = ("image", "keypoints_2d", "box", "camera", "sample_id")  # in pictures
_ANSWERED = ("smpl", "camera_translation")


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
            part = {"sample_id": np.array(batch["sample_id"]), "joints_3d": as_array(outputs["joints_3d"])}
            if "uncertainty" in outputs:
                part["uncertainty"] = as_array(outputs["uncertainty"])
            if "hypotheses" in outputs:
                part["hypotheses"] = as_array(outputs["hypotheses"].transpose(0, 1))  # (B, N, J, 3), samples first
            self.parts.append(part)
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


class ValidationPictures(Callback):
    """Draws people of each validation of a training, for the run's folder and for W&B.

    Methods without a body and data without images have no pictures. No random numbers are drawn, so training is the
    same with and without pictures.

    Args:
        people: number of people of the first batch; 0 for no pictures.
    """

    def __init__(self, people: int = 4) -> None:
        self.people = people

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: PoseBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, PoseMethod)
        wanted = self.people > 0 and trainer.is_global_zero and (batch_idx, dataloader_idx) == (0, 0)
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not wanted or not fitting or getattr(trainer, "fast_dev_run", False):
            return
        if pl_module.body is None or "image" not in batch or not set(_ANSWERED) <= outputs.keys():
            return
        people: PoseBatch = _first(batch, _SHOWN, self.people)
        answers: Prediction = _first(outputs, _ANSWERED, self.people)
        with trainer.precision_plugin.forward_context():
            maps = pl_module.joint_maps(people)
        picture = draw_people(people, answers, pl_module.body, maps)
        folder = Path(trainer.default_root_dir) / "pictures"
        write_png(folder / f"epoch_{trainer.current_epoch:04d}.png", picture)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("val/pictures", [picture], step=trainer.global_step)


def _first(tree: Any, keys: tuple[str, ...], count: int) -> Any:
    """Some keys of the first people of a batch or a prediction."""
    return {
        key: _first(tree[key], tuple(tree[key]), count) if isinstance(tree[key], dict) else tree[key][:count]
        for key in keys
        if key in tree
    }
