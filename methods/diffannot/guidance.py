"""Refinement without ground truth: the denoiser is the prior, and the 2-D keypoints guide each of its steps.

As in score-guided fitting (ScoreHMR, Stathopoulos et al., CVPR 2024), but the data term is not one gradient step on the
noise: at each time the estimate of x_0 is moved to where the reprojection error and the distance from the denoiser's
proposal balance (a proximal step, as DiffPIR, Zhu et al., CVPRW 2023), which needs no step size for each noise level.

Shape letters: B samples, D numbers of a state, J joints.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from methods.diffannot.diffusion import GaussianDiffusion
from methods.diffannot.reprojection import Keypoints
from methods.diffannot.states import PosedBody

Denoise = Callable[[Tensor, int], Tensor]  # (state (B, D), time) -> noise (B, D)


@dataclass(frozen=True)
class Guidance:
    """Settings of the guidance.

    Attributes:
        start: first time of each round; the front end's answer, or the last round's, is taken as x_start.
        stride: between the times of a round.
        rounds: number of runs of the chain.
        strength: weight of the reprojection error against the prior.
        scale: of the robust error, in box sides; a keypoint several times further away has little influence.
        iterations: of Adam in each proximal step.
        learning_rate: of Adam, in units of the state.
    """

    start: int = 60
    stride: int = 10
    rounds: int = 1
    strength: float = 300.0
    scale: float = 0.1
    iterations: int = 10
    learning_rate: float = 0.01

    @property
    def times(self) -> list[int]:
        """Times of one round, from the noisiest."""
        return list(range(0, self.start, self.stride))[::-1]


def guided(
    diffusion: GaussianDiffusion,
    denoise: Denoise | None,
    theta: Float[Tensor, "B D"],
    posed_body: PosedBody,
    keypoints: Keypoints,
    guidance: Guidance,
) -> Float[Tensor, "B D"]:
    """Refines states, each independently of the others.

    Args:
        diffusion: schedule of the denoiser.
        denoise: (state, time) -> noise; None for the null control, whose prior is the state itself.
        theta: the front end's states.
        posed_body: of the states.
        keypoints: 2-D evidence.
        guidance: settings.
    """
    with torch.inference_mode(False), torch.no_grad():  # predictions run in inference mode, which has no gradients
        return _guided(diffusion, denoise, theta.clone(), posed_body, keypoints.for_gradients(), guidance)


def _guided(
    diffusion: GaussianDiffusion,
    denoise: Denoise | None,
    state: Float[Tensor, "B D"],
    posed_body: PosedBody,
    keypoints: Keypoints,
    guidance: Guidance,
) -> Float[Tensor, "B D"]:
    times = guidance.times
    for _ in range(guidance.rounds):
        for time, following in zip(times, [*times[1:], -1], strict=True):
            level = diffusion.alphas_cumprod[time].to(state.dtype)
            proposal = state if denoise is None else diffusion.start_from_noise(state, time, denoise(state, time))
            clean = _nearest_that_fits(proposal, (1.0 - level) / level, posed_body, keypoints, guidance)
            if following < 0 or denoise is None:
                state = clean
                continue
            next_level = diffusion.alphas_cumprod[following].to(state.dtype)
            noise = (state - level.sqrt() * clean) / (1.0 - level).sqrt()
            state = next_level.sqrt() * clean + (1.0 - next_level).sqrt() * noise
    return state


def _nearest_that_fits(
    proposal: Float[Tensor, "B D"],
    variance: Tensor,
    posed_body: PosedBody,
    keypoints: Keypoints,
    guidance: Guidance,
) -> Float[Tensor, "B D"]:
    """argmin_x of |x - proposal|^2 / (2 variance) + strength * reprojection(x)."""
    with torch.enable_grad():
        state = proposal.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([state], lr=guidance.learning_rate)
        for _ in range(guidance.iterations):
            pixels = keypoints.project(posed_body.joints(state))
            # Summed over the samples: with a mean, the gradient of one would depend on their number.
            data = guidance.strength * keypoints.robust(pixels, guidance.scale).sum()
            prior = 0.5 * (state - proposal.detach()).square().sum() / variance
            optimizer.zero_grad()
            (data + prior).backward()
            optimizer.step()
    return state.detach()
