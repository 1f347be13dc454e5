"""The base of every method: validation, test and logging, so that one word on the command line exchanges a method."""

import copy
import sys
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import FrameType
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn

from methods.evaluation import EvaluationSet, details_of
from methods.ranges import Range, check_ranges
from methods.resuming import restart_epoch, samples_of_batch
from methods.schedules import Schedule, step_of_training
from noise2pose.batch import JointMaps, PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.metrics.keys import FIRST_STAGE, ORACLE, main_error
from noise2pose.metrics.protocols import Protocol, in_the_image, with_training_source

# What checkpoints are chosen by: MPJPE on the first validation set, in pixels if that or the method is 2-D; not logged.
MONITOR = "val_mpjpe"
_STEP_STRIDE = 1_000_003  # up to so many processes draw different random numbers
_BATCH_STRIDE = 2_654_435_769  # odd, since the CPU's generator takes the lowest 32 bits of a seed


class PoseMethod(L.LightningModule):
    """A method that predicts the poses of a batch of people as a `Prediction`.

    A method implements `forward`, `training_step` and `configure_optimizers`; validation, test and prediction are
    implemented here. Constructor arguments are plain scalars, so that checkpoints load with `weights_only=True` and the
    command line can show them.

    Attributes:
        title: name of the method in tables, for example "DiffPose (release)".
        num_frames: of the clips that it takes; 1 for single frames.
        num_hypotheses: poses that are combined to one answer.
        num_steps: denoiser calls per hypothesis; 0 for a method without diffusion.
        input: `image` for a method that needs the image, `keypoints` for one that does not.
        ema_decay: of the moving average of its weights in long runs; None for the decay of `WarmupEMA`.
        weight_files: constructor arguments that name files of initial weights, which are not needed with a checkpoint.
        answers: poses in space, or keypoints in the image, whose errors are then those in 2-D.
        answers_mesh: whether predictions have vertices; false in a method that asks for the body's parameters alone.
        ranges: least and largest value of constructor arguments whose names do not say it (see `methods.ranges`).
        body: whose parameters the method predicts; None for a method that predicts joints only.
        resumed: whether the fit resumes from a checkpoint, so that files of initial weights may be missing; to be set
            before the fit, because Lightning sets it only after `setup`.
        finished_batches: (loader, batch) that an interrupted `predict` has written; their prediction is empty.
    """

    title: str = ""
    num_frames: int = 1
    num_hypotheses: int = 1
    num_steps: int = 0
    input: str = "keypoints"
    ema_decay: float | None = None
    weight_files: tuple[str, ...] = ()
    answers: Literal["joints_3d", "keypoints_2d"] = "joints_3d"
    answers_mesh: bool = True
    ranges: Mapping[str, Range] = {}

    def __init__(self) -> None:
        super().__init__()
        self.body: BodyModel | None = None
        self.resumed = False
        self.finished_batches: frozenset[tuple[int, int]] = frozenset()
        self.eval_metrics = nn.ModuleList()
        self.protocols: list[Protocol] = []
        self.trained_on: str | None = None  # sources of the 2-D keypoints in training; None if unknown
        self.predicted_poses = 0
        self.predict_seconds = 0.0
        self.calibration: dict[str, list[float]] = {}  # curves of the last test, for its record
        self.group_tables: dict[str, dict[str, Any]] = {}  # of each data set of the last test, for its record
        self.details: dict[str, dict[str, Any]] = {}  # of the last test, for its record, see `details_of`
        self._seed = 0
        # When the checkpoint was made that is resumed from: batches of an epoch, and samples of one over all processes.
        self._num_batches_before: int | None = None
        self.samples_before: int | None = None
        self._optimiser_options: list[list[dict[str, Any]]] = []

    def save_hyperparameters(self, *args: Any, frame: FrameType | None = None, **kwargs: Any) -> None:
        """Keeps the arguments of the constructor, which calls it first.

        Raises:
            InputError: if a number is out of its range.
        """
        super().save_hyperparameters(*args, frame=frame or sys._getframe(1), **kwargs)
        check_ranges(self.hparams, self.ranges)

    @property
    def selectable(self) -> bool:
        """Whether this epoch's weights may become the run's best checkpoint; its errors are the method's."""
        return True

    @property
    def uses_keypoints(self) -> bool:
        """Whether the answer depends on `keypoints_2d`, and therefore on their source in training."""
        return self.input == "keypoints"

    @property
    def body_name(self) -> str:
        """The body whose parameters the method predicts: `free`, or its file."""
        return str(self.hparams.get("body", "free"))

    @property
    def needs_ground_truth(self) -> bool:
        """Whether the answer was chosen with the ground truth; its errors are then logged under `.../oracle/` only."""
        return False

    def choose(self, selector: Any) -> None:
        """Sets another selector of the answer, in a method that has several.

        Raises:
            InputError: if the method has no selectors, or the name is unknown.
        """
        raise InputError(f"{self.title} has no selectors to choose from")

    @property
    def starts_stage(self) -> bool:
        """Whether this epoch begins to train frozen parts, so that averages of weights are started again."""
        return False

    def frozen_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the optimiser that are not trained in this epoch."""
        return iter(())

    @abstractmethod
    def forward(self, batch: PoseBatch) -> Prediction:
        """Predicts the poses of a batch, without ground truth and global random state."""

    def joint_maps(self, batch: PoseBatch) -> JointMaps | None:
        """Heat-maps of the input joints and attention maps, to be drawn; None for most methods."""
        return None

    def predict_step(self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
        if (dataloader_idx, batch_idx) in self.finished_batches:
            return {}
        return self(batch)

    def check_training(self, trainer: L.Trainer, resumed: bool) -> None:
        """Checks the settings of a training; called before data are prepared, which may take minutes.

        Args:
            trainer: of the training.
            resumed: whether it resumes from a checkpoint.

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
        self.protocols = [in_the_image(p) for p in self.protocols] if self.answers == "keypoints_2d" else self.protocols
        names = [protocol.dataset for protocol in self.protocols]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise InputError(
                f"two evaluation sets are called {', '.join(sorted(repeated))}, and their numbers would be mixed"
            )
        if stage == "fit" and datamodule is not None:
            self.trained_on = "+".join(sorted(datamodule.training_sources()))
            self._check_sources()
        self.eval_metrics = nn.ModuleList(EvaluationSet(protocol) for protocol in self.protocols)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["class_path"] = class_path_of(type(self))
        checkpoint["trained_on"] = self.trained_on
        checkpoint["num_training_batches"] = self.trainer.num_training_batches
        checkpoint["samples_of_batch"] = samples_of_batch(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.trained_on = checkpoint.get("trained_on")
        if self._trainer is not None and self.trainer.training:
            if "optimizer_states" not in checkpoint:
                raise InputError(
                    "--ckpt_path: fit resumes a training, and this checkpoint holds weights alone: give the last.ckpt "
                    "of a run, or leave --ckpt_path out"
                )
            self._num_batches_before = checkpoint.get("num_training_batches")
            self.samples_before = checkpoint.get("samples_of_batch")
            # The file is mapped into memory, and would stay on the disk, also when replaced, as long as this is used.
            checkpoint["optimizer_states"] = copy.deepcopy(checkpoint["optimizer_states"])

    def _check_sources(self) -> None:
        if self.uses_keypoints and self.protocols:
            allowed = self.trainer.datamodule.mixed_keypoints_2d  # pyright: ignore[reportAttributeAccessIssue]
            self.protocols = with_training_source(self.protocols, self.trained_on, allowed, self.title)

    def on_fit_start(self) -> None:
        self._seed = torch.initial_seed()
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        if datamodule is not None:  # also if the run was resumed from a checkpoint of another data set
            self.trained_on = "+".join(sorted(datamodule.training_sources()))
        self._optimiser_options = [  # before the checkpoint replaces them
            [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
            for optimizer in self.trainer.optimizers
        ]

    def on_train_start(self) -> None:
        """Resumes with the optimiser's options of this configuration, at this set-up's place in its schedule."""
        trainer = self.trainer
        if trainer.ckpt_path is None:
            return
        if trainer.fit_loop.restarted_mid_epoch:
            others = self._num_batches_before not in (None, trainer.num_training_batches)
            if others or self.samples_before not in (None, samples_of_batch(trainer)):
                restart_epoch(trainer)
            self.on_train_epoch_start()  # which Lightning leaves out
        schedules: list[Any] = [config.scheduler for config in trainer.lr_scheduler_configs]
        if not all(isinstance(schedule, Schedule) for schedule in schedules):
            return
        for optimizer, options in zip(trainer.optimizers, self._optimiser_options, strict=True):
            for group, given in zip(optimizer.param_groups, options, strict=True):
                group.update(given)
        for schedule in schedules:
            schedule.go_to(step_of_training(trainer))

    def on_train_batch_start(self, batch: PoseBatch, batch_idx: int) -> None:
        # Noise and dropout depend only on the seed, the step, which of its batches this is, and the process, so a
        # resumed run continues exactly as the interrupted one would have.
        step = self._seed + self.global_step * _STEP_STRIDE + self.global_rank
        torch.manual_seed((step + batch_idx % self.trainer.accumulate_grad_batches * _BATCH_STRIDE) % 2**63)

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
        if batch_idx == 1 and dataloader_idx == 0:  # the first batch is a warm-up; it counts only if it is the only one
            self.predicted_poses, self.predict_seconds = 0, 0.0
        self.predict_seconds += time.perf_counter() - started
        self.predicted_poses += prediction[self.answers].shape[:-2].numel()
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
        self.details = details_of(self._evaluation_sets, self.needs_ground_truth)
        self._log_metrics("test")

    def _update_metrics(self, dataloader_idx: int, batch: PoseBatch, prediction: Prediction) -> None:
        self._evaluation_sets[dataloader_idx].update(batch, prediction, self.body)

    def _log_metrics(self, split: str) -> Tensor | None:
        """Logs every metric that has data on any process; returns the error of the first set, for choosing checkpoints.

        Raises:
            InputError: if no answer of the first set could be measured.
        """
        first, stage = None, "" if self.selectable else FIRST_STAGE
        for evaluation in self._evaluation_sets:
            prefix = f"{split}/{evaluation.protocol.dataset}/{stage}"
            values = evaluation.compute(self.num_hypotheses, self.needs_ground_truth)
            evaluation.reset()
            # Already the same on every process; `sync_dist` only tells Lightning so.
            self.log_dict({prefix + name: value.float() for name, value in values.items()}, sync_dist=True)
            if evaluation is self._evaluation_sets[0]:
                prefix = ORACLE if self.needs_ground_truth else ""
                error = f"{prefix}{main_error(evaluation.protocol.dimensions).name}"
                if error not in values:
                    raise InputError(
                        f"{split} of {evaluation.protocol.dataset}: no answer of {self.title} could be compared with "
                        f"{evaluation.protocol.dimensions}-D ground truth ({error})"
                    )
                first = values[error].float()
        return first

    @property
    def _evaluation_sets(self) -> list[EvaluationSet]:
        return [evaluation for evaluation in self.eval_metrics if isinstance(evaluation, EvaluationSet)]


def class_path_of(kind: type) -> str:
    """The class path that checkpoints store: of the package that exports the class, since the file may move."""
    parts = kind.__module__.split(".")
    for number in range(1, len(parts)):
        package = ".".join(parts[:number])
        if getattr(import_module(package), kind.__name__, None) is kind:
            return f"{package}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__name__}"
