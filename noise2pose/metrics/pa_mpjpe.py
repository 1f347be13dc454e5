"""Mean per-joint position error after Procrustes alignment."""

from torch import Tensor

from noise2pose.metrics import functional
from noise2pose.metrics.pose_metric import PoseMetric


class PAMPJPE(PoseMetric):
    """MPJPE in millimetres after aligning each pose in translation, rotation and scale, "protocol 2".

    See `functional.pa_mpjpe` and `PoseMetric`.

    Args:
        joints: indices of the joints that are aligned and count, or None for all.
        root: taken so that all metrics are made alike; the alignment removes any translation, so it is not used.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, joints: tuple[int, ...] | None = None, root: int | None = None, **kwargs) -> None:
        super().__init__(joints, root=None, **kwargs)

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.pa_mpjpe(pred, target, valid)
