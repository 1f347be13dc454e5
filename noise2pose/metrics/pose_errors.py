"""The errors of poses as metrics: a class for each function of `noise2pose.metrics.functional`.

All take the arguments of `PoseMetric`, report millimetres unless they say otherwise, and give the same mean on any
number of processes:

>>> import torch
>>> target = torch.zeros(2, 17, 3)
>>> MPJPE()(target + torch.tensor([0.03, 0.04, 0.0]), target)  # two poses, every joint 5 cm off
tensor(50.0000, dtype=torch.float64)
>>> MPJPE(root=0)(target + torch.tensor([0.03, 0.04, 0.0]), target)
tensor(0., dtype=torch.float64)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from noise2pose.errors import InputError
from noise2pose.metrics import functional
from noise2pose.metrics.similarity import precision_of, similarity_of


class GroupMean(NamedTuple):
    """One group of poses.

    Attributes:
        value: mean over its poses, in the units of the metric.
        poses: how many counted.
    """

    value: float
    poses: int


class PoseMetric(Metric):
    """Mean over poses of one function of `noise2pose.metrics.functional`.

    Works in double precision, so that the mean does not depend on how poses are split into batches and processes.
    Poses without a valid joint do not count. `compute` gives NaN if no pose counted: there is no mean.

    Args:
        joints: indices of the joints that count; None for all.
        root: joint on which both poses are centred first, before joints are chosen; None to leave them. A pose whose
            root is not valid does not count.
        by_group: whether every group weighs the same in the mean, however many poses it has; within a group every pose
            weighs the same.
        kwargs: of `torchmetrics.Metric`.

    Attributes:
        per_pose: function of prediction, target and validity that gives one value per pose, in metres or as a share;
            NaN for a pose that does not count. Each class has its own.
        scale: of its values: millimetres per metre, or 100 for per cent.
    """

    is_differentiable = False
    full_state_update = False
    per_pose: Callable[..., Tensor]
    scale: float = 1000.0
    total: Tensor
    count: Tensor
    group_names: list[Tensor] | Tensor
    group_totals: list[Tensor] | Tensor
    group_counts: list[Tensor] | Tensor

    def __init__(
        self, joints: tuple[int, ...] | None = None, root: int | None = None, by_group: bool = False, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.joints = None if joints is None else list(joints)
        self.root = root
        self.by_group = by_group
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        # Each process meets other groups. Processes exchange tensors only, so the names of each update are kept as
        # lines of UTF-8, beside the sums.
        for name in ("group_names", "group_totals", "group_counts"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self, pred: Tensor, target: Tensor, valid: Tensor | None = None, groups: Sequence[str] | None = None
    ) -> None:
        """Adds poses.

        Args:
            pred: (..., J, 3) predictions, metres.
            target: (..., J, 3) ground truth, metres.
            valid: (..., J) 1 for joints that have ground truth, else 0.
            groups: name of the group of each sample, that is, of each entry of the first dimension; None for none.

        Raises:
            InputError: if shapes differ, a joint that counts is NaN or infinite, or groups are missing.
        """
        name = type(self).__name__
        if pred.shape != target.shape:
            raise InputError(f"{name}: prediction {tuple(pred.shape)} and target {tuple(target.shape)} differ in shape")
        if valid is not None and valid.shape != pred.shape[:-1]:
            raise InputError(f"{name}: prediction {tuple(pred.shape)} and mask {tuple(valid.shape)} differ in shape")
        if groups is None and self.by_group:
            raise InputError(f"{name}: a mean over groups needs the group of each pose")
        if groups is not None and len(groups) != len(pred):
            raise InputError(f"{name}: {len(groups)} names of groups for {len(pred)} samples")
        pred, target = pred.double(), target.double()
        if self.root is not None:
            root = slice(self.root, self.root + 1)
            # Not in place: that would zero the root before the other joints are moved by it.
            pred, target = pred - pred[..., root, :], target - target[..., root, :]
            valid = None if valid is None else (valid > 0) & (valid[..., root] > 0)
        if self.joints is not None:
            pred, target = pred[..., self.joints, :], target[..., self.joints, :]
            valid = None if valid is None else valid[..., self.joints]
        check_finite(f"{name}: the prediction", pred, valid)
        check_finite(f"{name}: the target", target, valid)
        values = self.per_pose(pred, target, valid)
        counted = ~values.isnan()
        self.total += values[counted].sum()
        self.count += counted.sum()
        if groups:
            self._add_groups(values, counted, groups)

    def compute(self) -> Float[Tensor, ""]:
        """The mean in millimetres (or per cent), float64."""
        if self.by_group:
            values = [group.value for group in self._groups().values()]
            return self.total.new_tensor(values).mean() if values else self.total.new_tensor(torch.nan)
        return self.scale * self.total / self.count

    def per_group(self) -> dict[str, GroupMean]:
        """Mean and number of poses of every group that has one, by name, sorted; the same on every process."""
        with self.sync_context():
            return self._groups()

    def _add_groups(self, values: Tensor, counted: Tensor, groups: Sequence[str]) -> None:
        names = sorted(set(groups))
        numbers = {name: number for number, name in enumerate(names)}
        group = torch.tensor([numbers[name] for name in groups], device=values.device)
        member = (group == torch.arange(len(names), device=values.device)[:, None]).to(values)
        lines = "".join(f"{name}\n" for name in names).encode()
        for state, new in (
            (self.group_names, torch.tensor(list(lines), dtype=torch.uint8, device=values.device)),
            (self.group_totals, member @ values.where(counted, 0.0).reshape(len(groups), -1).sum(dim=1)),
            (self.group_counts, member @ counted.reshape(len(groups), -1).sum(dim=1).to(values)),
        ):
            assert isinstance(state, list)  # tensors only while synchronised
            state.append(new)

    def _groups(self) -> dict[str, GroupMean]:
        if not len(self.group_names):
            return {}
        names = bytes(dim_zero_cat(self.group_names).to(torch.uint8).tolist()).decode().split("\n")[:-1]
        totals, counts = dim_zero_cat(self.group_totals).tolist(), dim_zero_cat(self.group_counts).tolist()
        found: dict[str, tuple[float, float]] = {}
        for name, total, count in zip(names, totals, counts, strict=True):
            before = found.get(name, (0.0, 0.0))
            found[name] = (before[0] + total, before[1] + count)
        return {
            name: GroupMean(self.scale * total / count, int(count))
            for name, (total, count) in sorted(found.items())
            if count
        }


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


class PVESC(PoseMetric):
    """Mean distance of vertices that were given the target's mean and size; see `functional.pve_sc`."""

    higher_is_better = False
    per_pose = staticmethod(functional.pve_sc)


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


