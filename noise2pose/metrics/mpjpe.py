"""Mean per-joint position error."""

from torch import Tensor

from noise2pose.metrics import functional
from noise2pose.metrics.pose_metric import PoseMetric


class MPJPE(PoseMetric):
    """Mean per-joint position error in millimetres, "protocol 1"; see `functional.mpjpe` and `PoseMetric`."""

    higher_is_better = False

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.mpjpe(pred, target, valid)
