"""The graph networks of DiffPose: the denoiser g of section 4.5 and the pose net of the context encoder.

The layers (Chebyshev convolution, graph attention, learnable adjacency) come first; they follow the released DiffPose
network, a modified GraFormer (Zhao et al., CVPR 2022, [52] in the paper), in every detail that matters to published
weights. `official.py` renames those weights.

Shape letters: B batch, J joints, C channels in, D channels out or of the context, E step embedding, H heads,
K Chebyshev terms, W width.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.diffpose.temporal import TemporalConvolution
from noise2pose.errors import InputError

NUM_CHEBYSHEV_TERMS = 3


def normalised_adjacency(parents: tuple[int, ...]) -> Float[Tensor, "J J"]:
    """Random-walk adjacency D^-1 (A + I) of a skeleton, with undirected bones.

    Args:
        parents: parent index of each joint, -1 for the root.

    Returns:
        (J, J), rows sum to one.
    """
    adjacency = torch.eye(len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            adjacency[joint, parent] = adjacency[parent, joint] = 1.0
    return adjacency / adjacency.sum(dim=1, keepdim=True)


class ChebConv(nn.Module):
    """Chebyshev graph convolution y = sum_k T_k x W_k + b (Defferrard et al., NeurIPS 2016).

    The terms I, L and 2 L^2 - I of the Laplacian L = I - D^-1 (A + I) are constants of the skeleton, so they are
    computed once and applied in one product.
    """

    mixing: Tensor

    def __init__(self, in_channels: int, out_channels: int, adjacency: Float[Tensor, "J J"]) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, NUM_CHEBYSHEV_TERMS * out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_normal_(self.linear.weight)
        identity = torch.eye(len(adjacency), dtype=adjacency.dtype)
        laplacian = identity - adjacency
        terms = torch.stack((identity, laplacian, 2.0 * laplacian @ laplacian - identity), dim=-1)
        # Row j, column (i, k): weight of joint i's k-th term in the output of joint j.
        self.register_buffer("mixing", terms.flatten(1), persistent=False)

    def forward(self, x: Float[Tensor, "B J C"]) -> Float[Tensor, "B J D"]:
        batch, joints, _ = x.shape
        terms = self.linear(x).view(batch, joints * NUM_CHEBYSHEV_TERMS, -1)
        return self.mixing @ terms + self.bias


class UnbiasedLayerNorm(nn.Module):
    """(x - mean) / (std + eps) with the unbiased standard deviation and eps outside the root, unlike `nn.LayerNorm`."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        std, mean = torch.std_mean(x, dim=-1, keepdim=True)
        return self.weight * ((x - mean) / (std + self.eps)) + self.bias


