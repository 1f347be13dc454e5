"""By which factor the spread of hypotheses must be multiplied for their intervals to hold what they should.

Shape letters: N hypotheses, J joints, P pairs of a joint and a pose, H bins.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from noise2pose.errors import InputError
from noise2pose.metrics.calibration import half_width

_LEVELS = (0.5, 0.9)  # of `calibration.Calibration`
_SMALLEST, _LARGEST = 1e-3, 1e3  # error in half-widths; what lies beyond counts as this
_BINS = 1200  # of its logarithm, 1.2 % wide


def scaled(
    hypotheses: Float[Tensor, "N *batch J 3"], factor: Float[Tensor, ""] | float
) -> Float[Tensor, "N *batch J 3"]:
    """Hypotheses with the same mean and `factor` times the deviations from it."""
    mean = hypotheses.mean(dim=0)
    return mean + factor * (hypotheses - mean)


class SpreadScale(Metric):
    """The factor on the spread of hypotheses that fits the ground truth.

    With one factor half of the coordinates lie in their 50 % interval (`calibration.half_width`), with another nine
    tenths in their 90 % interval; the answer is the geometric mean of the two. Only counts of the errors in half-widths
    are kept, so several processes find what one does. Joints and poses count as in `Calibration`.

    Args:
        root: joint on which hypotheses and truth are centred first.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = None
    counts: Tensor

    def __init__(self, root: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.add_state("counts", torch.zeros(len(_LEVELS), _BINS, dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self,
        hypotheses: Float[Tensor, "N *batch J 3"],
        target: Float[Tensor, "*batch J 3"],
        valid: Float[Tensor, "*batch J"],
    ) -> None:
        """Adds poses.

        Args:
            hypotheses: predictions of factor 1, metres; N at least 2.
            target: ground truth, metres.
            valid: 1 for joints that have ground truth, else 0.

        Raises:
            InputError: if there is one hypothesis only.
        """
        if len(hypotheses) < 2:
            raise InputError(f"SpreadScale: a spread needs at least 2 hypotheses, found {len(hypotheses)}")
        root = slice(self.root, self.root + 1)
        hypotheses, target = hypotheses - hypotheses[..., root, :], target - target[..., root, :]
        counted = (valid > 0) & (valid[..., root] > 0)
        counted[..., self.root] = False
        hypotheses, target = hypotheses[:, counted], target[counted]  # (N, P, 3), (P, 3)
        differs = hypotheses.amax(dim=0) > hypotheses.amin(dim=0)
        error = (target - hypotheses.mean(dim=0)).abs()[differs]
        for row, level in enumerate(_LEVELS):
            ratio = (error / half_width(hypotheses, level)[differs]).clamp(_SMALLEST, _LARGEST)
            share = (ratio.log() - math.log(_SMALLEST)) / math.log(_LARGEST / _SMALLEST)
            bins = (share * _BINS).long().clamp_max(_BINS - 1)
            self.counts[row] += bins.bincount(minlength=_BINS)

    def compute(self) -> Float[Tensor, ""]:
        """The factor; 1 if no coordinate was counted."""
        total = self.counts[0].sum()
        if total == 0:
            return torch.ones((), device=self.counts.device)
        places = []
        for counts, level in zip(self.counts, _LEVELS, strict=True):
            reached, wanted = counts.cumsum(dim=0), level * total
            index = int((reached < wanted).sum())
            before = reached[index] - counts[index]
            places.append(index + (wanted - before) / counts[index])  # evenly within the bin
        place = torch.stack(places).mean() / _BINS
        return (math.log(_SMALLEST) + place * math.log(_LARGEST / _SMALLEST)).exp()
