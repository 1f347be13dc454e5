"""Mean error of the vertices of a mesh."""

from torch import Tensor

from noise2pose.metrics import functional
from noise2pose.metrics.pose_metric import PoseMetric


class PVE(PoseMetric):
    """Per-vertex error in millimetres, also MVE or MPVPE: `functional.mpjpe` of vertices; see `PoseMetric`.

    Vertices are compared relative to the root joint of each mesh, so they come centred and there is no `root` to give.
    """

    higher_is_better = False

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.mpjpe(pred, target, valid)
