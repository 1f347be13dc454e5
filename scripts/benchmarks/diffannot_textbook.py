"""Algorithm 1 as the release would run it: the slow reference beside `search.search_wavefront`.

One sample at a time, one candidate at a time, every table entry looked up, cast and expanded in every step, the whole
mesh of every candidate posed to regress its joints from it.

For tests and `scripts/benchmark.py` only.

Shape letters: T steps, D entries of the state.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.diffannot.states import to_smpl
from noise2pose.bodies.files import BodyArrays


class TextbookDiffusion:
    """Noise prediction with fixed, large variances; both steps as improved DDPM's code takes them.

    Args:
        betas: (T,) float64.
    """

    def __init__(self, betas: Float[np.ndarray, " T"]) -> None:
        level = np.cumprod(1 - betas)
        previous = np.append(1.0, level[:-1])
        self.level, self.previous = level, previous
        self.recip, self.recipm1 = np.sqrt(1 / level), np.sqrt(1 / level - 1)
        self.coefficient_start = betas * np.sqrt(previous) / (1 - level)
        self.coefficient_state = (1 - previous) * np.sqrt(1 - betas) / (1 - level)
        self.variance = np.append((betas * (1 - previous) / (1 - level))[1], betas[1:])

    def ddpm_step(self, network: nn.Module, state: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """A draw of x_{t-1}."""
        mean, log_variance, _ = self._reverse(network, state, t)
        moves = (t != 0).float()[:, None]
        return mean + moves * torch.exp(0.5 * log_variance) * noise

    def ddim_step(self, network: nn.Module, state: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The step of DDIM with eta = 0, which multiplies its noise by nothing."""
        _, _, start = self._reverse(network, state, t)
        predicted = (_entry(self.recip, t, state) * state - start) / _entry(self.recipm1, t, state)
        level, previous = _entry(self.level, t, state), _entry(self.previous, t, state)
        sigma = 0.0 * torch.sqrt((1 - previous) / (1 - level)) * torch.sqrt(1 - level / previous)
        mean = start * torch.sqrt(previous) + torch.sqrt(1 - previous - sigma**2) * predicted
        moves = (t != 0).float()[:, None]
        return mean + moves * sigma * noise

    def _reverse(self, network: nn.Module, state: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = network(state, t)
        log_variance = _entry(np.log(self.variance), t, state)
        start = _entry(self.recip, t, state) * state - _entry(self.recipm1, t, state) * output
        mean = _entry(self.coefficient_start, t, state) * start + _entry(self.coefficient_state, t, state) * state
        return mean, log_variance, start


class TextbookBody:
    """SMPL through `smplx`, and joints regressed from its mesh.

    Args:
        arrays: of a body with pose directions.
    """

    def __init__(self, arrays: BodyArrays) -> None:
        assert arrays.pose_directions is not None
        self.parents = torch.tensor(arrays.parents)
        self.template, self.weights = arrays.template.float(), arrays.skinning_weights.float()
        self.shape_directions, self.regressor = arrays.shape_directions.float(), arrays.joint_regressor.float()
        self.pose_directions = arrays.pose_directions.float().flatten(0, 1).T.contiguous()
        self.skeleton = arrays.regressors["h36m_17"].float()

    def joints(self, state: Float[Tensor, "1 D"]) -> Float[Tensor, "1 17 3"]:
        """Joints of a state's mesh, metres."""
        from smplx import lbs as smplx_lbs

        blend: Any = smplx_lbs.lbs  # its annotations name a tensor type of its own
        smpl = to_smpl(state, project=False)
        pose = torch.cat((smpl["global_orient"][:, None], smpl["body_pose"]), dim=1)
        vertices, _ = blend(
            smpl["betas"],
            pose,
            self.template,
            self.shape_directions,
            self.pose_directions,
            self.regressor,
            self.parents,
            self.weights,
            pose2rot=False,
        )
        return torch.matmul(self.skeleton, vertices)


class Chosen(NamedTuple):
    """The candidate that Algorithm 1 chose for one sample, its number, where it stopped, and all losses."""

    state: Tensor
    step: int
    stop: int
    losses: list[float]


def select_best_result(
    step: Callable[[Tensor, Tensor, int], Tensor],
    theta1: Float[Tensor, "1 D"],
    loss: Callable[[Tensor], float],
    s_max: int,
    patience: int,
) -> Chosen:
    """Algorithm 1 of the paper, line by line.

    Args:
        step: (state (1, D), t (1,), the step that the chain started from) to the state at t - 1.
        theta1: the first answer.
        loss: of a state.
        s_max, patience: of the paper.
    """
    last = best = math.inf
    chosen, chosen_step, counter = theta1, 0, 0
    losses: list[float] = []
    for i in range(s_max + 1):
        sampled = theta1
        for t in range(i - 1, -1, -1):
            sampled = step(sampled, torch.tensor([t]), i)
        losses.append(now := loss(sampled))
        counter = counter + 1 if now > last else 0
        if counter > patience:
            return Chosen(chosen, chosen_step, i, losses)
        if now < best:
            chosen, chosen_step, best = sampled, i, now
        last = now
    return Chosen(chosen, chosen_step, s_max + 1, losses)


def _entry(table: np.ndarray, t: Tensor, state: Tensor) -> Tensor:
    return torch.from_numpy(table)[t].float()[:, None].expand(state.shape)
