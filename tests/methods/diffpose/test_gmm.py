import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from methods.diffpose import gmm
from noise2pose.errors import InputError


def known_mixture(problems=8, components=3, dims=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    means = 8.0 * torch.randn(problems, components, dims, generator=generator, dtype=torch.float64)
    stds = 0.5 + torch.rand(problems, components, dims, generator=generator, dtype=torch.float64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).expand(problems, -1)
    return gmm.Mixture(weights, means, stds)


def test_log_prob_equals_torch_distributions():
    mixture = known_mixture()
    points = 5.0 * torch.randn(8, 10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for i in range(8):
        parts = Independent(Normal(mixture.means[i], mixture.scales[i]), 1)
        reference = MixtureSameFamily(Categorical(mixture.weights[i]), parts).log_prob(points[i])
        assert torch.allclose(mixture.log_prob(points)[i], reference)


def test_draws_have_the_moments_of_the_mixture():
    mixture = known_mixture(problems=2)
    mean, noise = mixture.draw(torch.arange(2), 40_000)
    points = mean + noise
    expected = (mixture.weights[..., None] * mixture.means).sum(dim=1)
    assert torch.allclose(points.mean(dim=1), expected, atol=0.15)
    second = (mixture.weights[..., None] * (mixture.means**2 + mixture.scales**2)).sum(dim=1)
    assert torch.allclose(points.square().mean(dim=1), second, rtol=0.03)


def test_a_known_mixture_is_recovered():
    truth = known_mixture()
    mean, noise = truth.draw(torch.arange(8), 2000)
    fitted = gmm.fit_mixture(mean + noise, 3, torch.arange(8), max_iterations=50)
    order = torch.cdist(truth.means, fitted.means).argmin(dim=-1)
    recovered = 0
    for i in range(8):
        if len(set(order[i].tolist())) == 3:  # EM may stop at a local optimum for some seedings
            recovered += 1
            assert torch.allclose(fitted.means[i, order[i]], truth.means[i], atol=0.4)
            assert torch.allclose(fitted.scales[i, order[i]], truth.scales[i], atol=0.25)
            assert torch.allclose(fitted.weights[i, order[i]], truth.weights[i], atol=0.06)
    assert recovered >= 6


def test_em_equals_a_naive_loop():
    """One iteration from the same seeding, one problem and one sample at a time."""
    samples = known_mixture(problems=2).draw(torch.arange(2), 60)[0]
    samples = samples + torch.randn(samples.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    before = gmm.fit_mixture(samples, 3, torch.arange(2), max_iterations=4)
    after = gmm.fit_mixture(samples, 3, torch.arange(2), max_iterations=5)
    for i in range(2):
        parts = Independent(Normal(before.means[i], before.scales[i]), 1)
        joint = before.weights[i].log() + parts.log_prob(samples[i][:, None])
        share = (joint - joint.logsumexp(dim=1, keepdim=True)).exp()
        for m in range(3):
            mass = share[:, m].sum()
            mean = (share[:, m, None] * samples[i]).sum(dim=0) / mass
            variance = (share[:, m, None] * (samples[i] - mean) ** 2).sum(dim=0) / mass + 1e-6
            assert torch.allclose(after.weights[i, m], mass / 60)
            assert torch.allclose(after.means[i, m], mean)
            assert torch.allclose(after.scales[i, m], variance.sqrt())


def test_a_fit_does_not_depend_on_its_batch_and_never_gets_worse():
    samples = torch.randn(16, 64, 51, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 100.0
    keys = torch.arange(16)
    together = gmm.fit_mixture(samples, 5, keys)
    alone = gmm.fit_mixture(samples[3:4], 5, keys[3:4])
    assert torch.allclose(together.means[3], alone.means[0], atol=1e-4)
    likelihood = [gmm.fit_mixture(samples, 5, keys, max_iterations=n).log_prob(samples).mean() for n in (1, 5, 20)]
    assert likelihood[0] <= likelihood[1] + 1e-3 and likelihood[1] <= likelihood[2] + 1e-3


def test_degenerate_input_has_a_defined_answer():
    keys = torch.arange(2)
    fitted = gmm.fit_mixture(torch.ones(2, 10, 3), 5, keys)
    assert torch.allclose(fitted.means, torch.ones(2, 5, 3)) and fitted.scales.isfinite().all()
    assert torch.allclose(fitted.weights.sum(dim=-1), torch.ones(2))
    with pytest.raises(InputError, match="needs at least as many samples, and one; got 4"):
        gmm.fit_mixture(torch.ones(2, 4, 3), 5, keys)
    with pytest.raises(InputError, match="finite"):
        gmm.fit_mixture(torch.full((2, 10, 3), torch.nan), 5, keys)
