"""The forward and reverse diffusion of DiffPose, both variants, top to bottom.

* **paper** (Eq. 7): h_k = mu + sqrt(a_k) (h_0 - mu) + sqrt(1 - a_k) eps with one component (mu, Sigma) of the pose's
  own Gaussian mixture and eps ~ N(0, Sigma), so that h_K is a draw from the mixture.
* **release**: mu = 0, eps ~ N(0, diag(s^2)) with a fixed s per channel, and a schedule that stays far from pure noise.

Both are the same affine map, and both are reversed by the same DDIM step in coordinates centred on mu. `a_k` is the
cumulative product that DDPM writes as alpha-bar. Index k = 0 is the first noisy step, as in the release; a = 1 before.

Shape letters: B batch (any leading dimensions), J joints, C channels, K steps.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

FINISHED = -1  # the step "after" k = 0, where alpha-bar is 1


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

    When num_steps does not divide start there are more of them: (50, 4) visits five.

    Raises:
        ValueError: if there are fewer than one, or more than start, steps.
    """
    if not 1 <= num_steps <= start:
        raise ValueError(f"num_steps must lie in 1..{start}, got {num_steps}")
    return list(range(0, start, start // num_steps))[::-1]


def add_noise(
    clean: Float[Tensor, "*batch J C"],
    noise: Float[Tensor, "*batch J C"],
    alpha: Float[Tensor, "*batch 1 1"],
    mean: Float[Tensor, "*batch J C"] | float = 0.0,
) -> Float[Tensor, "*batch J C"]:
    """Forward process, Eq. 7 (with mean 0: Eq. 4 and the release).

    Args:
        clean: h_0.
        noise: eps^G, already scaled by the component's covariance (or the release's s).
        alpha: a_k of each sample.
        mean: mu^G of each sample's component.
    """
    return mean + alpha.sqrt() * (clean - mean) + (1.0 - alpha).sqrt() * noise


def clean_from_noise(
    state: Float[Tensor, "*batch J C"],
    noise: Float[Tensor, "*batch J C"],
    alpha: Float[Tensor, "*batch 1 1"] | Tensor,
    mean: Float[Tensor, "*batch J C"] | float = 0.0,
) -> Float[Tensor, "*batch J C"]:
    """`add_noise` solved for h_0."""
    return mean + (state - mean - (1.0 - alpha).sqrt() * noise) / alpha.sqrt()


def noise_from_clean(
    state: Float[Tensor, "*batch J C"],
    clean: Float[Tensor, "*batch J C"],
    alpha: Float[Tensor, "*batch 1 1"] | Tensor,
    mean: Float[Tensor, "*batch J C"] | float = 0.0,
) -> Float[Tensor, "*batch J C"]:
    """`add_noise` solved for eps^G."""
    return (state - mean - alpha.sqrt() * (clean - mean)) / (1.0 - alpha).sqrt()


def ddim_step(
    clean: Float[Tensor, "*batch J C"],
    noise: Float[Tensor, "*batch J C"],
    alpha: Tensor,
    alpha_next: Tensor,
    mean: Float[Tensor, "*batch J C"] | float = 0.0,
    eta: float = 0.0,
    fresh_noise: Float[Tensor, "*batch J C"] | float = 0.0,
) -> Float[Tensor, "*batch J C"]:
    """One reverse step k -> next (Song et al., DDIM, Eq. 12 and 16), centred on the component's mean.

    Args:
        clean: the current estimate of h_0.
        noise: the eps^G that belongs to it.
        alpha: a_k.
        alpha_next: a of the next, smaller step; 1 after the last.
        mean: mu^G.
        eta: 0 deterministic, 1 ancestral.
        fresh_noise: a new draw of eps^G, used where eta > 0.
    """
    sigma = eta * ((1 - alpha / alpha_next) * (1 - alpha_next) / (1 - alpha)).sqrt()
    direction = (1 - alpha_next - sigma**2).clamp_min(0.0).sqrt()
    return mean + alpha_next.sqrt() * (clean - mean) + sigma * fresh_noise + direction * noise


def ddim_sample(
    denoise: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    state: Float[Tensor, "*batch J C"],
    alphas_cumprod: Float[Tensor, " K"],
    timesteps: list[int],
    mean: Float[Tensor, "*batch J C"] | float = 0.0,
    eta: float = 0.0,
    draw_noise: Callable[[int], Tensor] | None = None,
) -> Float[Tensor, "*batch J C"]:
    """Reverse diffusion (Eq. 8, accelerated as in section 5 of the paper).

    Args:
        denoise: (state, k) -> (estimate of h_0, estimate of eps^G).
        state: h at the first of the time steps.
        alphas_cumprod: (K,) schedule.
        timesteps: steps to visit, high to low, for example from `ddim_timesteps`.
        mean: mu^G of each sample.
        eta: of `ddim_step`.
        draw_noise: number of the call, counted from zero -> fresh eps^G; needed where eta > 0.

    Returns:
        h_0.
    """
    if eta > 0 and draw_noise is None:
        raise ValueError("eta > 0 needs draw_noise")
    one = torch.ones_like(alphas_cumprod[0])
    for call, (step, following) in enumerate(zip(timesteps, [*timesteps[1:], FINISHED], strict=True)):
        clean, noise = denoise(state, step)
        alpha_next = one if following == FINISHED else alphas_cumprod[following]
        fresh_noise = draw_noise(call) if eta > 0 and draw_noise is not None else 0.0
        state = ddim_step(clean, noise, alphas_cumprod[step], alpha_next, mean, eta, fresh_noise)
    return state
