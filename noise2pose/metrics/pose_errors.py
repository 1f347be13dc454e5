"""The errors of 3-D poses as metrics: one class for each function of `noise2pose.metrics.functional`."""

from torch import Tensor

from noise2pose.metrics import functional
from noise2pose.metrics.pose_metric import PoseMetric


class MPJPE(PoseMetric):
    """Mean per-joint position error in millimetres, "protocol 1"; see `functional.mpjpe` and `PoseMetric`."""

    higher_is_better = False

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.mpjpe(pred, target, valid)


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


class NMPJPE(PoseMetric):
    """MPJPE in millimetres after the best scale of each root-relative pose.

    See `functional.n_mpjpe` and `PoseMetric`.
    """

    higher_is_better = False

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.n_mpjpe(pred, target, valid)


class MPJVE(PoseMetric):
    """Mean per-joint velocity error in millimetres per frame; see `functional.mpjve` and `PoseMetric`.

    Takes clips (..., F, J, 3). Every step from one frame to the next counts the same, so long clips count more.
    """

    higher_is_better = False

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.mpjve(pred, target, valid)


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


class AUC(PoseMetric):
    """Mean of PCK over the thresholds 0, 5, ..., 150 mm, per cent, at most 96.77.

    See `functional.auc` and `PoseMetric`.
    """

    higher_is_better = True
    unit = 100.0

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.auc(pred, target, valid)


class PVE(PoseMetric):
    """Per-vertex error in millimetres, also MVE or MPVPE: `functional.mpjpe` of vertices; see `PoseMetric`.

    Vertices are compared relative to the root joint of each mesh, so they come centred and there is no `root` to give.
    """

    higher_is_better = False

    def per_pose(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        return functional.mpjpe(pred, target, valid)


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
