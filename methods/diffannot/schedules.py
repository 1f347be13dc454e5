"""Noise schedules, shorter chains and what of a state is clipped: the settings of a `GaussianDiffusion`, from words.

Shape letters: T steps, D entries of the state.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from methods.diffannot.states import NUM_ROTATION, STATE_SIZE

Schedule = Literal["linear", "cosine"]
Clip = Literal["none", "rotations", "all"]


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


def clip_mask(clip: Clip, size: int = STATE_SIZE, rotation_entries: int = NUM_ROTATION) -> Bool[Tensor, " D"] | None:
    """Which entries of an estimated x_0 are limited to [-1, 1].

    Args:
        clip: `none`; `rotations`, whose entries cannot be larger; `all`, as released, shape coefficients included.
        size: D.
        rotation_entries: how many entries, from the first, are of rotations.
    """
    if clip == "none":
        return None
    return torch.arange(size) < (size if clip == "all" else rotation_entries)


def space_timesteps(num_steps: int, sections: str) -> list[int]:
    """The time steps that a shorter chain keeps, ascending.

    Args:
        num_steps: T of the whole chain.
        sections: numbers of steps to keep in equal sections of the chain, separated by commas, such as `10,20,30`; or
            `ddimN` for N steps at one integer stride from 0 (DDIM).

    Raises:
        ValueError: if a section is shorter than what is to be kept of it, or no stride gives N.
    """
    if sections.startswith("ddim"):
        wanted = int(sections.removeprefix("ddim"))
        for stride in range(1, num_steps + 1):
            if len(range(0, num_steps, stride)) == wanted:
                return list(range(0, num_steps, stride))
        raise ValueError(f"no integer stride keeps {wanted} of {num_steps} steps")
    counts = [int(count) for count in sections.split(",")]
    kept: set[int] = set()
    first = 0
    for section, count in enumerate(counts):
        size = num_steps // len(counts) + (section < num_steps % len(counts))
        if not 1 <= count <= size:
            raise ValueError(f"section {section + 1} has {size} steps, {count} cannot be kept")
        position, stride = 0.0, (size - 1) / (count - 1) if count > 1 else 1.0
        for _ in range(count):  # added up, not multiplied: the published maps round these very sums
            kept.add(first + round(position))
            position += stride
        first += size
    return sorted(kept)
