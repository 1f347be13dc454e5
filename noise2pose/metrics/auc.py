"""Area under the curve of correct keypoints."""

from torch import Tensor

from noise2pose.metrics import functional
from noise2pose.metrics.pose_metric import PoseMetric


class AUC(PoseMetric):
    """Mean of PCK over the thresholds 0, 5, ..., 150 mm, per cent, at most 96.77.

    See `functional.auc` and `PoseMetric`.
    """

    higher_is_better = True
    unit = 100.0

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.auc(pred, target, valid)
