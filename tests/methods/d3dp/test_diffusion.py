import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from methods.d3dp import diffusion


def reference(num_steps):
    return DDIMScheduler(
        num_steps, beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample_range=diffusion.LIMIT,
        timestep_spacing="trailing",
    )  # fmt: skip


def test_the_schedule_is_that_of_diffusers():
    ours, theirs = diffusion.cosine_alphas_cumprod(1000), reference(1000).alphas_cumprod
    assert torch.allclose(ours, theirs, rtol=2e-4, atol=1e-9)  # theirs is multiplied up in single precision
    assert ours[0] > 0.9999 and ours[-1] < 1e-8


@pytest.mark.parametrize(
    ("num_calls", "expected"),
    [(1, [999]), (5, [999, 799, 599, 399, 199]), (3, [999, 665, 332])],  # 665: diffusers visits 666
)
def test_calls_are_spread_over_the_steps_as_in_the_release(num_calls, expected):
    assert diffusion.ddim_timesteps(1000, num_calls) == expected
    times = [int(time) for time in np.linspace(-1, 999, num_calls + 1)]
    assert expected == times[:0:-1]


@pytest.mark.parametrize("num_calls", [1, 2, 5, 10])
def test_the_reverse_process_is_that_of_diffusers(num_calls):
    noise = torch.randn(num_calls, 3, 4, 17, 3)

    def predict_clean(state, step):
        assert state.abs().max() <= diffusion.LIMIT
        return torch.sin(3.0 * state) + step / 2000.0  # beyond the limit for some

    steps = diffusion.ddim_timesteps(1000, num_calls)
    alphas = diffusion.cosine_alphas_cumprod(1000)
    clean = diffusion.ddim_sample(predict_clean, noise.__getitem__, alphas, steps)
    scheduler = reference(1000)
    scheduler.alphas_cumprod = alphas.double()  # in single precision it takes roots of negative numbers
    scheduler.set_timesteps(num_calls)
    state = noise[0]
    for call, step in enumerate(scheduler.timesteps.tolist(), start=1):
        answer = predict_clean(state.clamp(-diffusion.LIMIT, diffusion.LIMIT), step)
        new = noise[call] if call < num_calls else torch.zeros_like(state)
        state = scheduler.step(answer, step, state, eta=1.0, use_clipped_model_output=True, variance_noise=new)[0]
    assert torch.allclose(clean, state.float(), atol=1e-5)
    assert clean.abs().max() <= diffusion.LIMIT


def test_noise_is_added_as_much_as_the_step_says_and_clamped():
    clean, noise = torch.full((2, 1000), 0.3), torch.randn(2, 1000)
    noisy = diffusion.add_noise(clean, noise, torch.tensor([[1.0], [0.0]]))
    assert torch.equal(noisy[0], clean[0])
    assert torch.equal(noisy[1], noise[1].clamp(-1.1, 1.1)) and (noisy[1].abs() == diffusion.LIMIT).any()
