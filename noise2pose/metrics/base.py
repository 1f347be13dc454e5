"""What the metrics share: which joints count, centring, and sums that several processes can add up."""

from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric

from noise2pose.errors import InputError


class PoseMetric(Metric):
    """Mean over poses of a number of each pose, in millimetres or per cent.

    Works in double precision, so the result does not depend on how the poses were split into batches and processes.
    Poses without a joint that counts are left out; without any pose the mean is undefined and `compute` returns NaN.

    Args:
        joints: indices of the joints that count, or None for all.
        root: joint that both poses are centred on, or None to compare them as they are. A pose whose root is not valid
            is left out.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    factor: float = 1000.0  # from metres to what is reported
    total: Tensor
    count: Tensor

    def __init__(self, joints: tuple[int, ...] | None = None, root: int | None = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.joints = None if joints is None else list(joints)
        self.root = root
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def errors(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        """The number of each pose, from (..., J, 3) metres and (..., J); NaN for poses that have none."""

    def update(self, pred: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Adds poses.

        Args:
            pred: (..., J, 3) metres.
            target: (..., J, 3) metres.
            valid: (..., J), 0 for joints that do not count.

        Raises:
            ValueError: if the shapes do not fit, or a prediction that counts is NaN or infinite.
            InputError: if a target that counts is NaN or infinite.
        """
        if pred.shape != target.shape or (valid is not None and valid.shape != pred.shape[:-1]):
            mask = "" if valid is None else f", valid {tuple(valid.shape)}"
            raise ValueError(
                f"{type(self).__name__}: expected pred and target (..., J, 3) and valid (..., J), "
                f"found pred {tuple(pred.shape)}, target {tuple(target.shape)}{mask}"
            )
        pred, target = pred.double(), target.double()
        if self.root is not None:
            root = slice(self.root, self.root + 1)
            # Not in place: the root is part of both sides, and would be zero before the other joints are moved.
            pred, target = pred - pred[..., root, :], target - target[..., root, :]
            valid = None if valid is None else (valid > 0) & (valid[..., root] > 0)
        if self.joints is not None:
            pred, target = pred[..., self.joints, :], target[..., self.joints, :]
            valid = None if valid is None else valid[..., self.joints]
        self._check_finite(pred, target, valid)
        errors = self.errors(pred, target, valid)
        errors = errors[~errors.isnan()]
        self.total += errors.sum()
        self.count += errors.numel()

    def compute(self) -> Tensor:
        """The mean over all poses of all processes: a float64 scalar, NaN if there was none."""
        return self.factor * self.total / self.count

    def _check_finite(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> None:
        counted = torch.ones_like(pred[..., 0], dtype=torch.bool) if valid is None else valid > 0
        if bad := int((counted & ~pred.isfinite().all(dim=-1)).sum()):
            raise ValueError(
                f"{type(self).__name__}: {bad} of {int(counted.sum())} predicted joints are NaN or infinite; "
                "the mean of a diverged method means nothing"
            )
        if bad := int((counted & ~target.isfinite().all(dim=-1)).sum()):
            raise InputError(
                f"{type(self).__name__}: {bad} of {int(counted.sum())} target joints are NaN or infinite "
                "although they are marked valid"
            )
