"""What every method shares: how it is validated, tested and logged, so that two methods differ in one word only."""

import copy
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from methods.evaluation import EvaluationSet, with_training_source
from noise2pose.batch import JointMaps, PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.metrics.keys import ORACLE, main_error
from noise2pose.metrics.protocols import Protocol

# What checkpoints are chosen by: MPJPE on the first validation set, in pixels where that has no more than 2-D
# annotations; not written to any logger.
MONITOR = "val_mpjpe"
_STEP_STRIDE = 1_000_003  # processes draw different numbers as long as there are fewer of them than this


class PoseMethod(L.LightningModule):
    """A method that answers a batch of people with a `Prediction`.

    A method writes `forward`, `training_step` and `configure_optimizers`; validation, test and prediction are written
    here once. Constructor arguments are plain scalars, so that checkpoints load with `weights_only=True` and the
    command line can show them.

    Attributes:
        title: how tables call the method, for example "DiffPose (release)".
        num_frames: of the clips that it takes; 1 for single frames.
        num_hypotheses: poses averaged for the answer.
        num_steps: denoiser calls per hypothesis; 0 for a method without diffusion.
        input: `image` for a method that cannot do without the picture, `keypoints` for one that can.
        ema_decay: of the moving average of its weights in long runs; None for what `WarmupEMA` is given.
        weight_files: constructor arguments that name files of weights to start from, which a checkpoint makes
            unnecessary.
        body: whose parameters the method predicts; None for a method that predicts joints only.
        resumed: whether the fit goes on from a checkpoint, so that files with weights to start from need not be there;
            to be said before the fit, because Lightning tells only after `setup`.
        finished_batches: (loader, batch) that an interrupted `predict` has answered; they get an empty answer.
    """

    title: str = ""
    num_frames: int = 1
    num_hypotheses: int = 1
    num_steps: int = 0
    input: str = "keypoints"
    ema_decay: float | None = None
    weight_files: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.body: BodyModel | None = None
        self.resumed = False
        self.finished_batches: frozenset[tuple[int, int]] = frozenset()
        self.eval_metrics = nn.ModuleList()
        self.protocols: list[Protocol] = []
        self.trained_on: str | None = None  # sources of the 2-D keypoints of the training; None if nobody knows
        self.predicted_poses = 0
        self.predict_seconds = 0.0
        self.calibration: dict[str, list[float]] = {}  # curves of the last test, for its record
        self.group_tables: dict[str, dict[str, Any]] = {}  # of each data set of the last test, for its record
        self.tested_poses: dict[str, int] = {}  # with ground truth, of each data set
        self._seed = 0

    @property
    def selectable(self) -> bool:
        """Whether this epoch's weights may become the run's best checkpoint."""
        return True

    @property
    def uses_keypoints(self) -> bool:
        """Whether the answer depends on `keypoints_2d`, so that it matters where those of the training came from."""
        return self.input == "keypoints"

    @property
    def body_name(self) -> str:
        """The body whose parameters the method predicts: `free`, or the file that it was read from."""
        return str(self.hparams.get("body", "free"))

    @property
    def needs_ground_truth(self) -> bool:
        """Whether the answer was chosen with the ground truth; its errors are then logged under `.../oracle/` only."""
        return False

    def choose(self, selector: Any) -> None:
        """Takes another way of choosing the answer, where the method has several.

        Raises:
            InputError: if it has not, or none of that name.
        """
        raise InputError(f"{self.title} has no selectors to choose from")

    @property
    def starts_stage(self) -> bool:
        """Whether this epoch begins to train parts that were frozen, so that averages of weights must start again."""
        return False

    def frozen_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the optimiser that are not trained in this epoch."""
        return iter(())

    @abstractmethod
    def forward(self, batch: PoseBatch) -> Prediction:
        """Answers a batch; uses no ground truth and no global random state."""

    def joint_maps(self, batch: PoseBatch) -> JointMaps | None:
        """Where the method was told that joints are, and where it looked, for pictures; None for most methods."""
        return None

    def predict_step(self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
        if (dataloader_idx, batch_idx) in self.finished_batches:
            return {}
        return self(batch)

    def check_training(self, trainer: L.Trainer, resumed: bool) -> None:
        """Refuses a training that cannot work; called before data are prepared, which may take minutes.

        Args:
            trainer: of the training.
            resumed: whether it goes on from a checkpoint.

        Raises:
            InputError: if settings are missing, or contradict each other or the trainer's.
        """

    def setup(self, stage: str) -> None:
        """Makes one set of metrics for each evaluation set of the data module.

        Raises:
            InputError: if two sets have one name, or a fit would validate on another source of 2-D keypoints.
        """
        if stage == "fit":
            self.check_training(self.trainer, self.resumed)
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        split = "test" if stage == "test" else "val"
        self.protocols = [] if datamodule is None or stage == "predict" else datamodule.protocols(split)
        names = [protocol.dataset for protocol in self.protocols]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise InputError(f"two evaluation sets are called {', '.join(sorted(repeated))}, and their numbers mix")
        if stage == "fit" and datamodule is not None:
            self.trained_on = "+".join(sorted(datamodule.training_sources()))
            self._check_sources()
        self.eval_metrics = nn.ModuleList(EvaluationSet(protocol) for protocol in self.protocols)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["class_path"] = class_path_of(type(self))
        checkpoint["trained_on"] = self.trained_on

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.trained_on = checkpoint.get("trained_on")
        if "optimizer_states" in checkpoint and self._trainer is not None and self.trainer.training:
            # The file is mapped into memory: it would stay on the disk, replaced or not, for as long as that is used.
            checkpoint["optimizer_states"] = copy.deepcopy(checkpoint["optimizer_states"])

    def _check_sources(self) -> None:
        if self.uses_keypoints and self.protocols:
            allowed = self.trainer.datamodule.mixed_keypoints_2d  # pyright: ignore[reportAttributeAccessIssue]
            self.protocols = with_training_source(self.protocols, self.trained_on, allowed, self.title)

    def on_fit_start(self) -> None:
        self._seed = torch.initial_seed()
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        if datamodule is not None:  # what it trains on now, also where it was resumed from another's checkpoint
            self.trained_on = "+".join(sorted(datamodule.training_sources()))

    def on_train_batch_start(self, batch: PoseBatch, batch_idx: int) -> None:
        # Noise and dropout of a step depend on the seed, the step and the process alone, so a resumed run continues
        # exactly where the interrupted one would have.
        step = self._seed + self.global_step * _STEP_STRIDE + self.global_rank
        torch.manual_seed(step % 2**63)

    def validation_step(self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
        prediction = self.predict_step(batch, batch_idx, dataloader_idx)
        self._update_metrics(dataloader_idx, batch, prediction)
        return prediction

    def on_validation_start(self) -> None:
        if not self.trainer.training and not self.trainer.sanity_checking:
            self._check_sources()

    def on_test_start(self) -> None:
        self._check_sources()
        self.predicted_poses, self.predict_seconds = 0, 0.0

    def test_step(self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
        started = time.perf_counter()
        prediction = self.predict_step(batch, batch_idx, dataloader_idx)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if batch_idx == 1 and dataloader_idx == 0:  # the first batch warmed up; it counts only if it is the only one
            self.predicted_poses, self.predict_seconds = 0, 0.0
        self.predict_seconds += time.perf_counter() - started
        self.predicted_poses += prediction["joints_3d"].shape[:-2].numel()
        self._update_metrics(dataloader_idx, batch, prediction)
        return prediction

    def on_validation_epoch_end(self) -> None:
        value = self._log_metrics("val")
        if value is not None:
            value = value if self.selectable else torch.full_like(value, torch.inf)
            self.log(MONITOR, value, logger=False, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        self.calibration = self._evaluation_sets[0].curves()
        self.group_tables = {
            evaluation.protocol.dataset: table for evaluation in self._evaluation_sets if (table := evaluation.table())
        }
        self.tested_poses = {e.protocol.dataset: int(e.poses.compute()) for e in self._evaluation_sets}
        self._log_metrics("test")

    def _update_metrics(self, dataloader_idx: int, batch: PoseBatch, prediction: Prediction) -> None:
        self._evaluation_sets[dataloader_idx].update(batch, prediction, self.body)

    def _log_metrics(self, split: str) -> Tensor | None:
        """Logs every metric that saw data on any process; returns the error of the first set, which runs are judged by.

        Raises:
            InputError: if nothing of the first set could be measured.
        """
        first = None
        for evaluation in self._evaluation_sets:
            prefix = f"{split}/{evaluation.protocol.dataset}"
            values = evaluation.compute(self.num_hypotheses, self.needs_ground_truth)
            evaluation.reset()
            # Already the same on every process; `sync_dist` only tells Lightning so.
            self.log_dict({f"{prefix}/{name}": value.float() for name, value in values.items()}, sync_dist=True)
            if evaluation is self._evaluation_sets[0]:
                prefix = ORACLE if self.needs_ground_truth else ""
                error = f"{prefix}{main_error(evaluation.protocol.dimensions).name}"
                if error not in values:
                    raise InputError(
                        f"{split} of {evaluation.protocol.dataset}: no answer of {self.title} could be compared with a "
                        f"ground truth in {evaluation.protocol.dimensions}-D ({error})"
                    )
                first = values[error].float()
        return first

    @property
    def _evaluation_sets(self) -> list[EvaluationSet]:
        return [evaluation for evaluation in self.eval_metrics if isinstance(evaluation, EvaluationSet)]


def class_path_of(kind: type) -> str:
    """The address of a class that checkpoints store: a package that offers it, since the file may move."""
    parts = kind.__module__.split(".")
    for number in range(1, len(parts)):
        package = ".".join(parts[:number])
        if getattr(import_module(package), kind.__name__, None) is kind:
            return f"{package}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__name__}"


def scheduled(optimizer: Optimizer, warmup_steps: int, *spans: range) -> dict[str, Any]:
    """What `configure_optimizers` returns: an optimiser whose learning rate follows `warmup_cosine`.

    Args:
        optimizer: of the training.
        warmup_steps: optimiser steps of linear warm-up, at most half of a span.
        spans: optimiser steps in which each parameter group is trained; or one span for all groups.
    """
    factors = [warmup_cosine(len(span), min(warmup_steps, len(span) // 2), span.start) for span in spans]
    schedule = LambdaLR(optimizer, factors if len(factors) > 1 else factors[0])
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warmup_cosine(num_steps: int, warmup_steps: int, start: int = 0) -> Callable[[int], float]:
    """Learning rate factor per optimiser step: linear warm-up, then half a cosine down to zero; zero outside.

    Args:
        num_steps: length of the schedule.
        warmup_steps: of the `num_steps`, how many warm up.
        start: first step of the schedule.

    Returns:
        Function for `torch.optim.lr_scheduler.LambdaLR`.
    """

    def factor(step: int) -> float:
        step -= start
        if step < 0 or step >= num_steps:
            return 0.0
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup_steps) / (num_steps - warmup_steps)))

    return factor
