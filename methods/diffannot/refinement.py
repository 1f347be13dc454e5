"""From the front end's states to refined ones: every selector in one place, so that they can be compared.

Most selectors score the candidates of a search by 2-D evidence, by the denoiser itself or (never deployable) by the
ground truth. A score is a function (rows of states, sample number of each row) -> one number a row, less is better.

Shape letters: B samples, R candidates (rows), D numbers of a state, J joints, I candidates of a sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.diffannot.diffusion import GaussianDiffusion, Step
from methods.diffannot.fitting import Denoise, Guidance, guided, if_it_fits
from methods.diffannot.reprojection import Keypoints
from methods.diffannot.search import (
    Estimate,
    Found,
    Noise,
    ReverseStep,
    Score,
    denoise_from,
    keyed_noise,
    reverse_step,
    search_single_step,
    search_trajectory,
    search_wavefront,
)
from methods.diffannot.states import STATE_SIZE, PosedBody
from noise2pose.errors import InputError
from noise2pose.metrics import functional

Selector = Literal["none", "fixed", "reproj2d", "consistency", "guided", "oracle", "half_joints"]
SELECTORS: tuple[Selector, ...] = get_args(Selector)
SelectBy = Literal["pa_mpjpe", "mpjpe"]
Search = Literal["paper", "trajectory", "single_step"]


class Evidence(NamedTuple):
    """The input of a selector.

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
    """Refined states, and the number of denoising steps of each; 0 for one that is unchanged."""

    state: Float[Tensor, "B D"]
    step: Int[Tensor, " B"]


