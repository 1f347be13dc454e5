"""One chain for every use of the prior: from noise to a pose that the prior likes and that agrees with evidence.

At each noise level the denoiser proposes a pose, and the evidence moves the proposal to where its own error and the
distance from the proposal balance (a proximal step, DiffPIR, Zhu et al., CVPRW 2023). Without evidence the chain is
DDIM (Song et al., ICLR 2021) in the notation of EDM: x_sigma is the pose plus noise of standard deviation sigma.

Shape letters: B batch, J joints, D numbers of a state, S levels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from methods.pose_prior.denoiser import STATE_SIZE, Denoiser, LinearDenoiser, to_pose, to_state
from noise2pose import keyed_random

LARGEST, LEAST = 2.0, 0.01  # noise levels of the training: pure noise, and half a degree
_KNOWN = 1e-3  # radians: a known rotation is known so exactly
_STREAM = 400  # of keyed_random: this and one for each level

Noise = Callable[[int], Tensor]  # (number of a level) -> standard normal (B, D)


class Evidence(ABC):
    """What is known of a pose."""

    @abstractmethod
    def nearest(self, proposal: Float[Tensor, "B D"], spread: Float[Tensor, "#B D"]) -> Float[Tensor, "B D"]:
        """The most probable states, given the evidence and that the proposal is off by `spread` (a deviation)."""


@dataclass(frozen=True)
class KnownRotations(Evidence):
    """Some joints are known, the others are not: completion of unseen limbs.

    Attributes:
        pose: rotations; those of unknown joints are not read.
        known: joints that are known.
    """

    pose: Float[Tensor, "B J 3 3"]
    known: Bool[Tensor, "B J"]

    def nearest(self, proposal: Float[Tensor, "B D"], spread: Float[Tensor, "#B D"]) -> Float[Tensor, "B D"]:
        trust = self.known.repeat_interleave(6, dim=-1) * (spread / _KNOWN).square()
        given = torch.where(trust > 0, to_state(self.pose), proposal)
        return (proposal + trust * given) / (1.0 + trust)


def levels(number: int, largest: float = LARGEST, least: float = LEAST) -> list[float]:
    """Noise levels from the largest to the least, evenly spaced in their logarithms."""
    return torch.logspace(0.0, 1.0, number, base=least / largest, dtype=torch.float64).mul(largest).tolist()


def chain(
    denoiser: LinearDenoiser,
    state: Float[Tensor, "B D"],
    sigmas: Sequence[float],
    evidence: Evidence | None = None,
    noise: Noise | None = None,
) -> Float[Tensor, "B D"]:
    """The estimate at the last level.

    Args:
        denoiser: of the prior.
        state: with noise of the first level.
        sigmas: the levels.
        evidence: None for the prior alone.
        noise: fresh noise for each level, which makes draws of the distribution; None keeps the noise that is there,
            so that equal inputs give equal answers.
    """
    for number, sigma in enumerate(sigmas):
        level = state.new_full((len(state),), sigma)
        clean = denoiser(state, level)
        if evidence is not None:
            clean = evidence.nearest(clean, denoiser.error(level[:1]))
        if number + 1 == len(sigmas):
            return clean
        residual = noise(number) if noise is not None else (state - clean) / sigma
        state = clean + sigmas[number + 1] * residual
    return state


def keyed_noise(keys: Int[Tensor, " B"], draw: int = 0) -> Noise:
    """Noise that depends on the sample, the number of the draw and the level only; -1 is the start of a chain."""
    return lambda number: keyed_random.normal(keys, (STATE_SIZE,), stream=_STREAM + 1 + number, seed=draw)


def sample(denoiser: Denoiser, keys: Int[Tensor, " B"], num_levels: int = 20) -> Float[Tensor, "B J 3 3"]:
    """Draws poses from the prior, one for each key."""
    return to_pose(_draw(denoiser, keys, None, 0, num_levels))


def complete(
    denoiser: Denoiser,
    pose: Float[Tensor, "B J 3 3"],
    known: Bool[Tensor, "B J"],
    keys: Int[Tensor, " B"],
    num_draws: int = 8,
    num_levels: int = 20,
) -> Float[Tensor, "N B J 3 3"]:
    """Poses with the known joints of `pose` and likely rotations of the others.

    Args:
        denoiser: of the prior.
        pose: rotations; those of unknown joints are not read.
        known: joints that are known.
        keys: of the samples, see `keyed_random.keys_of`.
        num_draws: N.
        num_levels: denoiser calls of a draw.
    """
    evidence = KnownRotations(pose, known)
    draws = [to_pose(_draw(denoiser, keys, evidence, draw, num_levels)) for draw in range(num_draws)]
    return torch.where(known[..., None, None], pose, torch.stack(draws))


def denoise(denoiser: Denoiser, pose: Float[Tensor, "B J 3 3"], sigma: float) -> Float[Tensor, "B J 3 3"]:
    """The mean pose given one whose joints are off by about `sigma` radians about each axis; one call."""
    return to_pose(denoiser(to_state(pose), pose.new_full((len(pose),), sigma)))


def _draw(
    denoiser: Denoiser, keys: Int[Tensor, " B"], evidence: Evidence | None, draw: int, num_levels: int
) -> Float[Tensor, "B D"]:
    noise = keyed_noise(keys, draw)
    state = denoiser.mean + LARGEST * noise(-1)
    return chain(denoiser, state, levels(num_levels), evidence, noise)
