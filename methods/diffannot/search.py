"""Reverse chains from a first answer, and the search for how many of their steps are best for a sample.

Candidate i of a sample is its first answer Theta1 taken as x_i and denoised i times, t = i - 1, ..., 0; candidate 0 is
Theta1 itself. Algorithm 1 of the paper tries the candidates in order until their loss has risen more than `patience`
times in a row, and chooses the first one with the lowest loss. The caller provides the loss; if it uses the ground
truth, the result is an oracle.

The chain from i and the chain from i - 1 visit the same times in different states, so trying i candidates takes
i (i + 1) / 2 denoiser calls in any order. `search_wavefront` takes many starts of many samples as rows and advances
them together, one call a time step, with the result of trying them one by one.

Shape letters: B samples, R rows (several chains of one sample may be rows of one batch), D entries of the state,
C entries of the condition, I candidates.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.diffannot.diffusion import GaussianDiffusion, Step
from noise2pose import keyed_random

# (state (R, D), t, sample of each row (R,), fresh noise (R, D) or None where there is none) to the state at t - 1.
ReverseStep = Callable[[Tensor, int, Tensor, Tensor | None], Step]
# (sample of each row (R,), the step that its chain started from (R,), t) to standard normal noise (R, D).
Noise = Callable[[Tensor, Tensor, int], Tensor]
# (state (R, D), t of each row (R,), sample of each row (R,)) to the estimate of x_0, (R, D).
Estimate = Callable[[Tensor, Tensor, Tensor], Tensor]
# (state (R, D), sample of each row (R,)) to the loss (R,).
Score = Callable[[Tensor, Tensor], Tensor]

_MAX_ROWS = 65_536
_RELEASE_LAST_MM, _RELEASE_BEST_MM = 1000.0, 999.0  # what the release's script starts from


class Found(NamedTuple):
    """The result of a search.

    Attributes:
        state: (B, D) the best candidate.
        step: (B,) int64, its number.
        stop: (B,) int64, the candidate that ended the search; the number of candidates if none did.
        losses: (B, I) of the candidates up to `stop`, NaN after it.
    """

    state: Tensor
    step: Tensor
    stop: Tensor
    losses: Tensor


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


def keyed_noise(keys: Int[Tensor, " B"], size: int) -> Noise:
    """Noise that depends on the sample, the start of its chain and the time only.

    Args:
        keys: of the samples, see `keyed_random.keys_of`.
        size: D.
    """

    def noise(sample: Tensor, start: Tensor, t: int) -> Tensor:
        return keyed_random.normal(keys[sample] + (start << 32), (size,), stream=t)

    return noise


@torch.no_grad()
def denoise_from(
    step: ReverseStep, theta1: Float[Tensor, "B D"], start: int, noise: Noise | None = None
) -> Float[Tensor, "B D"]:
    """Candidate `start` of each sample: the first answer, denoised that many times.

    Args:
        step: reverse step.
        theta1: the first answers.
        start: i.
        noise: of DDPM; None for a deterministic step.
    """
    sample = torch.arange(len(theta1), device=theta1.device)
    starts, state = torch.full_like(sample, start), theta1
    for t in range(start - 1, -1, -1):
        state = step(state, t, sample, noise(sample, starts, t) if noise is not None and t else None).state
    return state


def scan(
    losses: Float[Tensor, "B I"], patience: int, last: float = math.inf, limit: float = math.inf
) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
    """Algorithm 1's choice and stop, on losses that are already known.

    A loss above the one before it is a rise; anything else, also a tie, sets the count of rises to zero. NaN counts as
    an infinite loss and is always a rise.

    Args:
        losses: of the candidates in order.
        patience: K; the candidate that makes more than K rises in a row ends the search.
        last: what the first loss is compared with.
        limit: a loss must be below it to be chosen.

    Returns:
        (B,) the first candidate with the lowest loss, 0 if all are infinite, -1 if none is below a finite limit; and
        (B,) the candidate that ended the search, I if none did.
    """
    number = torch.arange(losses.shape[1], device=losses.device)
    ranked = losses.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
    before = torch.cat((torch.full_like(ranked[:, :1], last), ranked[:, :-1]), dim=1)
    rises = (ranked > before) | losses.isnan()
    last_quiet = torch.where(rises, -1, number).cummax(dim=1).values
    ended = number - last_quiet > patience
    stop = torch.where(ended.any(dim=1), ended.int().argmax(dim=1), len(number))
    raced = torch.where(number < stop[:, None], ranked, math.inf)
    best = raced.argmin(dim=1)  # the first of equals
    return (best if math.isinf(limit) else torch.where(raced.amin(dim=1) < limit, best, -1)), stop


@torch.no_grad()
def search_wavefront(
    step: ReverseStep,
    theta1: Float[Tensor, "B D"],
    score: Score,
    s_max: int,
    patience: int,
    noise: Noise | None = None,
    chunk: int = 32,
    max_rows: int = _MAX_ROWS,
) -> Found:
    """Algorithm 1 for all samples at once.

    Args:
        step: reverse step.
        theta1: the first answers.
        score: loss of a state.
        s_max: number of the last candidate.
        patience: K.
        noise: of DDPM; None for a deterministic step.
        chunk: candidates tried before the samples that have stopped are left out.
        max_rows: of one call of `step` and `score`; more samples are searched in turn.
    """

    def candidates(tried: range, sample: Tensor) -> tuple[Tensor, Tensor]:
        # The furthest start comes first, so that the rows that move are always the first ones.
        starts = torch.arange(tried.stop - 1, tried.start - 1, -1, device=theta1.device)
        row_sample, row_start = sample.repeat(len(starts)), starts.repeat_interleave(len(sample))
        state = theta1[row_sample]
        for t in range(tried.stop - 2, -1, -1):
            rows = min(tried.stop - 1 - t, len(starts)) * len(sample)
            samples = row_sample[:rows]
            fresh = noise(samples, row_start[:rows], t) if noise is not None and t else None
            state[:rows] = step(state[:rows], t, samples, fresh).state
        shape = (len(starts), len(sample))
        return state.unflatten(0, shape).flip(0), score(state, row_sample).unflatten(0, shape).flip(0)

    return _race(theta1, candidates, [range(1), *_chunks(1, s_max + 1, chunk)], patience, max_rows)


@torch.no_grad()
def search_trajectory(
    step: ReverseStep,
    theta1: Float[Tensor, "B D"],
    score: Score,
    s_max: int,
    patience: int,
    noise: Noise | None = None,
    max_rows: int = _MAX_ROWS,
) -> Found:
    """A cheaper search with `s_max` calls a sample: the estimates of x_0 along one chain from `s_max`.

    It is not the paper's. Candidate 0 is the first answer, candidate i the estimate of the i-th call, t = s_max - i;
    the last is what `denoise_from` the same start gives. Arguments as in `search_wavefront`.
    """

    def candidates(tried: range, sample: Tensor) -> tuple[Tensor, Tensor]:
        state = theta1[sample]
        starts, states = torch.full_like(sample, s_max), [state]
        for t in range(s_max - 1, -1, -1):
            fresh = noise(sample, starts, t) if noise is not None and t else None
            state, estimate = step(state, t, sample, fresh)
            states.append(estimate)
        losses = score(torch.cat(states), sample.repeat(len(tried)))
        return torch.stack(states), losses.unflatten(0, (len(tried), len(sample)))

    return _race(theta1, candidates, [range(s_max + 1)], patience, max_rows)


@torch.no_grad()
def search_single_step(
    estimate: Estimate,
    theta1: Float[Tensor, "B D"],
    score: Score,
    num_steps: int = 1000,
    patience: int = 9,
    chunk: int = 64,
    max_rows: int = _MAX_ROWS,
) -> Found:
    """The search of the release's script: candidate j is the estimate of x_0 from Theta1 taken as x_j, in one call.

    The first answer is not a candidate, so the result can be worse. Where no loss is below 999 mm the script has no
    result; here the result is the first answer, with step -1.

    Args:
        estimate: x_0 from a state.
        theta1: the first answers.
        score: loss of a state, millimetres.
        num_steps: j runs from 0 to num_steps - 1.
        patience: 9, because the script stops at the tenth rise in a row.
        chunk, max_rows: as in `search_wavefront`.
    """

    def candidates(tried: range, sample: Tensor) -> tuple[Tensor, Tensor]:
        t = torch.arange(tried.start, tried.stop, device=theta1.device).repeat_interleave(len(sample))
        samples = sample.repeat(len(tried))
        states = estimate(theta1[samples], t, samples)
        shape = (len(tried), len(sample))
        return states.unflatten(0, shape), score(states, samples).unflatten(0, shape)

    chunks = _chunks(0, num_steps, chunk)
    return _race(theta1, candidates, chunks, patience, max_rows, _RELEASE_LAST_MM, _RELEASE_BEST_MM)


def _chunks(first: int, stop: int, size: int) -> list[range]:
    return [range(start, min(start + size, stop)) for start in range(first, stop, size)]


def _race(
    theta1: Tensor,
    candidates: Callable[[range, Tensor], tuple[Tensor, Tensor]],
    chunks: list[range],
    patience: int,
    max_rows: int,
    last: float = math.inf,
    limit: float = math.inf,
) -> Found:
    """Tries candidates chunk by chunk with the samples that have not stopped.

    Args:
        theta1: (B, D).
        candidates: (numbers of I candidates, b samples) to their states (I, b, D) and losses (I, b).
        chunks: of the candidates, in order and without gaps.
        patience, last, limit: of `scan`.
        max_rows: bounds I b.
    """

    def search(group: Tensor) -> Found:
        state, losses = theta1[group], theta1.new_full((len(group), chunks[-1].stop), math.nan)
        step, stop = torch.zeros_like(group), torch.zeros_like(group)
        going = torch.arange(len(group), device=group.device)
        for tried in chunks:
            states, scored = candidates(tried, group[going])
            losses = losses.to(scored.dtype)
            losses[going, tried.start : tried.stop] = scored.T
            step[going], stop[going] = scan(losses[going, : tried.stop], patience, last, limit)
            newer = (step[going] >= tried.start).nonzero()[:, 0]
            state[going[newer]] = states[step[going[newer]] - tried.start, newer].to(state.dtype)
            going = going[stop[going] == tried.stop]
            if len(going) == 0:
                break
        after = torch.arange(losses.shape[1], device=losses.device) > stop[:, None]
        return Found(state, step, stop, losses.masked_fill(after, math.nan))

    samples = torch.arange(len(theta1), device=theta1.device)
    found = [search(group) for group in samples.split(max(1, max_rows // max(map(len, chunks))))]
    return Found(*map(torch.cat, zip(*found, strict=True)))
