"""The graph networks of DiffPose: the denoiser g of section 4.5 and the pose net of the context encoder.

Shape letters: B batch, J joints, C state channels, W width, D context channels.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from methods.diffpose.graph_layers import ChebConv, GraphAttentionBlock, StepEmbedding, normalised_adjacency


class GraphDenoiser(nn.Module):
    """The diffusion model g(h_k, f_ST, k).

    Without context this is the released network: the 2-D pose is part of the state and the only condition. With context
    it is the paper's (section 4.5): the state is lifted to half the width, the other half is filled with the features
    of the context encoder.

    Args:
        state_channels: C of the state per joint, in and out.
        width: W of the blocks.
        num_blocks: of graph attention and convolution.
        num_heads: of the attention.
        dropout: of the attention sub-layers.
        parents: parent index of each joint, -1 for the root.
        context_channels: D of the context features, or 0 for none.
    """

    def __init__(
        self,
        state_channels: int,
        width: int,
        num_blocks: int,
        num_heads: int,
        dropout: float,
        parents: tuple[int, ...],
        context_channels: int = 0,
    ) -> None:
        super().__init__()
        adjacency = normalised_adjacency(parents)
        self.step_embedding = StepEmbedding(width)
        self.input = ChebConv(state_channels, width // 2 if context_channels else width, adjacency)
        self.context = nn.Linear(context_channels, width - width // 2) if context_channels else None
        self.blocks = nn.ModuleList(
            GraphAttentionBlock(width, num_heads, dropout, adjacency, time_channels=4 * width)
            for _ in range(num_blocks)
        )
        self.output = ChebConv(width, state_channels, adjacency)
        if context_channels:
            # Starts as no correction at all of the pose that the context belongs to, however many are stacked.
            nn.init.zeros_(self.output.linear.weight)

    def forward(
        self,
        state: Float[Tensor, "B J C"],
        steps: Float[Tensor, " B"],
        context: Float[Tensor, "B J D"] | None = None,
    ) -> Float[Tensor, "B J C"]:
        """Denoises once.

        Args:
            state: (B, J, C) noisy state h_k.
            steps: (B,) diffusion step k.
            context: (B, J, D) features f_ST; required if and only if the network was built with them.

        Returns:
            (B, J, C) what the variant predicts: scaled noise (release) or a correction of the pose (paper).
        """
        embedding = self.step_embedding(steps.to(state.dtype))
        hidden = self.input(state)
        if self.context is not None:
            hidden = torch.cat((hidden, self.context(context)), dim=-1)
        for block in self.blocks:
            hidden = block(hidden, embedding)
        return self.output(hidden)


class GraphLifter(nn.Module):
    """The same network without diffusion step: 2-D joints in, 3-D joints and features out (frame context encoder).

    Args:
        width, num_blocks, num_heads, dropout, parents: as in `GraphDenoiser`.
    """

    def __init__(self, width: int, num_blocks: int, num_heads: int, dropout: float, parents: tuple[int, ...]) -> None:
        super().__init__()
        adjacency = normalised_adjacency(parents)
        self.input = ChebConv(2, width, adjacency)
        self.blocks = nn.ModuleList(
            GraphAttentionBlock(width, num_heads, dropout, adjacency) for _ in range(num_blocks)
        )
        self.output = ChebConv(width, 3, adjacency)

    def features(self, screen: Float[Tensor, "B J 2"]) -> Float[Tensor, "B J W"]:
        """Features f_ST of the last block, from 2-D joints in screen coordinates."""
        hidden = self.input(screen)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden

    def forward(self, screen: Float[Tensor, "B J 2"]) -> Float[Tensor, "B J 3"]:
        """3-D joints in metres; only their positions relative to the root are trained."""
        return self.output(self.features(screen))
