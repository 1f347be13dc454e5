"""The denoiser of body poses: a residual MLP in the preconditioning of EDM (Karras et al., NeurIPS 2022).

A state is the rotation of each joint below the root as six numbers (Zhou et al., CVPR 2019), so every state near the
data is one pose and every pose one state, without the jumps of axis-angle. A noisy state is the state plus normal noise
of standard deviation sigma in each number; for small sigma that turns each joint by about sigma radians about each
axis.

Shape letters: B batch, J = 23 joints, D = 6 J numbers of a state, W width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.networks.modulation import ModulatedBlock
from noise2pose import rotations

NUM_JOINTS = 23  # of SMPL without the root
STATE_SIZE = 6 * NUM_JOINTS
_LEAST_SPREAD = 0.02  # of a number over the training poses: the hands of motion capture never move
_FIRST_SPREAD = 0.2  # until `set_statistics`
_FREQUENCIES, _FREQUENCY_RANGE = 16, (-2.0, 1.0)  # of the embedding of ln sigma, and logarithms of least and largest


def to_state(pose: Float[Tensor, "*batch J 3 3"]) -> Float[Tensor, "*batch D"]:
    """The six numbers of each rotation."""
    return rotations.rotmat_to_interleaved_6d(pose).flatten(-2)


def to_pose(state: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch J 3 3"]:
    """Rotations of a state, by Gram-Schmidt; inverse of `to_state` on its values."""
    return rotations.interleaved_6d_to_rotmat(state.unflatten(-1, (NUM_JOINTS, 6)))


class LinearDenoiser(nn.Module):
    """The best estimate of each number of a state from its noisy value alone: the Wiener filter.

    It knows mean and spread of the poses, and nothing of what numbers say about each other: the null control.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", to_state(torch.eye(3).expand(NUM_JOINTS, 3, 3)))
        self.register_buffer("std", torch.full((STATE_SIZE,), _FIRST_SPREAD))

    def set_statistics(self, mean: Float[Tensor, " D"], std: Float[Tensor, " D"]) -> None:
        """Sets mean and standard deviation of each number over the training poses; the latter may be 0."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(_LEAST_SPREAD))

    def error(self, sigma: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch D"]:
        """Standard deviation of each number around its linear estimate: 0 without noise, that of the data at most."""
        sigma = sigma[..., None]
        return self.std * sigma / (self.std.square() + sigma.square()).sqrt()

    def forward(self, state: Float[Tensor, "B D"], sigma: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """The estimated states without noise.

        Args:
            state: with noise.
            sigma: its standard deviation, more than 0.
        """
        kept = self.std.square() / (self.std.square() + sigma[:, None].square())
        return self.mean + kept * (state - self.mean)


class Denoiser(LinearDenoiser):
    """A network that corrects the linear estimate.

    With the mean m and the variance v of each number over the training poses, the estimate is

        m + v / (v + sigma^2) (x - m) + sqrt(v sigma^2 / (v + sigma^2)) F((x - m) / sqrt(v + sigma^2), ln sigma).

    The factor of F is the error of the linear estimate, so F has a target of unit variance at every noise level. Its
    last layer starts at zero.

    Args:
        width: W.
        num_blocks: residual blocks of F.
    """

    def __init__(self, width: int = 512, num_blocks: int = 4) -> None:
        super().__init__()
        self.level = nn.Sequential(nn.Linear(2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.input = nn.Linear(STATE_SIZE, width)
        self.blocks = nn.ModuleList(ModulatedBlock(width) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, STATE_SIZE)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def linear(self) -> LinearDenoiser:
        """The linear estimate alone, with the same statistics."""
        control = LinearDenoiser()
        control.mean, control.std = self.mean, self.std
        return control

    def forward(self, state: Float[Tensor, "B D"], sigma: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        scaled = (state - self.mean) * (self.std.square() + sigma[:, None].square()).rsqrt()
        frequencies = torch.exp(torch.linspace(*_FREQUENCY_RANGE, _FREQUENCIES, device=sigma.device))
        angles = sigma.log()[:, None] * frequencies
        level = self.level(torch.cat((angles.cos(), angles.sin()), dim=-1))
        hidden = self.input(scaled)
        for block in self.blocks:
            hidden = block(hidden, level)
        return super().forward(state, sigma) + self.error(sigma) * self.output(self.norm(hidden))
