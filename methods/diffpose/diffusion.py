"""The forward and reverse diffusion of DiffPose, both variants, top to bottom.

* **paper** (Eq. 7): h_k = mu + sqrt(a_k) (h_0 - mu) + sqrt(1 - a_k) eps with one component (mu, Sigma) of the pose's
  own Gaussian mixture and eps ~ N(0, Sigma), so that h_K is a draw from the mixture.
* **release**: mu = 0, eps ~ N(0, diag(s^2)) with a fixed s per channel, and a schedule that stays far from pure noise.

Both are the same affine map, and both are reversed by DDIM in coordinates centred on mu. `a_k` is the cumulative
product that DDPM writes as alpha-bar. Index k = 0 is the first noisy step, as in the release; before it a = 1.

The schedulers of diffusers are not used: their steps have no mean, the cosine schedule has no floor, and the linear one
rounds differently for some numbers of steps.

Shape letters: B batch (any leading dimensions), J joints, C channels, K steps.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def linear_alphas_cumprod(num_steps: int, beta_start: float, beta_end: float) -> Float[Tensor, " K"]:
    """Alpha-bar of linearly spaced betas (DDPM); the release uses 51 steps from 1e-4 to 1e-3.

    Returns:
        (K,) float32. The product is taken in float32, as the release does.
    """
    betas = torch.linspace(beta_start, beta_end, num_steps, dtype=torch.float64).to(torch.float32)
    return (1.0 - betas).cumprod(dim=0)


def cosine_alphas_cumprod(num_steps: int, offset: float = 0.008) -> Float[Tensor, " K"]:
    """Alpha-bar of the cosine schedule (Nichol and Dhariwal, 2021), ending near zero as Eq. 7 requires.

    Returns:
        (K,) float32; the last entry is floored at 1e-5, so that sqrt(a) stays invertible.
    """
    time = torch.arange(1, num_steps + 1, dtype=torch.float64) / num_steps
    angle = torch.pi / 2 * (time + offset) / (1 + offset)
    start = torch.cos(torch.tensor(torch.pi / 2 * offset / (1 + offset), dtype=torch.float64))
    return ((angle.cos() / start) ** 2).clamp_min(1e-5).to(torch.float32)


def ddim_timesteps(start: int, num_steps: int) -> list[int]:
    """Steps visited by the release: range(0, start, start // num_steps) from high to low.

    If num_steps does not divide start, there are more steps: (50, 4) visits five.

    Raises:
        ValueError: if num_steps is less than 1 or more than start.
    """
    if not 1 <= num_steps <= start:
        raise ValueError(f"num_steps must lie in 1..{start}, got {num_steps}")
    return list(range(0, start, start // num_steps))[::-1]


def add_noise(
    clean: Float[Tensor, "*batch J C"],
    noise: Float[Tensor, "*batch J C"],
    alpha: Float[Tensor, "*batch 1 1"] | Float[Tensor, ""],
    mean: Float[Tensor, "*batch J C"] | float = 0.0,
) -> Float[Tensor, "*batch J C"]:
    """Forward process, Eq. 7 (with mean 0: Eq. 4 and the release).

    Args:
        clean: h_0.
        noise: eps^G, already scaled by the component's covariance (or the release's s).
        alpha: a_k of each sample, or of all.
        mean: mu^G of each sample's component.
    """
    return mean + alpha.sqrt() * (clean - mean) + (1.0 - alpha).sqrt() * noise


def clean_from_noise(
    state: Float[Tensor, "*batch J C"],
    noise: Float[Tensor, "*batch J C"],
    alpha: Float[Tensor, "*batch 1 1"] | Float[Tensor, ""],
    mean: Float[Tensor, "*batch J C"] | float = 0.0,
) -> Float[Tensor, "*batch J C"]:
    """`add_noise` solved for h_0."""
    return mean + (state - mean - (1.0 - alpha).sqrt() * noise) / alpha.sqrt()


def noise_from_clean(
    state: Float[Tensor, "*batch J C"],
    clean: Float[Tensor, "*batch J C"],
    alpha: Float[Tensor, "*batch 1 1"] | Float[Tensor, ""],
    mean: Float[Tensor, "*batch J C"] | float = 0.0,
) -> Float[Tensor, "*batch J C"]:
    """`add_noise` solved for eps^G."""
    return (state - mean - alpha.sqrt() * (clean - mean)) / (1.0 - alpha).sqrt()


def ddim_sample(
    denoise: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    state: Float[Tensor, "*batch J C"],
    alphas_cumprod: Float[Tensor, " K"],
    timesteps: list[int],
    mean: Float[Tensor, "*batch J C"] | float = 0.0,
) -> Float[Tensor, "*batch J C"]:
    """Reverse diffusion (Eq. 8, accelerated as in section 5 of the paper).

    A step is deterministic DDIM (Song et al., ICLR 2021, Eq. 12 with eta = 0): the forward process at the next step,
    with the estimates of h_0 and eps^G.

    Args:
        denoise: (state, k) -> (estimate of h_0, estimate of eps^G).
        state: h at the first of the time steps.
        alphas_cumprod: (K,) schedule.
        timesteps: steps to visit, high to low, for example from `ddim_timesteps`.
        mean: mu^G of each sample.

    Returns:
        h_0.
    """
    one = torch.ones_like(alphas_cumprod[0])
    for step, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        clean, noise = denoise(state, step)
        state = add_noise(clean, noise, one if following is None else alphas_cumprod[following], mean)
    return state
