"""Gaussian mixtures fitted to many sample sets at once by expectation maximisation (Eq. 6 of the paper).

One problem is one pose: S samples of its uncertain state, D dimensions, M components. All B problems advance together,
in log space, and each depends on its own samples and key alone, so results do not change with the batch.

Shape letters: B problems, S samples, D dimensions, M components.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise2pose import keyed_random
from noise2pose.errors import InputError

_SEEDING, _COMPONENT, _NOISE = 11, 12, 13  # streams of keyed_random


class Mixture(NamedTuple):
    """B diagonal Gaussian mixtures.

    Attributes:
        weights: (B, M), rows sum to one.
        means: (B, M, D).
        stds: (B, M, D) standard deviation of each dimension.
    """

    weights: Float[Tensor, "B M"]
    means: Float[Tensor, "B M D"]
    stds: Float[Tensor, "B M D"]

    def log_prob(self, points: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
        """Log density of each point under its problem's mixture."""
        return _component_log_prob(points, self).logsumexp(dim=-1)

    def draw(
        self, keys: Int[Tensor, " B"], num_samples: int, *, seed: int = 0
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B N D"]]:
        """Draws a component for each sample, and noise from it.

        Args:
            keys: (B,) sample keys of `noise2pose.keyed_random`.
            num_samples: N per problem.
            seed: which repetition of the experiment this is.

        Returns:
            mu^G (B, N, D), the mean of the drawn component, and eps^G ~ N(0, Sigma^G) (B, N, D); their sum is a draw
            from the mixture (section 4.2 of the paper).
        """
        chance = keyed_random.uniform(keys, (num_samples,), stream=_COMPONENT, seed=seed)
        cumulative = self.weights.cumsum(dim=-1)
        chance = chance.to(cumulative.dtype) * cumulative[:, -1:]
        component = torch.searchsorted(cumulative, chance).clamp_max(self.weights.shape[-1] - 1)
        index = component[:, :, None].expand(-1, -1, self.means.shape[-1])
        noise = keyed_random.normal(keys, tuple(index.shape[1:]), stream=_NOISE, seed=seed)
        return self.means.gather(1, index), self.stds.gather(1, index) * noise.to(self.stds.dtype)


def fit_mixture(
    samples: Float[Tensor, "B S D"],
    num_components: int,
    keys: Int[Tensor, " B"],
    *,
    num_iterations: int = 20,
    variance_floor: float = 1e-6,
    seed: int = 0,
) -> Mixture:
    """Fits B diagonal mixtures by EM from k-means++-style seeds.

    Args:
        samples: (B, S, D).
        num_components: M, at most S.
        keys: (B,) sample keys of `noise2pose.keyed_random`, which decide the seeding.
        num_iterations: of EM, the same for every problem, so that a problem's result does not depend on its batch.
        variance_floor: added to every variance, in squared units of the samples.
        seed: which repetition of the experiment this is.

    Returns:
        The mixtures. If all samples of a problem are equal, every component sits on them with the floor as variance.

    Raises:
        InputError: if there are fewer samples than components, or a sample is not finite.
    """
    if samples.shape[1] < num_components:
        raise InputError(f"a mixture of {num_components} components needs as many samples, got {samples.shape[1]}")
    if not samples.isfinite().all():
        raise InputError("samples of a mixture must be finite; found NaN or infinity")
    centre = samples.mean(dim=1, keepdim=True)
    centred = samples - centre  # the squares below would lose the digits of a large common offset
    squares = centred.square()
    variance = squares.mean(dim=1, keepdim=True) + variance_floor
    mixture = Mixture(
        weights=torch.full_like(centred[:, :num_components, 0], 1.0 / num_components),
        means=_seed_means(centred, variance, num_components, keys, seed),
        stds=variance.sqrt().expand(-1, num_components, -1),
    )
    for _ in range(num_iterations):
        responsibilities = _component_log_prob(centred, mixture, squares).softmax(dim=-1).transpose(1, 2)
        mass = responsibilities.sum(dim=-1, keepdim=True)  # (B, M, 1)
        # An empty component keeps a vanishing mass and falls back to the mean of all samples.
        share = mass.clamp_min(1e-8 * samples.shape[1])
        means = responsibilities @ centred / share
        variances = (responsibilities @ squares / share - means.square()).clamp_min(0.0) + variance_floor
        mixture = Mixture(mass.squeeze(-1) / samples.shape[1], means, variances.sqrt())
    return mixture._replace(means=mixture.means + centre)


def _component_log_prob(
    points: Float[Tensor, "B S D"], mixture: Mixture, squares: Tensor | None = None
) -> Float[Tensor, "B S M"]:
    """log pi_m + log N(x; mu_m, sigma_m), expanded so that the work is two matrix products."""
    squares = points.square() if squares is None else squares
    precision = mixture.stds.square().reciprocal()
    scaled = mixture.means * precision
    quadratic = squares @ precision.transpose(1, 2) - 2.0 * points @ scaled.transpose(1, 2)
    constant = (
        (mixture.means * scaled).sum(-1) + 2.0 * mixture.stds.log().sum(-1) + points.shape[-1] * math.log(2 * math.pi)
    )
    log_weights = mixture.weights.clamp_min(torch.finfo(points.dtype).tiny).log()
    return log_weights[:, None] - 0.5 * (quadratic + constant[:, None])


def _seed_means(
    centred: Tensor, variance: Tensor, num_components: int, keys: Tensor, seed: int
) -> Float[Tensor, "B M D"]:
    """k-means++: each further mean is a sample drawn in proportion to its squared distance from the nearest mean."""
    chance = keyed_random.uniform(keys, (num_components,), stream=_SEEDING, seed=seed).to(centred.dtype)
    scaled = centred / variance.sqrt()
    distance = torch.ones_like(scaled[..., 0])
    chosen = []
    for component in range(num_components):
        cumulative = (distance + 1e-12).cumsum(dim=1)
        target = chance[:, component : component + 1] * cumulative[:, -1:]
        index = torch.searchsorted(cumulative, target).clamp_max(centred.shape[1] - 1)[:, :, None]
        chosen.append(centred.gather(1, index.expand(-1, -1, centred.shape[2])))
        mean = scaled.gather(1, index.expand(-1, -1, scaled.shape[2]))
        distance_to_new = (scaled - mean).square().sum(dim=-1)
        distance = distance_to_new if component == 0 else torch.minimum(distance, distance_to_new)
    return torch.cat(chosen, dim=1)
