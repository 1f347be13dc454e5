"""Mean per-joint position error in the picture."""

from torch import Tensor

from noise2pose.metrics import functional
from noise2pose.metrics.pose_metric import PoseMetric


class MPJPE2D(PoseMetric):
    """Mean distance of reprojected joints (..., J, 2) from annotated ones, in the units they come in.

    Pixels, or sides of the box with the unit 100: then per cent. Joints without an annotation do not count, and each
    person weighs the same, however many of theirs are annotated; see `functional.mpjpe` and `PoseMetric`.

    Args:
        joints: indices of the joints that count, or None for all.
        unit: what values are multiplied with.
        kwargs: of `PoseMetric`.
    """

    higher_is_better = False

    def __init__(self, joints: tuple[int, ...] | None = None, unit: float = 1.0, **kwargs) -> None:
        super().__init__(joints, **kwargs)
        self.unit = unit

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.mpjpe(pred, target, valid)
