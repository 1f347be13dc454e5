"""From the front end's states to refined ones: every selector in one place, so that they can be compared.

Shape letters: B samples, D numbers of a state, J joints.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.diffannot.chains import Noise, ReverseStep, denoise_from, keyed_noise, reverse_step
from methods.diffannot.diffusion import GaussianDiffusion, Step
from methods.diffannot.guidance import Guidance, guided
from methods.diffannot.reprojection import Keypoints
from methods.diffannot.search import Found, search_single_step, search_trajectory, search_wavefront
from methods.diffannot.selection import (
    Posed,
    Score,
    half_of_the_joints,
    reprojection_score,
    residual_score,
    truth_score,
)
from methods.diffannot.states import STATE_SIZE

Selector = Literal["none", "fixed", "reproj2d", "consistency", "guided", "oracle", "half_joints"]
Search = Literal["paper", "trajectory", "single_step"]
_MILLIMETRES = 1000.0  # the release's search starts from limits in millimetres


class Evidence(NamedTuple):
    """What a selector may look at.

    Attributes:
        keypoints: 2-D, of every sample.
        target: (B, J, 4) ground truth and its validity; for `oracle` and `half_joints` only.
        condition: (B, C) of the denoiser.
        keys: (B,) of `keyed_random`.
    """

    keypoints: Keypoints
    target: Tensor | None
    condition: Tensor | None
    keys: Int[Tensor, " B"]


class Refined(NamedTuple):
    """Refined states, and how many denoising steps each took; 0 for one that was left as it was."""

    state: Float[Tensor, "B D"]
    step: Int[Tensor, " B"]


class Refiner:
    """Denoises states and chooses how far.

    Args:
        diffusion: schedule of the denoiser.
        posed: poses states.
        joints: that `oracle` and `half_joints` count.
        search: candidates.
        deterministic: DDIM instead of DDPM.
        max_steps: s_max.
        patience: K.
        fixed_step: of `fixed`.
        residual_step: of `consistency`.
        guidance: of `guided`.
    """

    def __init__(
        self,
        diffusion: GaussianDiffusion,
        posed: Posed,
        joints: Sequence[int],
        search: Search,
        deterministic: bool,
        max_steps: int,
        patience: int,
        fixed_step: int,
        residual_step: int,
        guidance: Guidance,
    ) -> None:
        self.diffusion = diffusion
        self.posed = posed
        self.joints = joints
        self.search: Search = search
        self.deterministic = deterministic
        self.max_steps = max_steps
        self.patience = patience
        self.fixed_step = fixed_step
        self.residual_step = residual_step
        self.guidance = guidance

    def calls(self, selector: Selector) -> int:
        """Denoiser calls of one answer; of a search, of its last candidate."""
        if selector == "guided":
            return self.guidance.rounds * len(self.guidance.times)
        return {"none": 0, "fixed": self.fixed_step}.get(selector, self.max_steps)

    def refine(
        self, network: nn.Module | None, theta: Float[Tensor, "B D"], selector: Selector, evidence: Evidence
    ) -> Refined:
        """Refines states with a denoiser.

        Args:
            network: the denoiser; None for the null control, which has none: candidates are the front end's state plus
                noise as large as what the chain would remove, and `guided` has no prior.
            theta: the front end's states.
            selector: see `DiffAnnot`.
            evidence: of the same samples.
        """
        step = _null_step(self.diffusion) if network is None else self._reverse_step(network, evidence)
        noise = None if self.deterministic and network is not None else keyed_noise(evidence.keys, STATE_SIZE)
        if selector == "none":
            return Refined(theta, torch.zeros(len(theta), dtype=torch.int64, device=theta.device))
        if selector == "fixed":
            state = denoise_from(step, theta, self.fixed_step, noise)
            return Refined(state, torch.full((len(theta),), self.fixed_step, device=theta.device))
        if selector == "guided":
            state = guided(self.diffusion, self._denoise(network, evidence), theta, self.posed, evidence.keypoints,
                           self.guidance)  # fmt: skip
            return Refined(state, torch.full((len(theta),), self.calls("guided"), device=theta.device))
        found = self.candidates(network, step, noise, theta, self._score(network, selector, evidence))
        return Refined(found.state, found.step.clamp_min(0))

    def candidates(
        self,
        network: nn.Module | None,
        step: ReverseStep,
        noise: Noise | None,
        theta: Float[Tensor, "B D"],
        score: Score,
    ) -> Found:
        """The search that `self.search` names."""
        if self.search == "trajectory":
            return search_trajectory(step, theta, score, self.max_steps, self.patience, noise)
        if self.search == "single_step":

            def in_millimetres(states: Tensor, sample: Tensor) -> Tensor:
                return _MILLIMETRES * score(states, sample)

            def estimate(state: Tensor, times: Tensor, sample: Tensor) -> Tensor:
                assert network is not None, "the null control searches as the paper does"
                output, _ = self.diffusion.split(network(state, self.diffusion.network_time(times)))
                return self.diffusion.start_from_noise(state, times, output)

            return search_single_step(estimate, theta, in_millimetres, self.max_steps, self.patience - 1)
        return search_wavefront(step, theta, score, self.max_steps, self.patience, noise)
