"""Algorithm 1 as a wavefront against the release's way; and the rows of `bodies`, which it spends its time on.

The release's way is written here too, for tests and `scripts/benchmark.py` only: one sample at a time, one candidate at
a time, every table entry looked up, cast and expanded in every step, the whole mesh of every candidate posed to regress
its joints from it.

Shape letters: B samples, R rows, D entries of the state, T steps.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.diffannot import search
from methods.diffannot.denoiser import ReleasedDenoiser
from methods.diffannot.diffusion import GaussianDiffusion, schedule_betas
from methods.diffannot.search import keyed_noise, reverse_step
from methods.diffannot.states import STATE_SIZE, to_smpl, to_state
from noise2pose.bodies import BodyModel
from noise2pose.bodies.files import BodyArrays
from noise2pose.metrics import functional
from scripts.benchmarks import bodies
from scripts.benchmarks.measure import Comparison, Prepared, Side

_JOINTS = [3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]  # of h36m_17: the 14 that numbers count
_SAME = 1e-5  # relative: float32 results of two orders of summation
_POSE_DIRECTION = 2e-3  # metres per feature
_MILLIMETRES = 1000.0


def comparisons(device: torch.device, quick: bool) -> list[Comparison]:
    """The rows of the search, with deterministic and with random steps, and those of the bodies."""
    samples, their_samples, s_max = (3, 1, 6) if quick else (16, 4, 57)
    setting = (
        f"{samples} samples, {s_max} steps, no early stop, MLP 226/226/226, PA-MPJPE of 14 joints of a body of SMPL's "
        "size, alignment and stop rule included"
    )
    drawn = "; ours draws noise by sample, start and time, theirs finds the same in a table"
    rows = [
        Comparison(
            name=f"Algorithm 1, {name}",
            setting=setting + noise,
            against="the release's way: one sample, one candidate, one step at a time, whole meshes, NumPy Procrustes",
            at_least=at_least,
            unit="sample",
            prepare=lambda name=name: _search(samples, their_samples, s_max, name == "DDIM", device),
        )
        for name, noise, at_least in (("DDIM", "", 60.0), ("DDPM", drawn, None))
    ]
    return rows + bodies.comparisons(device, quick)


def _search(samples: int, their_samples: int, s_max: int, deterministic: bool, device: torch.device) -> Prepared:
    """Both searches; the answers of the first `their_samples` are compared."""
    torch.manual_seed(0)
    network, arrays = ReleasedDenoiser(STATE_SIZE, STATE_SIZE).eval(), bodies.with_pose_directions(_POSE_DIRECTION)
    truth, theta1 = _truth_and_first_answers(samples)
    mesh = TextbookBody(arrays)
    target = torch.cat([_fourteen(mesh.joints(state)) for state in truth.split(1)])
    run_theirs = _their_search(network, mesh, theta1[:their_samples], target.numpy(), s_max, deterministic)
    expected = run_theirs()

    network, theta1, target = copy.deepcopy(network).to(device), theta1.to(device), target.to(device)
    body = BodyModel(**vars(arrays)).to(device)
    step = reverse_step(GaussianDiffusion(schedule_betas("linear")).to(device), network, deterministic)
    noise = None if deterministic else keyed_noise(torch.arange(samples, device=device), STATE_SIZE)

    def score(states: Tensor, sample: Tensor) -> Tensor:
        joints = body.joints(**to_smpl(states, project=False), regressor="h36m_17")
        return functional.pa_mpjpe(_fourteen(joints), target[sample])

    @torch.inference_mode()
    def run_ours() -> search.Found:
        return search.search_wavefront(step, theta1, score, s_max, patience=s_max + 1, noise=noise)

    found = run_ours()
    losses = torch.tensor([chosen.losses for chosen in expected], dtype=torch.float64)
    difference = float(((found.losses[:their_samples].double().cpu() - losses) / losses).abs().max())
    steps, stops = found.step[:their_samples].tolist(), found.stop[:their_samples].tolist()
    same = steps == [chosen.step for chosen in expected] and stops == [chosen.stop for chosen in expected]
    return Prepared(
        Side(run_ours, samples),
        Side(run_theirs, their_samples),
        {"loss_difference": difference, "samples_checked": their_samples},
        "" if same and difference < _SAME else "the two searches answer differently",
    )


def _their_search(
    network: ReleasedDenoiser,
    mesh: "TextbookBody",
    theta1: Float[Tensor, "B D"],
    target: Float[np.ndarray, "B 14 3"],
    s_max: int,
    deterministic: bool,
) -> Callable[[], list["Chosen"]]:
    diffusion = TextbookDiffusion(schedule_betas("linear").numpy())
    step = diffusion.ddim_step if deterministic else diffusion.ddpm_step
    sample = torch.arange(len(theta1))
    noise = keyed_noise(sample, STATE_SIZE)
    drawn = {
        (start, t): noise(sample, torch.full_like(sample, start), t) for start in range(s_max + 1) for t in range(start)
    }

    @torch.inference_mode()
    def search_one(b: int) -> Chosen:
        return select_best_result(
            lambda state, t, start: step(network, state, t, drawn[start, int(t)][b : b + 1]),
            theta1[b : b + 1],
            lambda state: bodies.textbook_pa_mpjpe(_fourteen(mesh.joints(state))[0].numpy(), target[b]),
            s_max,
            patience=s_max + 1,
        )

    return lambda: [search_one(b) for b in range(len(theta1))]


def _truth_and_first_answers(samples: int) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """Random bodies, and the same bodies with every joint rotated a little."""
    generator = torch.Generator().manual_seed(1)
    turns, errors = torch.randn(2, samples, 24, 3, generator=generator)
    truth = roma.rotvec_to_rotmat(0.3 * turns)
    answer = truth @ roma.rotvec_to_rotmat(0.16 * errors)
    betas = torch.randn(samples, 10, generator=generator)
    states = [
        to_state({"global_orient": pose[:, 0], "body_pose": pose[:, 1:], "betas": betas}) for pose in (truth, answer)
    ]
    return states[0], states[1]


def _fourteen(joints: Float[Tensor, "R 17 3"]) -> Float[Tensor, "R 14 3"]:
    """The joints that count, relative to the root, millimetres."""
    return _MILLIMETRES * (joints - joints[:, :1])[:, _JOINTS]


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
