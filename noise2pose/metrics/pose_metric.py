"""What the metrics of this package share: choice of joints, root, units, and a mean over poses that any number of
processes agree on."""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from noise2pose.errors import InputError


class PoseMetric(Metric):
    """Mean over poses of one function of `noise2pose.metrics.functional`.

    Works in double precision, so that the mean does not depend on how poses are split into batches and processes.
    Poses without a valid joint do not count. `compute` gives NaN if no pose counted: there is no mean.

    Args:
        joints: indices of the joints that count; None for all.
        root: joint on which both poses are centred first, before joints are chosen; None to leave them. A pose whose
            root is not valid does not count.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    unit: float = 1000.0  # millimetres per metre; rates override it with 100 for per cent
    total: Tensor
    count: Tensor

    def __init__(self, joints: tuple[int, ...] | None = None, root: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.joints = None if joints is None else list(joints)
        self.root = root
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        """One value per pose, in metres or as a share; NaN for a pose that does not count."""

    def update(self, pred: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Adds poses.

        Args:
            pred: (..., J, 3) predictions, metres.
            target: (..., J, 3) ground truth, metres.
            valid: (..., J) 1 for joints that have ground truth, else 0.

        Raises:
            InputError: if shapes differ, or a joint that counts is NaN or infinite.
        """
        name = type(self).__name__
        if pred.shape != target.shape:
            raise InputError(f"{name}: prediction {tuple(pred.shape)} and target {tuple(target.shape)} differ in shape")
        if valid is not None and valid.shape != pred.shape[:-1]:
            raise InputError(f"{name}: prediction {tuple(pred.shape)} and mask {tuple(valid.shape)} differ in shape")
        pred, target = pred.double(), target.double()
        if self.root is not None:
            root = slice(self.root, self.root + 1)
            # Not in place: that would zero the root before the other joints are moved by it.
            pred, target = pred - pred[..., root, :], target - target[..., root, :]
            valid = None if valid is None else (valid > 0) & (valid[..., root] > 0)
        if self.joints is not None:
            pred, target = pred[..., self.joints, :], target[..., self.joints, :]
            valid = None if valid is None else valid[..., self.joints]
        check_finite(f"{name}: the prediction", pred, valid)
        check_finite(f"{name}: the target", target, valid)
        values = self.per_pose(pred, target, valid)
        counted = ~values.isnan()
        self.total += values[counted].sum()
        self.count += counted.sum()

    def compute(self) -> Float[Tensor, ""]:
        """The mean in millimetres (or per cent), float64."""
        return self.unit * self.total / self.count


def check_finite(what: str, pose: Tensor, valid: Tensor | None) -> None:
    bad = ~pose.isfinite().all(dim=-1)
    bad = bad if valid is None else bad & (valid > 0)
    if number := int(bad.sum()):
        raise InputError(f"{what} holds NaN or infinity in {number} of {bad.numel()} joints")
