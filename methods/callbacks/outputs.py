"""What a method answers, in the folder of a run: files of `predict`, and pictures while it is trained.

runs/<name>/annotations/               of a method with a body, see noise2pose/annotation/writer.py
           /predictions.npz            of any other method: all predictions
           /pictures/epoch_NNNN.png    the first people of the first validation batch, by `noise2pose.rendering.people`

Several processes write these files together, in the order of the data, as one process would.
"""

import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from methods.base import PoseMethod
from methods.callbacks.description import as_array
from methods.callbacks.run_record import RunRecord
from methods.model_folders import weights_sha256
from noise2pose import skeletons
from noise2pose.annotation.layout import annotate_batch
from noise2pose.annotation.writer import AnnotationWriter, fingerprint
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError
from noise2pose.files import command, write_npz, write_png
from noise2pose.rendering.lifted import draw_lifted
from noise2pose.rendering.people import draw_people

_SHOWN = ("image", "keypoints_2d", "box", "camera", "sample_id")  # in pictures
_NUMBER = "_number"  # of the batch of each sample, until the parts of all processes are joined
_ANSWERED = ("smpl", "camera_translation")


class PredictionWriter(Callback):
    """Writes predictions; with a method with a body, an interrupted `predict` continues where it stopped."""

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Finds what an interrupted `predict` has written.

        Raises:
            InputError: if that was made from something else.
        """
        assert isinstance(pl_module, PoseMethod)
        self.parts: list[dict[str, np.ndarray]] = []
        numbers = [int(number) for number in trainer.num_predict_batches]
        # Of all processes, which take the batches of a loader in turns.
        totals: Any = trainer.strategy.reduce(torch.tensor(numbers, device=pl_module.device), reduce_op="sum")
        self.totals = [int(total) for total in totals]
        self.writer: AnnotationWriter | None = None
        if pl_module.body is None:
            return
        refused = None
        if trainer.is_global_zero:
            try:
                self.writer = self._annotations(trainer, pl_module)
            except InputError as error:
                refused = str(error)
        if refused := trainer.strategy.broadcast(refused):  # by all processes, or the others would wait for the first
            raise InputError(refused)
        self.writer = self.writer or self._annotations(trainer, pl_module)
        pl_module.finished_batches = frozenset(
            (loader, batch)
            for loader, number in enumerate(numbers)
            for batch in range(number)
            if self.writer.has(self._number(trainer, loader, batch))
        )

    def _annotations(self, trainer: L.Trainer, method: PoseMethod) -> AnnotationWriter:
        folder = Path(trainer.default_root_dir) / "annotations"
        return AnnotationWriter(folder, _info(trainer, method), _fingerprint(trainer, self.totals))

    def _number(self, trainer: L.Trainer, loader: int, batch: int) -> int:
        """The number of a batch of this process among those of all processes and loaders."""
        return sum(self.totals[:loader]) + batch * trainer.world_size + trainer.global_rank

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
        number = self._number(trainer, dataloader_idx, batch_idx)
        if self.writer is None:
            part = {"sample_id": np.array(batch["sample_id"]), pl_module.answers: as_array(outputs[pl_module.answers])}
            part[_NUMBER] = np.full(len(part["sample_id"]), number)
            if "uncertainty" in outputs:
                part["uncertainty"] = as_array(outputs["uncertainty"])
            if "hypotheses" in outputs:
                part["hypotheses"] = as_array(outputs["hypotheses"].transpose(0, 1))  # (B, N, J, 3), samples first
            self.parts.append(part)
        elif outputs:
            assert pl_module.body is not None
            arrays = annotate_batch(batch, outputs, pl_module.body)
            self.writer.write(number, arrays)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PoseMethod)
        if self.writer is not None:
            pl_module.finished_batches = frozenset()
            trainer.strategy.barrier()  # all parts are written
            if trainer.is_global_zero:
                found = self.writer.finish(sum(self.totals))
                print(f"{found.people} annotations, {found.suspect} of them suspect, written to {self.writer.folder}")
        else:
            self._join_predictions(trainer)
        trainer.strategy.barrier()  # no process ends before the file is there

    def _join_predictions(self, trainer: L.Trainer) -> None:
        path = Path(trainer.default_root_dir) / "predictions.npz"
        own = {key: np.concatenate([part[key] for part in self.parts]) for key in self.parts[0]}
        parts = [path.with_name(f"predictions_{rank}.part.npz") for rank in range(trainer.world_size)]
        if trainer.world_size > 1:
            write_npz(parts[trainer.global_rank], **own)
            trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return
        found = [own]
        for part in parts[1:]:
            with np.load(part) as file:
                found.append(dict(file))
        joined = {key: np.concatenate([arrays[key] for arrays in found]) for key in own}
        order = np.argsort(joined.pop(_NUMBER), kind="stable")
        write_npz(path, **{key: values[order] for key, values in joined.items()})
        for part in parts:
            part.unlink(missing_ok=True)
        print(f"{len(order)} predictions written to {path}")


def _info(trainer: L.Trainer, method: PoseMethod) -> dict[str, Any]:
    return {
        "method": method.title,
        "checkpoint": None if trainer.ckpt_path is None else str(trainer.ckpt_path),
        "body": method.body_name,
        "gender": method.body.gender if method.body else "neutral",
        "command": command(),
    }


def _fingerprint(trainer: L.Trainer, totals: list[int]) -> dict[str, str]:
    """Everything that predictions depend on; data sets are identified by their configuration."""
    known = {"batches": fingerprint(1, totals)}  # whatever the number of processes
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

    Methods with a body, on data with images, have bodies over the images; all others have skeletons, those of clips in
    the middle frame. Data without 3-D ground truth and images have no pictures. No random numbers are drawn, so
    training is the same with and without pictures.

    Args:
        people: number of people of the first batch; 0 for no pictures.
    """

    def __init__(self, people: int = 4) -> None:
        if people < 0:
            raise InputError(f"--pictures.people is {people}, expected at least 0")
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
        if pl_module.body is not None and "image" in batch and set(_ANSWERED) <= outputs.keys():
            people: PoseBatch = _first(batch, _SHOWN, self.people)
            answers: Prediction = _first(outputs, _ANSWERED, self.people)
            with trainer.precision_plugin.forward_context():
                maps = pl_module.joint_maps(people)
            picture = draw_people(people, answers, pl_module.body, maps)
        elif {"keypoints_2d", "keypoints_3d"} <= batch.keys() and pl_module.protocols[0].dimensions == 3:
            picture = _lifted(pl_module, batch, outputs, self.people)
        else:
            return
        folder = Path(trainer.default_root_dir) / "pictures"
        write_png(folder / f"epoch_{trainer.current_epoch:04d}.png", picture)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("val/pictures", [picture], step=trainer.global_step)


def _lifted(method: PoseMethod, batch: PoseBatch, outputs: Prediction, count: int) -> np.ndarray:
    """The skeletons of the first samples, around the root of the protocol."""
    protocol = method.protocols[0]

    def of_first(values: torch.Tensor) -> np.ndarray:
        values = values[:count]
        return as_array(values[:, values.shape[1] // 2] if values.ndim == 4 else values)

    def centred(poses: np.ndarray) -> np.ndarray:
        return poses - poses[:, protocol.root, None]

    prediction, target = (of_first(each[..., :3]) for each in (outputs["joints_3d"], batch["keypoints_3d"]))
    skeleton = skeletons.get(protocol.skeleton)
    return draw_lifted(of_first(batch["keypoints_2d"]), centred(prediction), centred(target), skeleton)


def _first(tree: Any, keys: tuple[str, ...], count: int) -> Any:
    """Some keys of the first people of a batch or a prediction."""
    return {
        key: _first(tree[key], tuple(tree[key]), count) if isinstance(tree[key], dict) else tree[key][:count]
        for key in keys
        if key in tree
    }
