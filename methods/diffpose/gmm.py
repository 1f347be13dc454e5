"""Gaussian mixtures fitted to many sample sets at once by expectation maximisation (Eq. 6 of the paper).

One problem is the uncertain state of one pose (D = 3J) or of one joint (D = 2 or 3). Problems advance together, each
until its own likelihood stops rising, and a result depends only on the samples and the key of its problem.

The log density of a Gaussian is affine in the features (1, x, x x^T), of a diagonal one in (1, x, x^2). So both steps
of EM are one matrix product each: parameters times features gives the log densities, responsibilities times features
the moments that the next parameters follow from.

Shape letters: B problems, S samples, D dimensions, M components, P features.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise2pose import keyed_random
from noise2pose.errors import InputError

Covariance = Literal["diagonal", "full"]

_SEEDING, _COMPONENT, _NOISE = 11, 12, 13  # streams of keyed_random
_CHUNK = {"cpu": 1 << 24, "cuda": 1 << 29}  # bytes of features at once: enough to hide the cost of a call
# Log of a responsibility that is negligible; the exponential of a smaller one is slow to compute, or denormal.
_NEGLIGIBLE = -60.0


class Mixture(NamedTuple):
    """B Gaussian mixtures.

    Attributes:
        weights: (B, M), rows sum to one.
        means: (B, M, D).
        scales: (B, M, D) standard deviations, or (B, M, D, D) lower Cholesky factors of full covariances.
    """

    weights: Float[Tensor, "B M"]
    means: Float[Tensor, "B M D"]
    scales: Float[Tensor, "B M D"] | Float[Tensor, "B M D D"]

    def log_prob(self, points: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
        """Log density of each point under its problem's mixture."""
        offset = self.means.mean(dim=1, keepdim=True)  # a large common offset would cost the features precision
        centred = self._replace(means=self.means - offset)
        features = _features(points - offset, self.scales.ndim == 4)
        return torch.bmm(_parameters(centred), features).logsumexp(dim=1)

    def draw(self, keys: Int[Tensor, " B"], num_samples: int) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B N D"]]:
        """Draws a component for each sample, and noise from it.

        Args:
            keys: (B,) sample keys of `noise2pose.keyed_random`.
            num_samples: N per problem.

        Returns:
            mu^G (B, N, D), the mean of the drawn component, and eps^G ~ N(0, Sigma^G) (B, N, D); their sum is a draw
            from the mixture (section 4.2 of the paper).
        """
        chance = keyed_random.uniform(keys, (num_samples,), stream=_COMPONENT)
        cumulative = self.weights.cumsum(dim=-1)
        chance = chance.to(cumulative.dtype) * cumulative[:, -1:]
        component = torch.searchsorted(cumulative, chance).clamp_max(self.weights.shape[-1] - 1)
        noise = keyed_random.normal(keys, (num_samples, self.means.shape[-1]), stream=_NOISE)
        problem = torch.arange(len(keys), device=keys.device)[:, None]
        scale, noise = self.scales[problem, component], noise.to(self.scales.dtype)
        noise = (scale @ noise[..., None])[..., 0] if scale.ndim == 4 else scale * noise
        return self.means[problem, component], noise


def fit_mixture(
    samples: Float[Tensor, "B S D"],
    num_components: int,
    keys: Int[Tensor, " B"],
    *,
    covariance: Covariance = "diagonal",
    max_iterations: int = 100,
    tolerance: float = 1e-3,
    variance_floor: float = 1e-6,
    seed: int = 0,
) -> Mixture:
    """Fits B mixtures by EM from the seeds of greedy k-means++, on the device and in the precision of the samples.

    Full covariances are computed in double precision, because a component of few samples is close to singular.

    Args:
        samples: (B, S, D).
        num_components: M, at most S.
        keys: (B,) sample keys of `noise2pose.keyed_random`, for the seeding.
        covariance: `diagonal` or `full` components.
        max_iterations: of EM.
        tolerance: a problem is finished when its mean log-likelihood per sample changes by less than this.
        variance_floor: added to every variance, in squared units of the samples.
        seed: of the repetition of the experiment.

    Returns:
        The mixtures. If all samples of a problem are equal, they are the mean of every component, and the floor is its
        variance.

    Raises:
        InputError: if there are fewer samples than components, or a sample is not finite.
    """
    if num_components < 1 or samples.shape[1] < num_components:
        raise InputError(
            f"a mixture of {num_components} components cannot be fitted to {samples.shape[1]} samples; give at least "
            "one component and as many samples"
        )
    if not samples.isfinite().all():
        raise InputError("samples of a mixture must be finite; found NaN or infinity")
    fitted = []
    for part, part_keys in _chunks(samples, keys, covariance):
        work = part.double() if covariance == "full" else part
        centre = work.mean(dim=1, keepdim=True)  # a large common offset would cost the features precision
        seeds = _seed_means(work - centre, num_components, part_keys, seed)
        mixture = _expectation_maximisation(
            _features(work - centre, covariance == "full"), seeds, max_iterations, tolerance, variance_floor
        )
        mixture = mixture._replace(means=mixture.means + centre)
        fitted.append(Mixture(*(field.to(samples.dtype) for field in mixture)))
    return Mixture(*(torch.cat(fields) for fields in zip(*fitted, strict=True)))