@dataclass(eq=False)
class Refiner:
    """Denoises states and chooses the number of steps.

    Attributes:
        diffusion: schedule of the denoiser.
        posed_body: of the states.
        joints: whose error `oracle` and `half_joints` measure.
        search: which candidates are tried.
        deterministic: DDIM instead of DDPM.
        max_steps: s_max.
        patience: K.
        fixed_step: of `fixed`.
        residual_step: of `consistency`.
        guidance: of `guided`.
        select_by: error of `oracle` and `half_joints`.
    """

    diffusion: GaussianDiffusion
    posed_body: PosedBody
    joints: Sequence[int]
    search: Search
    deterministic: bool
    max_steps: int
    patience: int
    fixed_step: int
    residual_step: int
    guidance: Guidance
    select_by: SelectBy = "pa_mpjpe"

    def calls(self, selector: Selector) -> int:
        """Denoiser calls of one answer that depend on each other; for a search, those of its last candidate."""
        if selector == "guided":
            return self.guidance.rounds * len(self.guidance.times)
        return {"none": 0, "fixed": self.fixed_step}.get(selector, self.max_steps)

    def refine(
        self, network: nn.Module | None, theta: Float[Tensor, "B D"], selector: Selector, evidence: Evidence
    ) -> Refined:
        """Refines states.

        Args:
            network: the denoiser; None for the null control, whose candidates are random walks with the noise of the
                chain, and whose prior in `guided` is the state itself.
            theta: the front end's states.
            selector: see `DiffAnnot`.
            evidence: of the same samples.

        Raises:
            InputError: if a selector needs a denoiser or a ground truth that is not given.
        """
        if selector == "none":
            return Refined(theta, torch.zeros_like(evidence.keys))
        if selector == "fixed":
            state = denoise_from(self._step(network, evidence), theta, self.fixed_step, self._noise(network, evidence))
            return Refined(state, torch.full_like(evidence.keys, self.fixed_step))
        if selector == "guided":
            denoise = None if network is None else self._denoise(network, evidence.condition)
            state = guided(self.diffusion, denoise, theta, self.posed_body, evidence.keypoints, self.guidance)
            state, fits = if_it_fits(state, theta, self.posed_body, evidence.keypoints)
            return Refined(state, self.calls("guided") * fits.to(evidence.keys.dtype))
        found = self._search(network, theta, self._score(network, selector, evidence), evidence)
        return Refined(found.state, found.step.clamp_min(0))

    def losses_of_fixed_steps(
        self, network: nn.Module | None, theta: Float[Tensor, "B D"], score: Score, evidence: Evidence
    ) -> Float[Tensor, "B I"]:
        """Score of every candidate of Algorithm 1, without stopping; for choosing `fixed_step` on validation data."""
        step, noise = self._step(network, evidence), self._noise(network, evidence)
        return search_wavefront(step, theta, score, self.max_steps, self.max_steps + 1, noise).losses

    def _search(
        self, network: nn.Module | None, theta: Float[Tensor, "B D"], score: Score, evidence: Evidence
    ) -> Found:
        if self.search == "single_step":
            estimate = self._estimate(network, evidence)

            def in_millimetres(states: Tensor, sample: Tensor) -> Tensor:
                return 1000.0 * score(states, sample)

            # The script stops at rise number `patience`, the paper at the next one.
            return search_single_step(estimate, theta, in_millimetres, self.max_steps, self.patience - 1)
        search = search_trajectory if self.search == "trajectory" else search_wavefront
        step, noise = self._step(network, evidence), self._noise(network, evidence)
        return search(step, theta, score, self.max_steps, self.patience, noise)

    def _score(self, network: nn.Module | None, selector: Selector, evidence: Evidence) -> Score:
        if selector == "reproj2d":

            def reprojection(states: Tensor, sample: Tensor) -> Tensor:
                seen = evidence.keypoints.rows(sample)
                return seen.distance(seen.project(self.posed_body.joints(states))) / seen.size  # in box sides

            return reprojection
        if selector == "consistency":
            if network is None:
                raise InputError("selector `consistency` needs a denoiser; it has no null control")
            denoise = self._denoise(network, None)
            # The norm of the noise that is left. Unlike the disagreement of two chains (mirrored or with other noise),
            # which is zero where they take no step, it also applies to the front end's own answer.
            return lambda states, sample: denoise(states, self.residual_step).square().mean(dim=-1).sqrt()
        if evidence.target is None:
            raise InputError(f"selector `{selector}` chooses with the ground truth, and the data has no keypoints_3d")
        joints = self.joints if selector == "oracle" else half_of_the_joints(self.joints)[0]
        return truth_score(self.posed_body, evidence.target, joints, self.select_by)

    def _step(self, network: nn.Module | None, evidence: Evidence) -> ReverseStep:
        def random_walk(state: Tensor, t: int, sample: Tensor, noise: Tensor | None) -> Step:
            """Adds the noise of DDPM in each step and removes none."""
            moved = state if noise is None else state + self.diffusion.betas[t].sqrt().to(state.dtype) * noise
            return Step(moved, moved)

        if network is None:
            return random_walk
        return reverse_step(self.diffusion, network, self.deterministic, evidence.condition)

    def _noise(self, network: nn.Module | None, evidence: Evidence) -> Noise | None:
        return None if self.deterministic and network is not None else keyed_noise(evidence.keys, STATE_SIZE)

    def _denoise(self, network: nn.Module, condition: Tensor | None) -> Denoise:
        def denoise(state: Tensor, time: int) -> Tensor:
            return self.diffusion.split(network(state, self.diffusion.network_time(time), condition))[0]

        return denoise

    def _estimate(self, network: nn.Module | None, evidence: Evidence) -> Estimate:
        """x_0 from the noise that the denoiser predicts; for the null control, from random noise."""
        random, condition = keyed_noise(evidence.keys, STATE_SIZE), evidence.condition

        def estimate(state: Tensor, times: Tensor, sample: Tensor) -> Tensor:
            if network is None:
                return self.diffusion.start_from_noise(state, times, random(sample, times, 0))
            of_rows = None if condition is None else condition[sample]
            noise, _ = self.diffusion.split(network(state, times, of_rows))
            return self.diffusion.start_from_noise(state, times, noise)

        return estimate


def truth_score(
    posed_body: PosedBody, target: Float[Tensor, "B J 4"], joints: Sequence[int], select_by: SelectBy = "pa_mpjpe"
) -> Score:
    """`oracle` and `half_joints`: error of some joints, metres.

    Args:
        posed_body: of the candidates.
        target: ground truth and its validity.
        joints: to compare.
        select_by: after Procrustes alignment, or relative to the first joint.
    """
    truth, valid = target[..., :3] - target[:, :1, :3], target[..., 3]
    chosen = list(joints)
    error = functional.pa_mpjpe if select_by == "pa_mpjpe" else functional.mpjpe

    def score(states: Tensor, sample: Tensor) -> Tensor:
        pose = posed_body.joints(states)
        pose = (pose - pose[:, :1])[:, chosen]
        return error(pose, truth[sample][:, chosen], valid[sample][:, chosen])

    return score


def half_of_the_joints(joints: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Splits the joints alternately: those to choose by, and those to report on."""
    return tuple(joints[::2]), tuple(joints[1::2])
