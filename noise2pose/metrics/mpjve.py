"""Mean per-joint velocity error."""

from torch import Tensor

from noise2pose.metrics import functional
from noise2pose.metrics.pose_metric import PoseMetric


class MPJVE(PoseMetric):
    """Mean per-joint velocity error in millimetres per frame; see `functional.mpjve` and `PoseMetric`.

    Takes clips (..., F, J, 3). Every step from one frame to the next counts the same, so long clips count more.
    """

    higher_is_better = False

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.mpjve(pred, target, valid)