def _chunks(samples: Tensor, keys: Tensor, covariance: Covariance) -> Iterator[tuple[Tensor, Tensor]]:
    num_problems, num_samples, dims = samples.shape
    num_features = 1 + dims + (dims * (dims + 1) // 2 if covariance == "full" else dims)
    budget = _CHUNK.get(samples.device.type, _CHUNK["cpu"])
    size = max(1, budget // (num_features * num_samples * samples.element_size()))
    # An empty batch is one chunk.
    return zip(samples.split(size), keys.split(size), strict=True) if num_problems else iter([(samples, keys)])


def _features(points: Float[Tensor, "B S D"], full: bool) -> Float[Tensor, "B P S"]:
    """(1, x, x_i x_j with i <= j), or (1, x, x^2) for diagonal covariances."""
    x = points.mT
    if full:
        rows, columns = _upper(x.shape[1], x.device)
        second = x[:, rows] * x[:, columns]
    else:
        second = x.square()
    return torch.cat((torch.ones_like(x[:, :1]), x, second), dim=1)


def _parameters(mixture: Mixture) -> Float[Tensor, "B M P"]:
    """Coefficients of the features in log pi_m + log N(x; mu_m, Sigma_m)."""
    weights, means, scales = mixture
    if scales.ndim == 4:
        rows, columns = _upper(means.shape[-1], means.device)
        precision = torch.cholesky_inverse(scales)
        linear = (precision @ means[..., None])[..., 0]
        # An off-diagonal product stands for two equal terms of the quadratic form.
        quadratic = precision[..., rows, columns] * torch.where(rows == columns, -0.5, -1.0).to(means)
        log_scale = scales.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    else:
        precision = scales.square().reciprocal()
        linear = precision * means
        quadratic = -0.5 * precision
        log_scale = scales.log().sum(dim=-1)
    log_weights = weights.clamp_min(torch.finfo(weights.dtype).tiny).log()
    constant = log_weights - 0.5 * (means * linear).sum(-1) - log_scale - 0.5 * means.shape[-1] * math.log(2 * math.pi)
    return torch.cat((constant[..., None], linear, quadratic), dim=-1)


def _maximise(moments: Float[Tensor, "B M P"], num_samples: int, dims: int, variance_floor: float) -> Mixture:
    """The mixture of components with these sums of features."""
    mass = moments[..., :1]
    # An empty component keeps a vanishing mass and falls back to the mean of all samples.
    share = moments[..., 1:] / mass.clamp_min(1e-8 * num_samples)
    means, second = share[..., :dims], share[..., dims:]
    if second.shape[-1] == dims:
        scales = ((second - means.square()).clamp_min(0.0) + variance_floor).sqrt()
    else:
        rows, columns = _upper(dims, means.device)
        upper = second.new_zeros((*second.shape[:-1], dims, dims))
        upper[..., rows, columns] = second - means[..., rows] * means[..., columns]
        scales = _cholesky(upper + upper.triu(1).mT, variance_floor)
    return Mixture(mass[..., 0] / num_samples, means, scales)


def _cholesky(covariance: Float[Tensor, "B M D D"], variance_floor: float) -> Float[Tensor, "B M D D"]:
    """Cholesky factor of the covariance plus the floor; a matrix that rounding made indefinite becomes diagonal."""
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    factor, failed = torch.linalg.cholesky_ex(covariance + variance_floor * identity)
    variances = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0.0) + variance_floor
    return torch.where((failed > 0)[..., None, None], torch.diag_embed(variances.sqrt()), factor)


def _expectation_maximisation(
    features: Float[Tensor, "B P S"],
    seeds: Float[Tensor, "B M D"],
    max_iterations: int,
    tolerance: float,
    variance_floor: float,
) -> Mixture:
    """EM of all problems at once; a problem's result is taken at its own last iteration."""
    num_problems, num_features, num_samples = features.shape
    dims = seeds.shape[-1]
    result = features.new_empty((num_problems, seeds.shape[1], num_features))
    active = torch.arange(num_problems, device=features.device)
    moments = _hard_moments(features, seeds)
    previous = features.new_full((num_problems,), -torch.inf)
    running = torch.ones_like(active, dtype=torch.bool)
    for iteration in range(max_iterations):
        mixture = _maximise(moments, num_samples, dims, variance_floor)
        logits = torch.bmm(_parameters(mixture), features)
        peak = logits.amax(dim=1, keepdim=True)
        joint = logits.sub_(peak).clamp_min_(_NEGLIGIBLE).exp_()
        total = joint.sum(dim=1, keepdim=True)
        likelihood = (total.log() + peak).mean(dim=(1, 2))
        # The result of a finished problem does not depend on the iterations of others.
        result[active[running]] = moments[running]
        running &= (likelihood - previous).abs() >= tolerance
        if iteration == max_iterations - 1 or not running.any():
            break
        moments = torch.bmm(joint.div_(total), features.mT)
        previous = likelihood
        if running.sum() < 0.8 * len(running):  # a copy of the rest costs about as much as an iteration
            features, moments, previous, active = (x[running] for x in (features, moments, previous, active))
            running = torch.ones_like(active, dtype=torch.bool)
    return _maximise(result, num_samples, dims, variance_floor)


def _hard_moments(features: Float[Tensor, "B P S"], seeds: Float[Tensor, "B M D"]) -> Float[Tensor, "B M P"]:
    """Sums of features over the samples nearest to each seed."""
    points = features[:, 1 : 1 + seeds.shape[-1]]
    # |x - s|^2 up to |x|^2, which is the same for every seed.
    distance = 0.5 * seeds.square().sum(dim=-1, keepdim=True) - torch.bmm(seeds, points)
    nearest = (distance == distance.amin(dim=1, keepdim=True)).to(features.dtype)
    return torch.bmm(nearest / nearest.sum(dim=1, keepdim=True), features.mT)  # samples are shared by equal seeds


def _seed_means(
    centred: Float[Tensor, "B S D"], num_components: int, keys: Int[Tensor, " B"], seed: int
) -> Float[Tensor, "B M D"]:
    """Greedy k-means++ (Arthur and Vassilvitskii, 2007, section 5; scikit-learn's).

    Candidates for the next seed are samples drawn in proportion to their squared distance from the nearest seed; the
    one that leaves the least sum of squared distances is taken. The first seed is any sample.
    """
    num_candidates = 2 + int(math.log(num_components))  # T, as scikit-learn has it
    shape = (num_components, num_candidates)
    chance = keyed_random.uniform(keys, shape, stream=_SEEDING, seed=seed).to(centred.dtype)
    squares = centred.square().sum(dim=-1)
    distance = torch.ones_like(squares)
    problem = torch.arange(len(centred), device=centred.device)
    chosen = []
    for component in range(num_components):
        cumulative = (distance + 1e-12).cumsum(dim=1)
        tried = 1 if component == 0 else num_candidates
        target = chance[:, component, :tried] * cumulative[:, -1:]
        index = torch.searchsorted(cumulative, target).clamp_max(centred.shape[1] - 1)
        candidates = centred[problem[:, None], index]  # (B, T, D)
        to_new = squares[:, None] + candidates.square().sum(-1, keepdim=True) - 2.0 * candidates @ centred.mT
        to_new = to_new.clamp_min_(0.0)
        if component > 0:
            to_new = torch.minimum(distance[:, None], to_new)
        best = to_new.sum(dim=-1).argmin(dim=-1)
        distance = to_new[problem, best]
        chosen.append(candidates[problem, best])
    return torch.stack(chosen, dim=1)


def _upper(dims: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of the upper triangle."""
    rows, columns = torch.triu_indices(dims, dims, device=device)
    return rows, columns
