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

    Poses without a valid joint do not count. `compute` gives NaN if no pose counted.

    Args:
        joints: indices of the joints that count; None for all.
        root: joint on which both poses are centred first, before joints are chosen; None to leave them.
    """

    full_state_update = False
    unit: float = 1000.0  # millimetres per metre; rates override it with 100 for per cent
    total: Tensor
    count: Tensor

    def __init__(self, joints: tuple[int, ...] | None = None, root: int | None = None) -> None:
        super().__init__()
        self.joints = None if joints is None else list(joints)
        self.root = root
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        """One value per pose, in metres or as a share."""

    def update(
        self,
        pred: Float[Tensor, "*batch J 3"],
        target: Float[Tensor, "*batch J 3"],
        valid: Float[Tensor, "*batch J"] | None = None,
    ) -> None:
        """Adds poses.

        Args:
            pred: predictions, metres.
            target: ground truth, metres.
            valid: 1 for joints that have ground truth, else 0.

        Raises:
            InputError: if shapes differ, or a prediction is not finite.
        """
        name = type(self).__name__
        if pred.shape != target.shape:
            raise InputError(f"{name}: prediction {tuple(pred.shape)} and target {tuple(target.shape)} differ in shape")
        if not pred.isfinite().all():
            raise InputError(f"{name}: the prediction holds NaN or infinity")
        if self.root is not None:
            pred = pred - pred[..., self.root : self.root + 1, :]
            target = target - target[..., self.root : self.root + 1, :]
        if self.joints is not None:
            pred, target = pred[..., self.joints, :], target[..., self.joints, :]
            valid = None if valid is None else valid[..., self.joints]
        values = self.per_pose(pred, target, valid)
        counted = ~values.isnan()
        self.total += values[counted].sum(dtype=torch.float64)
        self.count += counted.sum()

    def compute(self) -> Float[Tensor, ""]:
        """The mean in millimetres (or per cent), float64."""
        return self.unit * self.total / self.count
