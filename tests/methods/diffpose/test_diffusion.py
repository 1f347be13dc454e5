import pytest
import torch
from diffusers import DDIMScheduler

from methods.diffpose import diffusion, gmm
from tests.methods.diffpose.test_gmm import covariances


def test_release_schedule_has_the_published_values():
    alphas = diffusion.linear_alphas_cumprod(51, 1e-4, 1e-3)
    expected = {0: 0.9999, 6: 0.998922, 12: 0.997299, 24: 0.992130, 50: 0.972331}
    for step, value in expected.items():
        assert alphas[step].item() == pytest.approx(value, abs=1e-6)


def test_cosine_schedule_falls_to_nothing():
    alphas = diffusion.cosine_alphas_cumprod(50)
    assert (alphas.diff() < 0).all()
    assert alphas[0] > 0.99 and alphas[-1] < 1e-4


@pytest.mark.parametrize("start, steps", [(5, 0), (5, 6)])
def test_impossible_numbers_of_steps_are_refused(start, steps):
    with pytest.raises(ValueError, match="num_steps"):
        diffusion.ddim_timesteps(start, steps)


def test_forward_process_ends_in_the_mixture_and_starts_at_the_pose():
    generator = torch.Generator().manual_seed(0)
    clean = torch.full((4000, 2, 3), 2.0)
    mean = torch.where(torch.rand(4000, 1, 1, generator=generator) < 0.3, -1.0, 3.0).expand_as(clean)
    noise = 0.5 * torch.randn(clean.shape, generator=generator)
    alphas = diffusion.cosine_alphas_cumprod(50)
    last = diffusion.add_noise(clean, noise, alphas[-1], mean)
    assert last.mean().item() == pytest.approx(0.3 * -1.0 + 0.7 * 3.0, abs=0.08)
    assert last.var().item() == pytest.approx(0.25 + 0.3 * 0.7 * 16.0, rel=0.05)
    assert (diffusion.add_noise(clean, noise, torch.ones(()), mean) - clean).abs().max() < 1e-6


@pytest.mark.parametrize("mean", [0.0, 1.5])
def test_noise_and_clean_are_inverses_of_the_forward_process(mean):
    clean, noise = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alpha = torch.tensor(0.3, dtype=torch.float64)
    state = diffusion.add_noise(clean, noise, alpha, mean)
    assert torch.allclose(diffusion.clean_from_noise(state, noise, alpha, mean), clean)
    assert torch.allclose(diffusion.noise_from_clean(state, clean, alpha, mean), noise)


def test_a_perfect_denoiser_recovers_the_pose_from_any_component():
    clean, noise = torch.randn(2, 6, 17, 3, generator=torch.Generator().manual_seed(0))
    mean = torch.randn(6, 17, 3, generator=torch.Generator().manual_seed(1))
    alphas = diffusion.cosine_alphas_cumprod(50)
    state = diffusion.add_noise(clean, noise, alphas[49], mean)

    def denoise(state, step):
        return clean, diffusion.noise_from_clean(state, clean, alphas[step], mean)

    recovered = diffusion.ddim_sample(denoise, state, alphas, [49, 39, 29, 19, 9], mean)
    assert (recovered - clean).abs().max() < 1e-5


def test_ddim_equals_diffusers_for_a_unit_gaussian():
    alphas = diffusion.linear_alphas_cumprod(50, 1e-4, 2e-2)
    scheduler = DDIMScheduler(50, 1e-4, 2e-2, clip_sample=False, set_alpha_to_one=True, steps_offset=0)
    scheduler.set_timesteps(5)
    state = reference = torch.randn(2, 17, 3, generator=torch.Generator().manual_seed(0))

    def predict(state):
        return torch.tanh(state)

    for step in scheduler.timesteps:
        reference = scheduler.step(predict(reference), int(step), reference).prev_sample
    timesteps = diffusion.ddim_timesteps(50, 5)
    assert timesteps == scheduler.timesteps.tolist()

    def denoise(state, step):
        return diffusion.clean_from_noise(state, predict(state), alphas[step]), predict(state)

    ours = diffusion.ddim_sample(denoise, state, alphas, timesteps)
    assert torch.allclose(ours, reference, atol=2e-5)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_forward_samples_have_the_moments_of_a_fitted_mixture(covariance):
    """Eq. 7 with mixtures as they are fitted: at k = K the mixture, at k = 0 the pose."""
    generator = torch.Generator().manual_seed(0)
    blobs = torch.randn(1, 400, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    blobs[:, :150] += 8.0
    mixture = gmm.fit_mixture(blobs, 2, torch.arange(1), covariance=covariance)
    mean, noise = (part.unflatten(-1, (2, 3)) for part in mixture.draw(torch.arange(1), 40_000))
    clean = torch.full((1, 40_000, 2, 3), 1.5)
    alphas = diffusion.cosine_alphas_cumprod(50)
    last = diffusion.add_noise(clean, noise, alphas[-1], mean).flatten(2)[0]
    expected = (mixture.weights[..., None] * mixture.means).sum(dim=1)[0]
    offset = mixture.means[0] - expected
    second = (mixture.weights[0, :, None, None] * (covariances(mixture)[0] + offset[:, :, None] * offset[:, None])).sum(
        0
    )
    scale = second.diagonal().max().sqrt()
    assert torch.allclose(last.mean(dim=0), expected, atol=0.03 * scale)
    assert torch.allclose(last.T.cov(), second, atol=0.03 * scale**2)
    first = diffusion.add_noise(clean, noise, torch.ones(()), mean)
    assert (first - clean).abs().max() < 1e-5