class JointErrors(Metric):
    """Mean position error of each joint over poses, millimetres; NaN for a joint that never counted.

    Args:
        root: joint on which both poses are centred first; a pose whose root is not valid does not count.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, root: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.root = root
        for name in ("total", "count"):  # of each joint, once the first poses tell how many there are
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, pred: Float[Tensor, "*batch J 3"], target: Float[Tensor, "*batch J 3"], valid: Float[Tensor, "*batch J"]
    ) -> None:
        """Adds poses in metres, and 1 for joints that have ground truth, else 0."""
        pred, target = pred.double(), target.double()
        root = slice(self.root, self.root + 1)
        counted = (valid > 0) & (valid[..., root] > 0)
        errors = functional.joint_error(pred - pred[..., root, :], target - target[..., root, :])
        self.total = self.total + errors.where(counted, 0.0).flatten(0, -2).sum(dim=0)
        self.count = self.count + counted.flatten(0, -2).sum(dim=0)

    def compute(self) -> Float[Tensor, " J"]:
        """(J,) millimetres, float64."""
        return 1000.0 * self.total / self.count


class PCK2D(PoseMetric):
    """Keypoints nearer than a twentieth of the side of the person's box, in which they are given; per cent."""

    higher_is_better = True
    scale = 100.0
    per_pose = staticmethod(partial(functional.pck, threshold=0.05))


class OKS(PoseMetric):
    """Object keypoint similarity of keypoints in the units of `similarity.in_similarity`, per cent."""

    higher_is_better = True
    scale = 100.0
    per_pose = staticmethod(similarity_of)


class OKSPrecision(PoseMetric):
    """Share of the thresholds .50, .55, ..., .95 that `OKS` passes: COCO's AP of one person in each image, per cent."""

    higher_is_better = True
    scale = 100.0
    per_pose = staticmethod(precision_of)


def check_finite(what: str, pose: Tensor, valid: Tensor | None) -> None:
    bad = ~pose.isfinite().all(dim=-1)
    bad = bad if valid is None else bad & (valid > 0)
    if number := int(bad.sum()):
        raise InputError(f"{what} holds NaN or infinity in {number} of {bad.numel()} joints")
