"""MixSTE written as its release reads: the slow reference beside `methods.networks.mixste`.

Attention writes out its softmax, and tokens are copied into the layout that each attention wants. Dropout, which
changes no number at test, is left out. Parameters carry the official names.

For tests and `scripts/benchmark.py` only.

Shape letters: B batch, F frames, J joints, L tokens of one attention, W width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class TextbookMixSTE(nn.Module):
    """MixSTE without the last two stages of other papers: 2-D joints of a clip in, 3-D joints of every frame out.

    Args:
        num_frames: F.
        width: W.
        num_blocks: pairs of spatial and temporal attention.
        num_heads: of the attention.
        num_joints: J.
    """

    def __init__(
        self, num_frames: int = 243, width: int = 512, num_blocks: int = 8, num_heads: int = 8, num_joints: int = 17
    ) -> None:
        super().__init__()
        self.Spatial_patch_to_embedding = nn.Linear(2, width)
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, num_joints, width))
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, num_frames, width))
        self.STEblocks = nn.ModuleList(_Block(width, num_heads) for _ in range(num_blocks))
        self.TTEblocks = nn.ModuleList(_Block(width, num_heads) for _ in range(num_blocks))
        self.Spatial_norm = nn.LayerNorm(width, eps=1e-6)
        self.Temporal_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3))

    def forward(self, clip: Float[Tensor, "B F J 2"]) -> Float[Tensor, "B F J 3"]:
        """3-D joints."""
        batch, frames, joints, _ = clip.shape
        x = self.Spatial_patch_to_embedding(clip.reshape(batch * frames, joints, 2)) + self.Spatial_pos_embed
        for number, (spatial, temporal) in enumerate(zip(self.STEblocks, self.TTEblocks, strict=True)):
            x = self.Spatial_norm(spatial(x))
            x = x.reshape(batch, frames, joints, -1).permute(0, 2, 1, 3).reshape(batch * joints, frames, -1)
            if number == 0:
                x = x + self.Temporal_pos_embed
            x = self.Temporal_norm(temporal(x))
            x = x.reshape(batch, joints, frames, -1).permute(0, 2, 1, 3).reshape(batch * frames, joints, -1)
        return self.head(x.reshape(batch, frames, joints, -1))


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 2 * width), "fc2": nn.Linear(2 * width, width)})

    def forward(self, x: Float[Tensor, "B L W"]) -> Float[Tensor, "B L W"]:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class _Attention(nn.Module):
    """softmax(Q K^T / sqrt(W / H)) V with H heads."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B L W"]) -> Float[Tensor, "B L W"]:
        batch, tokens, width = x.shape
        split = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, width // self.num_heads).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        attention = ((query @ key.transpose(-2, -1)) * self.scale).softmax(dim=-1)
        return self.proj((attention @ value).transpose(1, 2).reshape(batch, tokens, width))
