"""Does the spread of the hypotheses predict their error?

Every function takes N hypotheses in front of arbitrary leading dimensions; the caller centres poses on a root.

Shape letters: N hypotheses, J joints, P pairs of a joint and a pose.
"""

import math

import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor
from torch.nn.functional import pad
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from noise2pose.errors import InputError
from noise2pose.metrics.functional import joint_error
from noise2pose.metrics.hypotheses import spread
from noise2pose.metrics.pose_errors import check_finite

_REMOVED_PERCENT = range(0, 100, 5)
_MILLIMETRES = 1000.0


def half_width(hypotheses: Float[Tensor, "N *batch J 3"], level: float) -> Float[Tensor, "*batch J 3"]:
    """Half the width of each coordinate's central prediction interval, in the units of the input.

    The interval is mean +- t s sqrt(1 + 1/N), with the unbiased deviation s and Student's t of N - 1 degrees of
    freedom. It holds the truth with probability `level` for every N, if truth and hypotheses are draws from one
    Gaussian.

    Args:
        hypotheses: (N, ..., J, 3), N at least 2.
        level: probability of the interval, in (0, 1).
    """
    number = len(hypotheses)
    quantile = float(stats.t.ppf((1.0 + level) / 2.0, number - 1))
    return quantile * math.sqrt(1.0 + 1.0 / number) * _variance(hypotheses).sqrt()


def in_interval(
    hypotheses: Float[Tensor, "N *batch J 3"], target: Float[Tensor, "*batch J 3"], level: float
) -> Bool[Tensor, "*batch J 3"]:
    """Whether each coordinate of the ground truth lies inside the central prediction interval of the hypotheses.

    Args:
        hypotheses: (N, ..., J, 3), N at least 2.
        target: (..., J, 3).
        level: probability of the interval, in (0, 1), see `half_width`.
    """
    return (target - hypotheses.mean(dim=0)).abs() <= half_width(hypotheses, level)


def energy_score(
    hypotheses: Float[Tensor, "N *batch J 3"], target: Float[Tensor, "*batch J 3"]
) -> Float[Tensor, "*batch J"]:
    """Fair energy score of each joint, in the units of the input; smaller is better.

    mean_i |x_i - y| - sum_ij |x_i - x_j| / (2 N (N - 1)). For one-dimensional data this is the continuous ranked
    probability score, CRPS (Gneiting and Raftery, JASA 2007). "Fair": its expected value does not depend on N, so
    methods with different numbers of hypotheses can be compared.

    Args:
        hypotheses: (N, ..., J, 3), N at least 2.
        target: (..., J, 3).
    """
    number = len(hypotheses)
    between = torch.zeros_like(target[..., 0])
    for i in range(1, number):  # one hypothesis at a time: all pairs at once would not fit for clips
        between += joint_error(hypotheses[:i], hypotheses[i]).sum(dim=0)
    return joint_error(hypotheses, target).mean(dim=0) - between / (number * (number - 1))


def sparsification_curve(uncertainty: Float[Tensor, " P"], error: Float[Tensor, " P"]) -> dict[str, Tensor]:
    """Mean error of the rest when the most uncertain share is removed (Ilg et al., ECCV 2018).

    Pairs of equal uncertainty count as removed in random order, in expectation: their order in the input has no effect.

    Args:
        uncertainty: (P,) in any unit.
        error: (P,) in the units of the result.

    Returns:
        `removed`, per cent: 0, 5, ..., 95; `error`: mean error of the rest; `oracle_error`: the same when the pairs
        with the largest error are removed, a reference that uses the ground truth. All NaN if P is 0.
    """
    removed = torch.tensor(_REMOVED_PERCENT, device=error.device)
    kept = len(error) - len(error) * removed // 100
    _, group = uncertainty.unique(return_inverse=True)
    size = group.bincount()
    error = error.double()
    by_uncertainty = (group.bincount(weights=error) / size).repeat_interleave(size)

    def mean_of_first(values: Tensor) -> Tensor:
        return pad(values.cumsum(0), (1, 0))[kept] / kept

    return {
        "removed": removed.double(),
        "error": mean_of_first(by_uncertainty),
        "oracle_error": mean_of_first(error.sort().values),
    }


