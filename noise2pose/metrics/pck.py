"""Share of correct keypoints."""

from torch import Tensor

from noise2pose.metrics import functional
from noise2pose.metrics.pose_metric import PoseMetric


class PCK(PoseMetric):
    """Keypoints nearer than a threshold, per cent; see `functional.pck` and `PoseMetric`.

    Args:
        joints: indices of the joints that count, or None for all.
        root: joint that both poses are centred on, or None.
        threshold: metres.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True
    unit = 100.0

    def __init__(
        self, joints: tuple[int, ...] | None = None, root: int | None = None, threshold: float = 0.150, **kwargs
    ) -> None:
        super().__init__(joints, root, **kwargs)
        self.threshold = threshold

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.pck(pred, target, valid, self.threshold)
