"""Mean per-joint position error after scaling."""

from torch import Tensor

from noise2pose.metrics import functional
from noise2pose.metrics.pose_metric import PoseMetric


class NMPJPE(PoseMetric):
    """MPJPE in millimetres after the best scale of each root-relative pose.

    See `functional.n_mpjpe` and `PoseMetric`.
    """

    higher_is_better = False

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.n_mpjpe(pred, target, valid)
