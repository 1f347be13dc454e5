"""The forward and reverse diffusion of D3DP: 3-D poses in metres, white noise, a network that predicts clean poses.

The forward process is that of DDPM, x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps with eps ~ N(0, I): a metre of noise at the
end, three times the spread of joints around the root, so that x_T tells nothing about the pose. The reverse process is
DDIM with eta = 1 over few, evenly spaced steps, with new noise in each.

The DDIM scheduler of diffusers agrees where the number of calls divides the number of steps, and otherwise visits other
steps than the release (the tests compare the two).

Shape letters: T steps of the schedule.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

LIMIT = 1.1  # metres: coordinates of noisy and of predicted poses are clamped to +- this, as in the release
_LARGEST_BETA = 0.999


def cosine_alphas_cumprod(num_steps: int, offset: float = 0.008) -> Float[Tensor, " T"]:
    """Alpha-bar of the cosine schedule (Nichol and Dhariwal, 2021), with beta at most 0.999.

    Returns:
        (T,) float32, computed in double precision.
    """
    time = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    square = torch.cos(torch.pi / 2 * (time + offset) / (1 + offset)) ** 2
    betas = (1 - square[1:] / square[:-1]).clamp(0, _LARGEST_BETA)
    return (1 - betas).cumprod(dim=0).float()


def ddim_timesteps(num_steps: int, num_calls: int) -> list[int]:
    """The steps at which the network is called, from T - 1 down: -1 to T - 1 in equal parts, without -1.

    Args:
        num_steps: T.
        num_calls: K, 1 to T.
    """
    return torch.linspace(-1, num_steps - 1, num_calls + 1).int().tolist()[:0:-1]


def add_noise(
    clean: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"], alpha: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*shape"]:
    """Forward process, clamped as the network sees it.

    Args:
        clean: x_0.
        noise: eps.
        alpha: alpha-bar of each sample.
    """
    return (alpha.sqrt() * clean + (1.0 - alpha).sqrt() * noise).clamp(-LIMIT, LIMIT)


def ddim_sample(
    predict_clean: Callable[[Tensor, int], Tensor],
    draw: Callable[[int], Tensor],
    alphas_cumprod: Float[Tensor, " T"],
    timesteps: list[int],
) -> Tensor:
    """Reverse process (Song et al., ICLR 2021, Eq. 12 with the sigma of DDPM, that is eta = 1).

    Args:
        predict_clean: (clamped x_t, t) -> estimate of x_0.
        draw: number of the call -> its white noise; that of call 0 is x_T.
        alphas_cumprod: schedule.
        timesteps: steps to visit, high to low, from `ddim_timesteps`.

    Returns:
        The last estimate of x_0, clamped.
    """

    def predict(state: Tensor, step: int) -> Tensor:
        return predict_clean(state.clamp(-LIMIT, LIMIT), step).clamp(-LIMIT, LIMIT)

    state = draw(0)
    clean = predict(state, timesteps[0])
    for call, (step, following) in enumerate(zip(timesteps[:-1], timesteps[1:], strict=True), start=1):
        alpha, after = alphas_cumprod[step], alphas_cumprod[following]
        noise = (state - alpha.sqrt() * clean) / (1.0 - alpha).sqrt()
        variance = (1.0 - alpha / after) * (1.0 - after) / (1.0 - alpha)
        # The root of 1 - after - variance, without the difference of equal numbers while alpha is about zero.
        kept = (1.0 - after) * (alpha / (after * (1.0 - alpha))).sqrt()
        state = after.sqrt() * clean + kept * noise + variance.sqrt() * draw(call)
        clean = predict(state, following)
    return clean
