"""Methods that fit the spread of their hypotheses on validation."""

from typing import Any, Literal

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from methods.base import PoseMethod
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.metrics.spread_scale import SpreadScale, scaled

SpreadSource = Literal["validation", "none"]


class SpreadMethod(PoseMethod):
    """A method whose hypotheses deviate from their mean by a factor that is fitted on validation.

    Each validation of a fit ends with a new factor, from the hypotheses of the first evaluation set; the metrics of
    that validation were measured with the factor before. The factor is a buffer, 1 with `none` and in checkpoints that
    have none, and logged as `val/<dataset>/spread_factor`.
    """

    spread_factor: Tensor
    fitted_spread: SpreadScale | None

    def add_spread(self, source: SpreadSource, root: int) -> None:
        """Adds the factor; to be called once by the constructor.

        Args:
            source: `validation`, or `none` to leave the factor at 1.
            root: joint on which poses are centred.
        """
        self.register_buffer("spread_factor", torch.ones(()))
        self.fitted_spread = SpreadScale(root=root) if source == "validation" else None

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.fitted_spread is not None and self.fitted_spread.update_called:
            self.spread_factor.copy_(self.fitted_spread.compute())
            self.fitted_spread.reset()
            # Already the same on every process; `sync_dist` only tells Lightning so.
            self.log(f"val/{self.protocols[0].dataset}/spread_factor", self.spread_factor.clone(), sync_dist=True)

    def _update_metrics(self, dataloader_idx: int, batch: PoseBatch, prediction: Prediction) -> None:
        super()._update_metrics(dataloader_idx, batch, prediction)
        fits = self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking and dataloader_idx == 0
        poses = prediction.get("hypotheses")
        if self.fitted_spread is not None and fits and poses is not None and len(poses) > 1:
            truth = batch["keypoints_3d"]
            self.fitted_spread.update(scaled(poses, 1.0 / self.spread_factor), truth[..., :3], truth[..., 3])

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        key, one = f"{prefix}spread_factor", torch.ones_like(self.spread_factor)
        state_dict[key] = one if self.fitted_spread is None else state_dict.get(key, one)
        super()._load_from_state_dict(state_dict, prefix, *args)
