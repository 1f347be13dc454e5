"""The errors of poses as metrics: a class for each function of `noise2pose.metrics.functional`.

All take the arguments of `PoseMetric`, and report millimetres unless they say otherwise:

>>> import torch
>>> target = torch.zeros(2, 17, 3)
>>> MPJPE()(target + torch.tensor([0.03, 0.04, 0.0]), target)  # two poses, every joint 5 cm off
tensor(50.0000, dtype=torch.float64)
>>> MPJPE(root=0)(target + torch.tensor([0.03, 0.04, 0.0]), target)
tensor(0., dtype=torch.float64)
"""

from noise2pose.metrics import functional
from noise2pose.metrics.pose_metric import PoseMetric


class MPJPE(PoseMetric):
    """Mean per-joint position error, "protocol 1"; see `functional.mpjpe`."""

    higher_is_better = False
    per_pose = staticmethod(functional.mpjpe)


class PAMPJPE(PoseMetric):
    """MPJPE after the best translation, rotation and scale of each pose, "protocol 2"; see `functional.pa_mpjpe`.

    The alignment removes any translation, so a `root` is accepted and not used: poses without a valid root count.
    """

    higher_is_better = False
    per_pose = staticmethod(functional.pa_mpjpe)

    def __init__(self, joints: tuple[int, ...] | None = None, root: int | None = None, **kwargs) -> None:
        super().__init__(joints, root=None, **kwargs)


class NMPJPE(PoseMetric):
    """MPJPE after the best scale of each root-relative pose; see `functional.n_mpjpe`."""

    higher_is_better = False
    per_pose = staticmethod(functional.n_mpjpe)


class MPJVE(PoseMetric):
    """Mean per-joint velocity error of clips (..., F, J, 3), millimetres per frame; see `functional.mpjve`.

    Every step from one frame to the next counts the same, so long clips count more.
    """

    higher_is_better = False
    per_pose = staticmethod(functional.mpjve)


class PVE(PoseMetric):
    """Per-vertex error, also called MVE or MPVPE: `functional.mpjpe` of vertices (..., V, 3).

    Vertices are compared relative to the root joint of each mesh, so the caller centres them and gives no `root`.
    """

    higher_is_better = False
    per_pose = staticmethod(functional.mpjpe)


class PCK(PoseMetric):
    """Keypoints nearer than 150 mm, per cent; see `functional.pck`."""

    higher_is_better = True
    scale = 100.0
    per_pose = staticmethod(functional.pck)


class AUC(PoseMetric):
    """Mean of PCK over the thresholds 0, 5, ..., 150 mm, per cent, at most 96.77; see `functional.auc`."""

    higher_is_better = True
    scale = 100.0
    per_pose = staticmethod(functional.auc)


class MPJPE2D(PoseMetric):
    """Mean distance of reprojected joints (..., J, 2) from annotated ones, in the pixels that they are given in.

    Joints without an annotation do not count, and each person weighs the same, however many joints are annotated.
    """

    higher_is_better = False
    scale = 1.0
    per_pose = staticmethod(functional.mpjpe)


class MPJPE2DOfBox(MPJPE2D):
    """`MPJPE2D` of joints that are given in sides of the person's box, in per cent of that side."""

    scale = 100.0
