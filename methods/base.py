"""What every method shares: how it is validated, tested and logged, so that two methods differ in one word only."""

import math
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from noise2pose import keyed_random
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.metrics import AUC, MPJPE, MPJVE, NMPJPE, PAMPJPE, PCK, PVE, Calibration
from noise2pose.metrics.oracle import best_of, null_hypotheses
from noise2pose.metrics.protocols import Protocol

MONITOR = "val_mpjpe"  # what checkpoints are chosen by: MPJPE on the first validation set; not written to any logger
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
        body: whose parameters the method predicts; None for a method that predicts joints only.
        finished_batches: (loader, batch) that an interrupted `predict` has answered; they get an empty answer.
    """

    title: str = ""
    num_frames: int = 1
    num_hypotheses: int = 1
    num_steps: int = 0
    input: str = "keypoints"
    ema_decay: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self.body: BodyModel | None = None
        self.finished_batches: frozenset[tuple[int, int]] = frozenset()
        self.eval_metrics = nn.ModuleDict()
        self.protocols: list[Protocol] = []
        self.predicted_poses = 0
        self.predict_seconds = 0.0
        self.calibration: dict[str, list[float]] = {}  # curves of the last test, for its record
        self._seed = 0

    @property
    def selectable(self) -> bool:
        """Whether this epoch's weights may become the run's best checkpoint."""
        return True

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
    def starts_anew(self) -> bool:
        """Whether this epoch begins to train parts that have rested, so that averages of weights must start again."""
        return False

    @abstractmethod
    def forward(self, batch: PoseBatch) -> Prediction:
        """Answers a batch; uses no ground truth and no global random state."""

    def predict_step(self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
        if (dataloader_idx, batch_idx) in self.finished_batches:
            return {}
        return self(batch)

    def setup(self, stage: str) -> None:
        """Makes one set of metrics for each evaluation set of the data module."""
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        split = "test" if stage == "test" else "val"
        self.protocols = [] if datamodule is None or stage == "predict" else datamodule.protocols(split)
        self.eval_metrics = nn.ModuleDict({str(i): _metrics(protocol) for i, protocol in enumerate(self.protocols)})

    def on_fit_start(self) -> None:
        self._seed = torch.initial_seed()

    def on_train_batch_start(self, batch: PoseBatch, batch_idx: int) -> None:
        # Noise and dropout of a step depend on the seed, the step and the process alone, so a resumed run continues
        # exactly where the interrupted one would have.
        step = self._seed + self.global_step * _STEP_STRIDE + self.global_rank
        torch.manual_seed(step % 2**63)

    def validation_step(self, batch: PoseBatch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
        prediction = self.predict_step(batch, batch_idx, dataloader_idx)
        self._update_metrics(dataloader_idx, batch, prediction)
        return prediction

    def on_test_start(self) -> None:
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
        values = self._log_metrics("val")
        if values:
            value = values[0] if self.selectable else torch.full_like(values[0], torch.inf)
            self.log(MONITOR, value, logger=False, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        metrics: Any = self.eval_metrics["0"]
        calibration = metrics["calibration"]
        if calibration.update_called:
            curves = {**calibration.sparsification(), "crps_per_joint": calibration.crps_per_joint()}
            self.calibration = {name: values.tolist() for name, values in curves.items()}
        self._log_metrics("test")

    def _update_metrics(self, dataloader_idx: int, batch: PoseBatch, prediction: Prediction) -> None:
        target, valid = batch["keypoints_3d"][..., :3], batch["keypoints_3d"][..., 3]
        metrics: Any = self.eval_metrics[str(dataloader_idx)]
        for name, metric in metrics["deployable"].items():
            if name != "mpjve" or target.ndim == 4:
                metric.update(prediction["joints_3d"], target, valid)
        if "vertices" in prediction and "smpl" in batch:
            self._update_vertex_error(metrics["vertices"], batch, prediction, self.protocols[dataloader_idx])
        hypotheses = prediction.get("hypotheses")
        if hypotheses is None or len(hypotheses) < 2:
            return
        root = self.protocols[dataloader_idx].root
        keys = keyed_random.keys_of(batch["sample_id"], device=target.device)
        metrics["calibration"].update(hypotheses, target, valid)
        oracle = metrics["oracle"]
        oracle["best"].update(best_of(hypotheses, target, valid, root), target, valid)
        oracle["null"].update(best_of(null_hypotheses(hypotheses, keys), target, valid, root), target, valid)

    def _update_vertex_error(
        self, metric: Metric, batch: PoseBatch, prediction: Prediction, protocol: Protocol
    ) -> None:
        assert self.body is not None, "a method that answers with vertices has a body"
        known = batch["has_smpl"]
        given: Any = batch["smpl"]
        smpl = {key: value[known] for key, value in given.items()}
        root = self.body.joints(**smpl, regressor=protocol.skeleton)[:, protocol.root]
        metric.update(prediction["vertices"][known], self.body(**smpl).vertices - root[:, None])

    def _log_metrics(self, split: str) -> list[Tensor]:
        """Logs every metric that saw data on any process; returns the MPJPE of each evaluation set."""
        errors = []
        for i, protocol in enumerate(self.protocols):
            prefix = f"{split}/{protocol.dataset}"
            deployable = f"{prefix}/oracle" if self.needs_ground_truth else prefix
            metrics: Any = self.eval_metrics[str(i)]
            values = {f"{deployable}/{name}": metric for name, metric in metrics["deployable"].items()}
            number = self.num_hypotheses
            values[f"{deployable}/pve"] = metrics["vertices"]
            values[f"{prefix}/oracle/best_of_{number}/mpjpe"] = metrics["oracle"]["best"]
            values[f"{prefix}/oracle/best_of_{number}_null/mpjpe"] = metrics["oracle"]["null"]
            logged = {name: metric.compute() for name, metric in values.items() if metric.update_called}
            calibration = metrics["calibration"]
            if calibration.update_called:
                logged |= {f"{prefix}/calibration/{name}": value for name, value in calibration.compute().items()}
            for metric in (*values.values(), calibration):
                metric.reset()
            # Already the same on every process; `sync_dist` only tells Lightning so.
            self.log_dict({name: value.float() for name, value in logged.items()}, sync_dist=True)
            errors.append(logged[f"{deployable}/mpjpe"].float())
        return errors


def _metrics(protocol: Protocol) -> nn.ModuleDict:
    """The metrics of one evaluation set; what needs the ground truth to choose is kept apart."""
    choices: dict[str, Any] = {"joints": protocol.joints, "root": protocol.root}
    deployable: dict[str, Metric] = {
        "mpjpe": MPJPE(**choices),
        "pa_mpjpe": PAMPJPE(**choices),
        "n_mpjpe": NMPJPE(**choices),
        "mpjve": MPJVE(**choices),
        "pck": PCK(**choices),
        "auc": AUC(**choices),
    }
    oracle = {"best": MPJPE(**choices), "null": MPJPE(**choices)}
    return nn.ModuleDict(
        {
            "deployable": nn.ModuleDict(deployable),
            "vertices": PVE(),
            "calibration": Calibration(**choices),
            "oracle": nn.ModuleDict(oracle),
        }
    )


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
