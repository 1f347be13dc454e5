"""The networks that predict the noise in a body state: the released MLP, and a residual MLP that is the default.

Shape letters: B batch, D entries of the state, C entries of the condition, W width, E entries of the output, T steps.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from methods.networks.modulation import ModulatedBlock


def sinusoidal_embedding(time: Shaped[Tensor, " B"], size: int) -> Float[Tensor, "B W"]:
    """Cosines, then sines, of the time at frequencies from 1 down to almost 1/10000; an odd size ends with a zero.

    Args:
        time: (B,) diffusion time, on the scale of 1000 steps.
        size: W.
    """
    half = size // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=time.device) * (-math.log(10_000) / half))
    angles = time.float()[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin(), angles.new_zeros(len(time), size % 2)), dim=-1)


class ReleasedDenoiser(nn.Module):
    """The released MLP, with its names: three linear layers on the state plus an embedding of the time.

    Args:
        size: D.
        width: of the two hidden layers.
        output_size: E, None for D.
        output_relu: end with a ReLU, as released. Such a network cannot predict negative noise, half of its target.
        num_steps: T of the whole chain; times are scaled to 1000 steps.
        time_width: of the hidden layer of the time embedding, None for D.
    """

    def __init__(
        self,
        size: int,
        width: int,
        output_size: int | None = None,
        output_relu: bool = True,
        num_steps: int = 1000,
        time_width: int | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.time_scale = 1000 / num_steps
        last = [nn.Linear(width, output_size or size), *([nn.ReLU()] if output_relu else [])]
        self.module = nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), *last)
        self.time_embed = nn.Sequential(
            nn.Linear(size, time_width or size), nn.SiLU(), nn.Linear(time_width or size, size)
        )

    def forward(
        self, x: Float[Tensor, "B D"], t: Shaped[Tensor, "#B"], condition: Float[Tensor, "B C"] | None = None
    ) -> Float[Tensor, "B E"]:
        """Predicts the noise in a state.

        Args:
            x: (B, D) state; computed with in float32.
            t: (B,) diffusion time, or (1,) where it is the same for all.
            condition: must be None; both networks have the same signature.

        Raises:
            ValueError: if there is a condition.
        """
        if condition is not None:
            raise ValueError("the released denoiser takes no condition")
        embedding = self.time_embed(sinusoidal_embedding(t * self.time_scale, self.size))
        return self.module(x.float() + embedding)


class ResidualDenoiser(nn.Module):
    """A residual MLP that works on normalised states and may take a condition.

    The chain runs on states in their own units, whose entries differ in spread: a spine bends less than an elbow. With
    the mean m and the variance v of each entry over the training data (`set_statistics`), x_t has the mean
    sqrt(abar) m and the variance abar v + 1 - abar. The network sees x_t with that mean and spread removed, and its
    output is a correction of the best linear prediction from these two numbers, the Wiener filter

        noise = sqrt(1 - abar) (x_t - sqrt(abar) m) / (abar v + 1 - abar),

    which is what it predicts before it is trained, because its last layer starts at zero.

    A condition enters by a linear map without bias, so zeros are equal to no condition: rows without a condition are
    set to zero, and a condition should be centred on zero.

    Args:
        alphas_cumprod: (T,) abar of the whole chain.
        size: D.
        width: W.
        num_blocks: residual blocks.
        condition_size: C, or 0 for none.
        learned_range: give a second half of the output, for the variance (`GaussianDiffusion`, `learned_range`).
    """

    mean: Tensor
    std: Tensor
    alphas_cumprod: Tensor

    def __init__(
        self,
        alphas_cumprod: Float[Tensor, " T"],
        size: int,
        width: int = 512,
        num_blocks: int = 3,
        condition_size: int = 0,
        learned_range: bool = False,
    ) -> None:
        super().__init__()
        self.width = width
        self.time_scale = 1000 / len(alphas_cumprod)
        self.register_buffer("alphas_cumprod", alphas_cumprod.float(), persistent=False)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.time_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.input = nn.Linear(size, width)
        self.condition = nn.Linear(condition_size, width, bias=False) if condition_size else None
        self.blocks = nn.ModuleList(ModulatedBlock(width) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, 2 * size if learned_range else size)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def set_statistics(self, mean: Float[Tensor, " D"], std: Float[Tensor, " D"]) -> None:
        """Sets the normalisation of states: mean and standard deviation of each entry over the training data.

        A standard deviation may be 0.
        """
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(
        self, x: Float[Tensor, "B D"], t: Shaped[Tensor, "#B"], condition: Float[Tensor, "B C"] | None = None
    ) -> Float[Tensor, "B E"]:
        """Predicts the noise in a state.

        Args:
            x: (B, D) state in its own units.
            t: (B,) diffusion time, whole numbers of any type, or (1,) where it is the same for all.
            condition: (B, C), with rows of zeros for samples without one; None for no condition at all.

        Returns:
            (B, D) noise of unit variance; with a learned range (B, 2 D), the second half for the variance.

        Raises:
            ValueError: if there is a condition and the network takes none.
        """
        if condition is not None and self.condition is None:
            raise ValueError("this denoiser was built without a condition")
        level = self.alphas_cumprod[t.long()][:, None]
        variance = level * self.std.square() + (1 - level)
        centred = x - level.sqrt() * self.mean
        hidden = self.input(centred * variance.rsqrt())
        if condition is not None and self.condition is not None:
            hidden = hidden + self.condition(condition)
        embedding = self.time_embed(sinusoidal_embedding(t * self.time_scale, self.width).to(x.dtype))
        for block in self.blocks:
            hidden = block(hidden, embedding)
        output = self.output(self.norm(hidden))
        filtered = (1 - level).sqrt() * centred / variance
        if output.shape[-1] == x.shape[-1]:
            return filtered + output
        correction, choice = output.chunk(2, dim=-1)
        return torch.cat((filtered + correction, choice), dim=-1)