class Calibration(Metric):
    """Whether the spread of the hypotheses predicts their error.

    Works in double precision, but keeps uncertainty and error of every joint of every pose in single precision until
    `reset` (8 bytes), because sparsification sorts them. All joints and poses weigh the same; the root does not count,
    because centring makes it exact, nor does a pose whose root is not valid. With several processes each must have seen
    a batch. A number for which nothing counted is NaN.

    Args:
        joints: indices of the joints that count; None for all.
        root: joint on which hypotheses and truth are centred first, before joints are chosen; None to leave them.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = None
    covered_50: Tensor
    covered_90: Tensor
    coordinates: Tensor
    score_total: Tensor
    score_count: Tensor
    uncertainty: list[Tensor] | Tensor
    error: list[Tensor] | Tensor

    def __init__(self, joints: tuple[int, ...] | None = None, root: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.joints = None if joints is None else list(joints)
        self.root = root
        # One score for each joint; the first update tells the number of joints.
        for name in ("covered_50", "covered_90", "coordinates", "score_total", "score_count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("uncertainty", "error"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, hypotheses: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Adds poses.

        Args:
            hypotheses: (N, ..., J, 3) predictions, metres; N at least 2.
            target: (..., J, 3) ground truth, metres.
            valid: (..., J) 1 for joints that have ground truth, else 0.

        Raises:
            InputError: if there is one hypothesis only, shapes do not fit, or a joint that counts is NaN or infinite.
        """
        if hypotheses.shape[1:] != target.shape:
            raise InputError(
                f"Calibration: hypotheses {tuple(hypotheses.shape)} are not N of the target's {tuple(target.shape)}"
            )
        if len(hypotheses) < 2:
            raise InputError(f"Calibration: a spread needs at least 2 hypotheses, found {len(hypotheses)}")
        if valid is not None and valid.shape != target.shape[:-1]:
            raise InputError(f"Calibration: target {tuple(target.shape)} and mask {tuple(valid.shape)} differ in shape")
        hypotheses, target = hypotheses.double(), target.double()
        counted = torch.ones_like(target[..., 0], dtype=torch.bool) if valid is None else valid > 0
        if self.root is not None:
            root = slice(self.root, self.root + 1)
            hypotheses, target = hypotheses - hypotheses[..., root, :], target - target[..., root, :]
            counted = counted & counted[..., root]
            counted[..., self.root] = False
        if self.joints is not None:
            hypotheses, target = hypotheses[..., self.joints, :], target[..., self.joints, :]
            counted = counted[..., self.joints]
        check_finite("Calibration: the prediction", hypotheses, counted)
        check_finite("Calibration: the target", target, counted)
        self._add_pairs(hypotheses[:, counted], target[counted], counted)

    def compute(self) -> dict[str, Tensor]:
        """The four numbers, float64 scalars.

        Returns:
            `coverage_50` and `coverage_90`: per cent of the ground truth's coordinates inside the interval of that
            level, see `in_interval`; coordinates in which all hypotheses agree do not count. `crps`: mean
            `energy_score`, mm. `ause`: mean over the shares of `sparsification_curve` of how much its error lies above
            the oracle's, mm.
        """
        curve = self._curve()
        return {
            "coverage_50": 100.0 * self.covered_50 / self.coordinates,
            "coverage_90": 100.0 * self.covered_90 / self.coordinates,
            "crps": _MILLIMETRES * self.score_total.sum() / self.score_count.sum(),
            "ause": (curve["error"] - curve["oracle_error"]).mean(),
        }

    def crps_per_joint(self) -> Float[Tensor, " J"]:
        """Mean `energy_score` of each of the joints that were chosen, mm; NaN for the root."""
        with self.sync_context():
            return _MILLIMETRES * self.score_total / self.score_count

    def sparsification(self) -> dict[str, Tensor]:
        """`sparsification_curve` of all joints and poses; errors in mm."""
        with self.sync_context():
            return self._curve()

    def _add_pairs(self, hypotheses: Tensor, target: Tensor, counted: Tensor) -> None:
        """Adds the P pairs of a joint and a pose that count: (N, P, 3) and (P, 3), chosen by (..., J)."""
        # Not "deviation > 0": the mean of equal numbers is rounded.
        differs = hypotheses.amax(dim=0) > hypotheses.amin(dim=0)
        self.coordinates += differs.sum()
        self.covered_50 += (in_interval(hypotheses, target, 0.5) & differs).sum()
        self.covered_90 += (in_interval(hypotheses, target, 0.9) & differs).sum()
        score = torch.zeros_like(counted, dtype=torch.float64)
        score[counted] = energy_score(hypotheses, target)
        num_joints = counted.shape[-1]
        # Not in place: the first update broadcasts the scalar zero.
        self.score_total = self.score_total + score.reshape(-1, num_joints).sum(dim=0)
        self.score_count = self.score_count + counted.reshape(-1, num_joints).sum(dim=0)
        assert isinstance(self.uncertainty, list) and isinstance(self.error, list)  # tensors only while synchronised
        self.uncertainty.append(spread(hypotheses).float())
        self.error.append(joint_error(hypotheses.mean(dim=0), target).float())

    def _curve(self) -> dict[str, Tensor]:
        if not len(self.uncertainty):
            return sparsification_curve(torch.zeros(0), torch.zeros(0))
        curve = sparsification_curve(dim_zero_cat(self.uncertainty), dim_zero_cat(self.error))
        return {name: values if name == "removed" else _MILLIMETRES * values for name, values in curve.items()}


def _variance(hypotheses: Tensor) -> Tensor:
    """Unbiased variance over the hypotheses; `Tensor.var` warns if no joint counts."""
    return (hypotheses - hypotheses.mean(dim=0)).square().sum(dim=0) / (len(hypotheses) - 1)