class SelfAttention(nn.Module):
    """Multi-head self-attention over the joints."""

    def __init__(self, channels: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        if channels % num_heads:
            raise InputError(f"width {channels} is not a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "B J C"]) -> Float[Tensor, "B J C"]:
        q_k_v = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = q_k_v.unbind(0)  # each (B, H, J, C / H)
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.output(attended.transpose(1, 2).flatten(2))


class GraphFeedForward(nn.Module):
    """Two-layer feed-forward net that mixes the joints through a learned adjacency before each layer."""

    def __init__(self, channels: int, num_joints: int) -> None:
        super().__init__()
        self.adjacency = nn.Parameter(torch.eye(num_joints))
        self.expand = nn.Linear(channels, 2 * channels)
        self.contract = nn.Linear(2 * channels, channels)

    def forward(self, x: Float[Tensor, "B J C"]) -> Float[Tensor, "B J C"]:
        degree = self.adjacency.sum(dim=0) + 1e-5
        # Sums can become negative in training; the release takes their root and gets NaN.
        scale = degree.clamp_min(1e-5).rsqrt()
        mixing = scale[:, None] * self.adjacency * scale
        hidden = F.relu(self.expand(mixing @ x))
        return self.contract(mixing @ hidden)


class GraphAttentionBlock(nn.Module):
    """Pre-norm self-attention and graph feed-forward, then a residual pair of Chebyshev convolutions.

    Args:
        channels: width C.
        num_heads: of the attention.
        dropout: after each attention sub-layer; the convolutions and the attention weights use 0.1 as the release does.
        adjacency: (J, J) from `normalised_adjacency`.
        time_channels: width of the step embedding, or 0 for a block without one.
    """

    def __init__(
        self, channels: int, num_heads: int, dropout: float, adjacency: Float[Tensor, "J J"], time_channels: int = 0
    ) -> None:
        super().__init__()
        self.norm1 = UnbiasedLayerNorm(channels)
        self.attention = SelfAttention(channels, num_heads, dropout=0.1)
        self.norm2 = UnbiasedLayerNorm(channels)
        self.feed_forward = GraphFeedForward(channels, len(adjacency))
        self.dropout = nn.Dropout(dropout)
        self.conv1 = ChebConv(channels, channels, adjacency)
        self.conv2 = ChebConv(channels, channels, adjacency)
        self.conv_dropout = nn.Dropout(0.1)
        self.time_projection = nn.Linear(time_channels, channels) if time_channels else None

    def forward(
        self, x: Float[Tensor, "B J C"], time_embedding: Float[Tensor, "B E"] | None = None
    ) -> Float[Tensor, "B J C"]:
        x = x + self.dropout(self.attention(self.norm1(x)))
        x = x + self.dropout(self.feed_forward(self.norm2(x)))
        hidden = self.conv_dropout(F.relu(self.conv1(x)))
        if self.time_projection is not None and time_embedding is not None:
            hidden = hidden + self.time_projection(F.silu(time_embedding))[:, None]
        return x + self.conv_dropout(F.relu(self.conv2(hidden)))


def sinusoidal_embedding(steps: Float[Tensor, " B"], channels: int) -> Float[Tensor, "B C"]:
    """[sin(t w_i) | cos(t w_i)] with w_i = 10000^(-i / (C/2 - 1)); the last of an odd number of channels is zero.

    Args:
        steps: (B,) diffusion steps, as floating-point numbers.
        channels: width C of the embedding, at least 4.
    """
    half = channels // 2
    exponent = torch.arange(half, dtype=steps.dtype, device=steps.device) * (-math.log(10000.0) / (half - 1))
    angles = steps[:, None] * exponent.exp()
    embedding = torch.cat((angles.sin(), angles.cos()), dim=-1)
    return F.pad(embedding, (0, channels - 2 * half))


class StepEmbedding(nn.Module):
    """Sinusoidal embedding of the diffusion step, refined by a two-layer net of four times the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.expand = nn.Linear(channels, 4 * channels)
        self.refine = nn.Linear(4 * channels, 4 * channels)

    def forward(self, steps: Float[Tensor, " B"]) -> Float[Tensor, "B E"]:
        return self.refine(F.silu(self.expand(sinusoidal_embedding(steps, self.channels))))


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
        clip: F of clips whose frames tell each other something after each block; 1 for frames by themselves.
        causal: a frame of a clip sees only itself and those before it.
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
        clip: int = 1,
        causal: bool = False,
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
        self.temporal = nn.ModuleList(
            TemporalConvolution(width, clip, causal) if clip > 1 else nn.Identity() for _ in range(num_blocks)
        )
        self.output = ChebConv(width, state_channels, adjacency)
        if context_channels:
            # The initial output is no correction of the pose that the context belongs to, also in a stack.
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
            (B, J, C) scaled noise (release) or a correction of the pose (paper).
        """
        embedding = self.step_embedding(steps.to(state.dtype))
        hidden = self.input(state)
        if self.context is not None:
            hidden = torch.cat((hidden, self.context(context)), dim=-1)
        for block, temporal in zip(self.blocks, self.temporal, strict=True):
            hidden = temporal(block(hidden, embedding))
        return self.output(hidden)


class GraphLifter(nn.Module):
    """The same network without diffusion step: 2-D joints in, 3-D joints and features out (frame context encoder).

    Args:
        width, num_blocks, num_heads, dropout, parents: as in `GraphDenoiser`.
        in_channels: C of the input.
    """

    def __init__(
        self,
        width: int,
        num_blocks: int,
        num_heads: int,
        dropout: float,
        parents: tuple[int, ...],
        in_channels: int = 2,
    ) -> None:
        super().__init__()
        adjacency = normalised_adjacency(parents)
        self.input = ChebConv(in_channels, width, adjacency)
        self.blocks = nn.ModuleList(
            GraphAttentionBlock(width, num_heads, dropout, adjacency) for _ in range(num_blocks)
        )
        self.output = ChebConv(width, 3, adjacency)

    def features(self, screen: Float[Tensor, "B J C"]) -> Float[Tensor, "B J W"]:
        """Features f_ST of the last block, from 2-D joints in screen coordinates."""
        hidden = self.input(screen)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden

    def forward(self, screen: Float[Tensor, "B J C"]) -> Float[Tensor, "B J 3"]:
        """3-D joints in metres; only their positions relative to the root are trained."""
        return self.output(self.features(screen))
