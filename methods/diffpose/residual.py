"""Residual networks without a graph: all joints of a pose side by side in one vector (Martinez et al., ICCV 2017).

They train 10 to 25 times as fast as the graph networks on a CPU, which pays where motion is seen by ever new cameras.

Shape letters: B batch, J joints, C channels of the input or the state, D of the context, W width per joint, H = J W.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.diffpose.denoisers import StepEmbedding


class ResidualBlock(nn.Module):
    """x + A(gelu(B(norm(x)) + step)): pre-norm, two layers of the same size.

    Args:
        channels: H of input and output.
        dropout: between the layers.
        step_channels: of the step embedding, or 0 for a block without one.
    """

    def __init__(self, channels: int, dropout: float, step_channels: int = 0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, channels)
        self.linear2 = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.step_projection = nn.Linear(step_channels, channels) if step_channels else None

    def forward(self, x: Float[Tensor, "B H"], step_embedding: Float[Tensor, "B E"] | None = None) -> Tensor:
        hidden = self.linear1(self.norm(x))
        if self.step_projection is not None and step_embedding is not None:
            hidden = hidden + self.step_projection(F.silu(step_embedding))
        return x + self.linear2(self.dropout(F.gelu(hidden)))


class ResidualLifter(nn.Module):
    """2-D joints in, 3-D joints and features out: a context encoder for single frames.

    Args:
        width: W; the hidden vector has J W channels.
        num_blocks: of two layers each.
        dropout: between the layers of a block.
        num_joints: J.
        in_channels: C of the input.
    """

    def __init__(self, width: int, num_blocks: int, dropout: float, num_joints: int, in_channels: int = 2) -> None:
        super().__init__()
        self.num_joints = num_joints
        channels = num_joints * width
        self.input = nn.Linear(num_joints * in_channels, channels)
        self.blocks = nn.ModuleList(ResidualBlock(channels, dropout) for _ in range(num_blocks))
        self.output_layer = nn.Linear(channels, num_joints * 3)

    def features(self, joints: Float[Tensor, "B J C"]) -> Float[Tensor, "B J W"]:
        """Features f_ST: the hidden vector after the last block, cut into one part per joint."""
        hidden = self.input(joints.flatten(1))
        for block in self.blocks:
            hidden = block(hidden)
        return hidden.unflatten(-1, (self.num_joints, -1))

    def output(self, features: Float[Tensor, "B J W"]) -> Float[Tensor, "B J 3"]:
        """3-D joints in metres from the features."""
        return self.output_layer(features.flatten(1)).unflatten(-1, (self.num_joints, 3))

    def forward(self, joints: Float[Tensor, "B J C"]) -> Float[Tensor, "B J 3"]:
        """3-D joints in metres; only their positions relative to the root are trained."""
        return self.output(self.features(joints))


class ResidualDenoiser(nn.Module):
    """The diffusion model g(h_k, f_ST, k) with the same input and output as `GraphDenoiser`.

    Args:
        state_channels: C of the state per joint, in and out.
        width: W; the hidden vector has J W channels.
        num_blocks: of two layers each.
        dropout: between the layers of a block.
        num_joints: J.
        context_channels: D of the context features, or 0 for none.
    """

    def __init__(
        self,
        state_channels: int,
        width: int,
        num_blocks: int,
        dropout: float,
        num_joints: int,
        context_channels: int = 0,
    ) -> None:
        super().__init__()
        channels = num_joints * width
        self.step_embedding = StepEmbedding(width)
        self.input = nn.Linear(num_joints * (state_channels + context_channels), channels)
        self.blocks = nn.ModuleList(ResidualBlock(channels, dropout, 4 * width) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(channels)
        self.output = nn.Linear(channels, num_joints * state_channels)
        if context_channels:
            # The initial output is no correction of the pose that the context belongs to, also in a stack.
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)

    def forward(
        self,
        state: Float[Tensor, "B J C"],
        steps: Float[Tensor, " B"],
        context: Float[Tensor, "B J D"] | None = None,
    ) -> Float[Tensor, "B J C"]:
        """Denoises once; arguments and result as of `GraphDenoiser`."""
        embedding = self.step_embedding(steps.to(state.dtype))
        joints = state if context is None else torch.cat((state, context), dim=-1)
        hidden = self.input(joints.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, embedding)
        return self.output(self.norm(hidden)).view(state.shape)
