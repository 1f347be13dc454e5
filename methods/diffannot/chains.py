"""A reverse chain of DiffAnnot: the step of a trained denoiser, the noise that belongs to it, and the whole chain.

Rows of a batch may be several chains of one sample, so each row comes with the number of its sample.

Shape letters: B samples, R rows, D entries of the state, C entries of the condition.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.diffannot.diffusion import GaussianDiffusion, Step
from noise2pose import keyed_random

# (state (R, D), t, sample of each row (R,), fresh noise (R, D) or None where there is none) to the state at t - 1.
ReverseStep = Callable[[Tensor, int, Tensor, Tensor | None], Step]
# (sample of each row (R,), the step that its chain started from (R,), t) to standard normal noise (R, D).
Noise = Callable[[Tensor, Tensor, int], Tensor]


def reverse_step(
    diffusion: GaussianDiffusion,
    network: nn.Module,
    deterministic: bool = True,
    condition: Float[Tensor, "B C"] | None = None,
) -> ReverseStep:
    """The reverse step of a trained denoiser: DDIM if deterministic, else DDPM. The condition is of each sample."""

    def step(state: Tensor, t: int, sample: Tensor, noise: Tensor | None) -> Step:
        output = network(state, diffusion.network_time(t), None if condition is None else condition[sample])
        return diffusion.ddim_step(state, t, output) if deterministic else diffusion.ddpm_step(state, t, output, noise)

    return step


def keyed_noise(keys: Int[Tensor, " B"], size: int, seed: int = 0) -> Noise:
    """Noise that belongs to a sample, the start of its chain and the time, and to nothing else.

    Args:
        keys: of the samples, see `keyed_random.keys_of`.
        size: D.
        seed: which repetition of the experiment this is.
    """

    def noise(sample: Tensor, start: Tensor, t: int) -> Tensor:
        return keyed_random.normal(keys[sample] + (start << 32), (size,), stream=t, seed=seed)

    return noise


@torch.no_grad()
def denoise_from(
    step: ReverseStep,
    theta1: Float[Tensor, "B D"],
    start: int,
    noise: Noise | None = None,
    sample: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, "B D"]:
    """Candidate `start` of each sample: the first answer, denoised that many times.

    Args:
        step: reverse step.
        theta1: the first answers.
        start: i.
        noise: of DDPM, or None.
        sample: the numbers by which `step` and `noise` know the samples, None for 0, 1, ...
    """
    sample = torch.arange(len(theta1), device=theta1.device) if sample is None else sample
    starts, state = torch.full_like(sample, start), theta1
    for t in range(start - 1, -1, -1):
        state = step(state, t, sample, noise(sample, starts, t) if noise is not None and t else None).state
    return state
