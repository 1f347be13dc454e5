"""Residual networks without a graph: all joints of a pose side by side in one vector (Martinez et al., ICCV 2017).

They train 10 to 25 times as fast as the graph networks on a CPU, which pays where motion is seen by ever new cameras.
In clips each joint is convolved over the frames after each block.

Shape letters: B batch, F frames (clips only), J joints, C channels of the input or the state, D of the context, W width
per joint, H = J W.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.diffpose.denoisers import StepEmbedding
from methods.diffpose.temporal import TemporalConvolution


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
    """2-D joints in, 3-D joints and features out: a context encoder.

    Args:
        width: W; the hidden vector has J W channels.
        num_blocks: of two layers each.
        dropout: between the layers of a block.
        num_joints: J.
        in_channels: C of the input.
        num_frames: F of clips, 1 for single frames.
        causal: a frame of a clip sees only itself and those before it.
    """

    def __init__(
        self,
        width: int,
        num_blocks: int,
        dropout: float,
        num_joints: int,
        in_channels: int = 2,
        num_frames: int = 1,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.num_joints = num_joints
        channels = num_joints * width
        self.input = nn.Linear(num_joints * in_channels, channels)
        self.blocks = nn.ModuleList(ResidualBlock(channels, dropout) for _ in range(num_blocks))
        self.temporal = _temporal(num_blocks, width, num_frames, causal)
        self.output_layer = nn.Linear(channels, num_joints * 3)

    def features(self, joints: Float[Tensor, "B *F J C"]) -> Float[Tensor, "B *F J W"]:
        """Features f_ST: the hidden vector after the last block, cut into one part per joint."""
        hidden = self.input(joints.flatten(0, -3).flatten(1)).unflatten(-1, (self.num_joints, -1))
        for block, temporal in zip(self.blocks, self.temporal, strict=True):
            hidden = temporal(block(hidden.flatten(1)).view(hidden.shape))
        return hidden.view(*joints.shape[:-1], -1)

    def output(self, features: Float[Tensor, "B *F J W"]) -> Float[Tensor, "B *F J 3"]:
        """3-D joints in metres from the features."""
        return self.output_layer(features.flatten(-2)).unflatten(-1, (self.num_joints, 3))

    def forward(self, joints: Float[Tensor, "B *F J C"]) -> Float[Tensor, "B *F J 3"]:
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
        clip: F of clips whose frames tell each other something after each block; 1 for frames by themselves.
        causal: a frame of a clip sees only itself and those before it.
    """

    def __init__(
        self,
        state_channels: int,
        width: int,
        num_blocks: int,
        dropout: float,
        num_joints: int,
        context_channels: int = 0,
        clip: int = 1,
        causal: bool = False,
    ) -> None:
        super().__init__()
        channels = num_joints * width
        self.step_embedding = StepEmbedding(width)
        self.input = nn.Linear(num_joints * (state_channels + context_channels), channels)
        self.blocks = nn.ModuleList(ResidualBlock(channels, dropout, 4 * width) for _ in range(num_blocks))
        self.temporal = _temporal(num_blocks, width, clip, causal)
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
        joints = state if context is None else torch.cat((state, context), dim=-1)
        return self._after_input(self.input(joints.flatten(1)), state, steps)

    def condition(self, context: Float[Tensor, "B J D"]) -> Float[Tensor, "B H"]:
        """What the context adds in the first layer, which is the same in all calls for a pose."""
        weight = self.input.weight.unflatten(1, (context.shape[1], -1))[..., -context.shape[-1] :]
        return F.linear(context.flatten(1), weight.flatten(1), self.input.bias)

    def denoise(
        self, state: Float[Tensor, "B J C"], steps: Float[Tensor, " B"], condition: Float[Tensor, "B H"]
    ) -> Float[Tensor, "B J C"]:
        """As `forward`, with `condition` in place of the context, which has 16 times as many numbers as the state."""
        weight = self.input.weight.unflatten(1, (state.shape[1], -1))[..., : state.shape[-1]]
        return self._after_input(condition + F.linear(state.flatten(1), weight.flatten(1)), state, steps)

    def _after_input(
        self, hidden: Float[Tensor, "B H"], state: Float[Tensor, "B J C"], steps: Float[Tensor, " B"]
    ) -> Float[Tensor, "B J C"]:
        embedding = self.step_embedding(steps.to(state.dtype))
        hidden = hidden.unflatten(-1, (state.shape[1], -1))
        for block, temporal in zip(self.blocks, self.temporal, strict=True):
            hidden = temporal(block(hidden.flatten(1), embedding).view(hidden.shape))
        return self.output(self.norm(hidden.flatten(1))).view(state.shape)


def _temporal(num_blocks: int, width: int, num_frames: int, causal: bool) -> nn.ModuleList:
    """What follows each block: nothing for single frames."""
    if num_frames == 1:
        return nn.ModuleList(nn.Identity() for _ in range(num_blocks))
    return nn.ModuleList(TemporalConvolution(width, num_frames, causal) for _ in range(num_blocks))
