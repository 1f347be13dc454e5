"""Pictures of people while a method is trained: its input and its answer.

runs/<name>/pictures/epoch_NNNN.png   the first people of the first validation batch, by `noise2pose.rendering.people`
"""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from methods.base import PoseMethod
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.files import write_png
from noise2pose.rendering.people import draw_people

_KEY = "val/pictures"  # in W&B
_SHOWN = ("image", "keypoints_2d", "box", "camera", "sample_id")
_ANSWERED = ("smpl", "camera_translation")


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
                logger.log_image(_KEY, [picture], step=trainer.global_step)


def _first(tree: Any, keys: tuple[str, ...], count: int) -> Any:
    """Some keys of the first people of a batch or a prediction."""
    return {
        key: _first(tree[key], tuple(tree[key]), count) if isinstance(tree[key], dict) else tree[key][:count]
        for key in keys
        if key in tree
    }
