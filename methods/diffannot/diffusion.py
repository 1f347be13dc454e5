"""The Gaussian diffusion of DiffAnnot on vectors: tables, forward process, reverse steps and the variational bound.

DDPM (Ho et al., NeurIPS 2020) as improved DDPM (Nichol and Dhariwal, ICML 2021) implements it, with noise prediction.
The state keeps its own units: rotation entries in [-1, 1] and shape coefficients. Time t = 0 is the least noisy of T
steps. A time is one integer for all rows, or a tensor with one entry a row.

The schedulers of diffusers are not used: they compute in float32 and take one time for all rows, while these tables are
float64, as the released ones are, and rows are at different times.

Shape letters: T steps, D entries of the state, E entries of the network's output (D, or 2 D with a learned variance).
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from methods.diffannot.states import NUM_ROTATION, STATE_SIZE

Schedule = Literal["linear", "cosine"]
Clip = Literal["none", "rotations", "all"]
Time = Tensor | int

_BIN = 1 / 255  # half the width of a bin at t = 0, as for images of 256 levels; for poses this is a convention
_LARGEST_CHOICE = 20.0  # of a learned variance, either way; larger outputs are clipped, or exponentials overflow
_SATURATED = 8.0  # here the approximated normal distribution function is 0 or 1 in double precision


def schedule_betas(schedule: Schedule, num_steps: int = 1000) -> Float[Tensor, " T"]:
    """The betas of a named schedule, float64.

    Args:
        schedule: `linear`, 1e-4 to 2e-2 at 1000 steps and proportionally more with fewer; or `cosine`, capped at 0.999.
        num_steps: T.
    """
    if schedule == "linear":
        scale = 1000 / num_steps
        return torch.linspace(scale * 1e-4, scale * 2e-2, num_steps, dtype=torch.float64)
    time = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    level = ((time + 0.008) / 1.008 * math.pi / 2).cos().square()
    return (1 - level[1:] / level[:-1]).clamp_max(0.999)


def clip_mask(clip: Clip) -> Bool[Tensor, " D"] | None:
    """Which entries of an estimated x_0 are limited to [-1, 1].

    Args:
        clip: `none`; `rotations`, whose entries cannot be larger; `all`, as released, shape coefficients included.
    """
    if clip == "none":
        return None
    return torch.arange(STATE_SIZE) < (STATE_SIZE if clip == "all" else NUM_ROTATION)


class Step(NamedTuple):
    """One reverse step.

    Attributes:
        state: (..., D) at t - 1; at t = 0, the answer.
        start: (..., D) the estimate of x_0 that the step was made with.
    """

    state: Tensor
    start: Tensor


class Reverse(NamedTuple):
    """The Gaussian p(x_{t-1} | x_t) of the network.

    Attributes:
        mean: (..., D).
        log_variance: (..., D) or broadcastable to it.
        start: (..., D) the estimate of x_0.
    """

    mean: Tensor
    log_variance: Tensor
    start: Tensor


class GaussianDiffusion(nn.Module):
    """The tables of a schedule and what is computed with them.

    Tables are float64 and cast to the state's type when an entry is taken; they are not part of the state dict.

    Args:
        betas: (T,) float64, see `schedule_betas`.
        learned_range: the second half of the network's output chooses the variance of the reverse steps, between the
            posterior's and beta, in the logarithm. Otherwise it is beta.
        clip: (D,) entries of the estimated x_0 to limit to [-1, 1], see `clip_mask`; None for no entry.
    """

    betas: Tensor
    alphas_cumprod: Tensor
    alphas_cumprod_prev: Tensor
    sqrt_alphas_cumprod: Tensor
    sqrt_one_minus_alphas_cumprod: Tensor
    sqrt_recip_alphas_cumprod: Tensor
    sqrt_recipm1_alphas_cumprod: Tensor
    posterior_log_variance_clipped: Tensor
    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor
    clip: Tensor | None
    _large_log_variance: Tensor
    _log_betas: Tensor

    def __init__(
        self,
        betas: Float[Tensor, " T"],
        learned_range: bool = False,
        clip: Bool[Tensor, " D"] | None = None,
    ) -> None:
        super().__init__()
        self.num_steps = len(betas)
        self.learned_range = learned_range
        alphas_cumprod = (1 - betas).cumprod(0)
        previous = torch.cat((torch.ones_like(betas[:1]), alphas_cumprod[:-1]))
        posterior_variance = betas * (1 - previous) / (1 - alphas_cumprod)
        # Zero at t = 0, whose logarithm would be infinite.
        small = torch.cat((posterior_variance[1:2], posterior_variance[1:])) if len(betas) > 1 else betas
        tables = {
            "betas": betas,
            "alphas_cumprod": alphas_cumprod,
            "alphas_cumprod_prev": previous,
            "sqrt_alphas_cumprod": alphas_cumprod.sqrt(),
            "sqrt_one_minus_alphas_cumprod": (1 - alphas_cumprod).sqrt(),
            "sqrt_recip_alphas_cumprod": (1 / alphas_cumprod).sqrt(),
            "sqrt_recipm1_alphas_cumprod": (1 / alphas_cumprod - 1).sqrt(),
            "posterior_log_variance_clipped": small.log(),
            "posterior_mean_coef1": betas * previous.sqrt() / (1 - alphas_cumprod),
            "posterior_mean_coef2": (1 - previous) * (1 - betas).sqrt() / (1 - alphas_cumprod),
            "_large_log_variance": torch.cat((small[:1], betas[1:])).log(),
            "_log_betas": betas.log(),
            "clip": clip,
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def network_time(self, t: Time) -> Tensor:
        """The time as the network takes it: (B,) int64, or (1,) for one time for all rows."""
        return t if isinstance(t, Tensor) else torch.full((1,), t, device=self.betas.device)

    def q_sample(self, start: Float[Tensor, "*B D"], t: Time, noise: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """A draw of x_t given x_0: sqrt(abar) x_0 + sqrt(1 - abar) noise."""
        level = _at(self.sqrt_alphas_cumprod, t, start)
        return level * start + _at(self.sqrt_one_minus_alphas_cumprod, t, start) * noise

    def start_from_noise(
        self, state: Float[Tensor, "*B D"], t: Time, noise: Float[Tensor, "*B D"]
    ) -> Float[Tensor, "*B D"]:
        """`q_sample` solved for x_0, then clipped."""
        start = _at(self.sqrt_recip_alphas_cumprod, t, state) * state
        start = start - _at(self.sqrt_recipm1_alphas_cumprod, t, state) * noise
        return start if self.clip is None else torch.where(self.clip, start.clamp(-1, 1), start)

    def noise_from_start(
        self, state: Float[Tensor, "*B D"], t: Time, start: Float[Tensor, "*B D"]
    ) -> Float[Tensor, "*B D"]:
        """`q_sample` solved for the noise."""
        scaled = _at(self.sqrt_recip_alphas_cumprod, t, state) * state
        return (scaled - start) / _at(self.sqrt_recipm1_alphas_cumprod, t, state)

    def posterior(
        self, start: Float[Tensor, "*B D"], state: Float[Tensor, "*B D"], t: Time
    ) -> tuple[Float[Tensor, "*B D"], Tensor]:
        """Mean (..., D) and clipped log-variance (..., 1) of q(x_{t-1} | x_t, x_0)."""
        mean = _at(self.posterior_mean_coef1, t, state) * start + _at(self.posterior_mean_coef2, t, state) * state
        return mean, _at(self.posterior_log_variance_clipped, t, state)

    def split(self, output: Float[Tensor, "*B E"]) -> tuple[Float[Tensor, "*B D"], Float[Tensor, "*B D"] | None]:
        """The network's output as noise and, with a learned range, its choice of the variance."""
        if not self.learned_range:
            return output, None
        noise, choice = output.chunk(2, dim=-1)
        return noise, choice

    def reverse(self, state: Float[Tensor, "*B D"], t: Time, output: Float[Tensor, "*B E"]) -> Reverse:
        """p(x_{t-1} | x_t) from the network's output at x_t."""
        noise, choice = self.split(output)
        start = self.start_from_noise(state, t, noise)
        mean, small = self.posterior(start, state, t)
        if choice is None:
            return Reverse(mean, _at(self._large_log_variance, t, state), start)
        # Improved DDPM, Eq. 15, with v = (choice + 1) / 2: an output of -1 is the smaller, of 1 the larger.
        share = (choice.clamp(-_LARGEST_CHOICE, _LARGEST_CHOICE) + 1) / 2
        return Reverse(mean, share * _at(self._log_betas, t, state) + (1 - share) * small, start)

    def ddpm_step(
        self,
        state: Float[Tensor, "*B D"],
        t: Time,
        output: Float[Tensor, "*B E"],
        noise: Float[Tensor, "*B D"] | None,
    ) -> Step:
        """A draw of x_{t-1}: ancestral sampling.

        Args:
            state: x_t.
            t: time.
            output: of the network at x_t.
            noise: standard normal; not used in rows of t = 0, so it may be None where all rows are.
        """
        mean, log_variance, start = self.reverse(state, t, output)
        if noise is None:
            return Step(mean, start)
        spread = (0.5 * log_variance).exp() * noise
        moves = torch.as_tensor(t, device=state.device)[..., None] > 0
        return Step(torch.where(moves, mean + spread, mean), start)

    def ddim_step(self, state: Float[Tensor, "*B D"], t: Time, output: Float[Tensor, "*B E"]) -> Step:
        """The deterministic step of DDIM (Song et al., ICLR 2021, eta = 0)."""
        noise, _ = self.split(output)
        start = self.start_from_noise(state, t, noise)
        if self.clip is not None:
            noise = self.noise_from_start(state, t, start)
        level = _at(self.alphas_cumprod_prev, t, state)
        return Step(level.sqrt() * start + (1 - level).sqrt() * noise, start)

    def variational_bound(
        self, start: Float[Tensor, "*B D"], state: Float[Tensor, "*B D"], t: Time, output: Float[Tensor, "*B E"]
    ) -> Float[Tensor, "*B"]:
        """The term of t in the variational bound, bits per entry.

        The KL divergence from the posterior to the network's Gaussian, and at t = 0 the negative log-likelihood of x_0
        in bins of 2/255, as for images.
        """
        mean, log_variance = self.posterior(start, state, t)
        reverse = self.reverse(state, t, output)
        distance = (mean - reverse.mean).square() * (-reverse.log_variance).exp()
        narrower = log_variance - reverse.log_variance
        divergence = 0.5 * (narrower.exp() - 1 - narrower + distance)
        likelihood = _binned_log_likelihood(start, reverse.mean, 0.5 * reverse.log_variance)
        first = torch.as_tensor(t, device=state.device)[..., None] == 0
        return torch.where(first, -likelihood, divergence).mean(dim=-1) / math.log(2)

    def noise_losses(
        self,
        start: Float[Tensor, "*B D"],
        state: Float[Tensor, "*B D"],
        t: Time,
        noise: Float[Tensor, "*B D"],
        output: Float[Tensor, "*B E"],
    ) -> dict[str, Float[Tensor, "*B"]]:
        """Training loss of each sample: the sum of `mse` and, with a learned range, `vb`.

        The bound trains the variance only (its mean is detached) and is scaled by T / 1000 (improved DDPM, L_hybrid).
        """
        predicted, choice = self.split(output)
        losses = {"mse": (predicted - noise).square().mean(dim=-1)}
        if choice is not None:
            frozen = torch.cat((predicted.detach(), choice), dim=-1)
            losses["vb"] = self.variational_bound(start, state, t, frozen) * (self.num_steps / 1000)
        return losses


def _at(table: Tensor, t: Time, like: Tensor) -> Tensor:
    """The entries of a table at the given times, to be multiplied with states."""
    return table[t].to(like.dtype)[..., None]


def _binned_log_likelihood(value: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Logarithm of a Gaussian's mass in the bin around each value; the bins beyond -1 and 1 are open."""
    above = _normal_cdf((value - mean + _BIN) * (-log_scale).exp())
    below = _normal_cdf((value - mean - _BIN) * (-log_scale).exp())
    mass = torch.where(value < -0.999, above, torch.where(value > 0.999, 1 - below, above - below))
    return mass.clamp_min(1e-12).log()


def _normal_cdf(x: Tensor) -> Tensor:
    x = x.clamp(-_SATURATED, _SATURATED)  # beyond, the cube overflows and the gradient is NaN
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
