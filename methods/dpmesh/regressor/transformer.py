"""Transformer layers of DPMesh's regressor: post-norm, with positions added to queries and keys only, as in DETR.

Unlike in the release, there is no dropout of attention weights: fused attention cannot do that, and most of the
regressor's time is attention in the volume.

Positions are fixed sine and cosine codes ("Attention is all you need", 2017; DETR, Carion et al., ECCV 2020).

Shape letters: C channels, B batch, N tokens or positions, M tokens of the memory, Q queries, D width.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

TEMPERATURE = 10_000.0


def sine_code(positions: Float[Tensor, " N"], channels: int, temperature: float = TEMPERATURE) -> Float[Tensor, "N C"]:
    """Sine and cosine of each position, alternating, at C/2 frequencies from 1 down to about 1 / temperature.

    Args:
        positions: in radians.
        channels: C, even.
        temperature: at 1, all frequencies are 1.
    """
    exponent = torch.arange(0, channels, 2, dtype=torch.float64) / channels
    angle = positions.double()[:, None] / temperature**exponent
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).float()


def plane_code(rows: int, columns: int, channels: int, temperature: float = TEMPERATURE) -> Float[Tensor, "N C"]:
    """Codes of the cells of a plane, row by row: half of the channels for y, half for x, each from 0 to 2 pi (DETR).

    Args:
        rows: of the plane.
        columns: of the plane.
        channels: C, a multiple of 4.
        temperature: of `sine_code`.
    """

    def axis(length: int) -> Tensor:
        places = 2.0 * math.pi * torch.arange(1, length + 1) / (length + 1e-6)
        return sine_code(places, channels // 2, temperature)

    y = axis(rows)[:, None].expand(-1, columns, -1)
    x = axis(columns)[None].expand(rows, -1, -1)
    return torch.cat((y, x), dim=-1).flatten(0, 1)


class EncoderLayer(nn.Module):
    """Self-attention and two linear layers.

    Args:
        width: D.
        num_heads: of the attention.
        feedforward: units of the hidden layer.
        dropout: of the outputs of attention and linear layers.
    """

    def __init__(self, width: int, num_heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Float[Tensor, "B N D"], positions: Float[Tensor, "N D"]) -> Float[Tensor, "B N D"]:
        """Tokens after the layer."""
        placed = tokens + positions
        attended = self.self_attn(placed, placed, tokens, need_weights=False)[0]
        tokens = self.norm1(tokens + self.dropout(attended))
        hidden = self.linear2(self.dropout(F.relu(self.linear1(tokens))))
        return self.norm2(tokens + self.dropout(hidden))


class Encoder(nn.Module):
    """Encoder layers one after the other.

    Args:
        width: D.
        num_layers: of `EncoderLayer`.
        num_heads, feedforward, dropout: of each.
        final_norm: normalise the output of the last layer once more.
    """

    def __init__(
        self, width: int, num_layers: int, num_heads: int, feedforward: int, dropout: float, final_norm: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, num_heads, feedforward, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width) if final_norm else nn.Identity()

    def forward(self, tokens: Float[Tensor, "B N D"], positions: Float[Tensor, "N D"]) -> Float[Tensor, "B N D"]:
        """Tokens after the last layer."""
        for layer in self.layers:
            tokens = layer(tokens, positions)
        return self.norm(tokens)


class DecoderLayer(nn.Module):
    """Self-attention of queries, attention to a memory, and two linear layers; arguments as `EncoderLayer`."""

    def __init__(self, width: int, num_heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        states: Float[Tensor, "B Q D"],
        queries: Float[Tensor, "Q D"],
        memory: Float[Tensor, "B M D"],
        positions: Float[Tensor, "B M D"],
    ) -> Float[Tensor, "B Q D"]:
        """States after the layer.

        Args:
            states: of the queries.
            queries: embeddings of the queries, used as their positions.
            memory: tokens that are attended to.
            positions: codes of these tokens.
        """
        placed = states + queries
        attended = self.self_attn(placed, placed, states, need_weights=False)[0]
        states = self.norm1(states + self.dropout(attended))
        attended = self.multihead_attn(states + queries, memory + positions, memory, need_weights=False)[0]
        states = self.norm2(states + self.dropout(attended))
        hidden = self.linear2(self.dropout(F.relu(self.linear1(states))))
        return self.norm3(states + self.dropout(hidden))
