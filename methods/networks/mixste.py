"""MixSTE (Zhang et al., CVPR 2022): a transformer for clips, sequence to sequence, that several methods share.

Attention over the joints of a frame and attention over the frames of a joint alternate. The details follow the
published network; `PUBLISHED_NAMES` are what releases call its tensors.

Shape letters: B batch, F frames, J joints, L tokens of one attention, C input channels, W width.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from noise2pose.errors import InputError

# Beginnings of our names (regular expressions), and what the releases that contain the network have there.
PUBLISHED_NAMES = {
    "joint_embedding": "Spatial_pos_embed",
    "frame_embedding": "Temporal_pos_embed",
    r"input\.": "Spatial_patch_to_embedding.",
    r"spatial_norm\.": "Spatial_norm.",
    r"temporal_norm\.": "Temporal_norm.",
    r"output\.": "head.",
} | {
    rf"{ours}_blocks\.(\d+)\.{part}\.": rf"{theirs}.\1.{official}."
    for ours, theirs in (("spatial", "STEblocks"), ("temporal", "TTEblocks"))
    for part, official in (
        *(("norm1", "norm1"), ("query_key_value", "attn.qkv"), ("output", "attn.proj")),
        *(("norm2", "norm2"), ("expand", "mlp.fc1"), ("contract", "mlp.fc2")),
    )
}


class TransformerBlock(nn.Module):
    """Pre-norm attention and a two-layer net of twice the width, each in a residual branch that may be dropped.

    Args:
        channels: width.
        num_heads: of the attention.
        drop_path: probability that a residual branch of a sample is dropped in training (stochastic depth).
        causal: whether a token attends only to itself and the tokens before it.
    """

    def __init__(self, channels: int, num_heads: int, drop_path: float, causal: bool = False) -> None:
        super().__init__()
        if channels % num_heads:
            raise InputError(f"width {channels} is not a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.drop_path = drop_path
        self.causal = causal
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 2 * channels)
        self.contract = nn.Linear(2 * channels, channels)

    def forward(self, x: Float[Tensor, "B L W"]) -> Float[Tensor, "B L W"]:
        q_k_v = self.query_key_value(self.norm1(x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*q_k_v.unbind(0), is_causal=self.causal)
        x = x + self._drop(self.output(attended.transpose(1, 2).flatten(2)))
        return x + self._drop(self.contract(F.gelu(self.expand(self.norm2(x)))))

    def _drop(self, residual: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return residual
        keep = torch.rand(len(residual), 1, 1, device=residual.device) >= self.drop_path
        return residual * keep / (1.0 - self.drop_path)


class MixSTE(nn.Module):
    """Joints of a clip in, 3-D joints and features of every frame out.

    Args:
        num_frames: of the longest clip, the number of position embeddings.
        width: channels W (published: 512).
        num_blocks: pairs of spatial and temporal attention (published: 8).
        num_heads: of the attention (published: 8).
        drop_path: of the last block; it grows linearly from 0 at the first.
        num_joints: J.
        causal: a frame attends only to itself and the frames before it.
        in_channels: C of the input.
    """

    def __init__(
        self,
        num_frames: int,
        width: int,
        num_blocks: int,
        num_heads: int,
        drop_path: float = 0.0,
        num_joints: int = 17,
        causal: bool = False,
        in_channels: int = 2,
    ) -> None:
        super().__init__()
        self.input = nn.Linear(in_channels, width)
        self.joint_embedding = nn.Parameter(torch.zeros(1, num_joints, width))
        self.frame_embedding = nn.Parameter(torch.zeros(1, num_frames, width))
        rates = torch.linspace(0.0, drop_path, num_blocks).tolist()
        self.spatial_blocks = nn.ModuleList(TransformerBlock(width, num_heads, rate) for rate in rates)
        self.temporal_blocks = nn.ModuleList(TransformerBlock(width, num_heads, rate, causal) for rate in rates)
        self.spatial_norm = nn.LayerNorm(width, eps=1e-6)
        self.temporal_norm = nn.LayerNorm(width, eps=1e-6)
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3))

    def features(
        self, clip: Float[Tensor, "B F J C"], embedding: Float[Tensor, "B W"] | None = None
    ) -> Float[Tensor, "B F J W"]:
        """Features f_ST of every frame.

        Args:
            clip: channels of each joint, for example its 2-D position in screen coordinates.
            embedding: of a whole clip, for example of its diffusion step; added to each of its tokens at the input.

        Raises:
            InputError: if the clip has more frames than there are position embeddings.
        """
        batch, frames, joints, _ = clip.shape
        if frames > self.frame_embedding.shape[1]:
            raise InputError(f"a clip of {frames} frames is longer than the {self.frame_embedding.shape[1]} of MixSTE")
        x = self.input(clip)
        if embedding is not None:
            x = x + embedding[:, None, None]
        x = x.flatten(0, 1) + self.joint_embedding
        for i, (spatial, temporal) in enumerate(zip(self.spatial_blocks, self.temporal_blocks, strict=True)):
            # Both norms are shared by all blocks, as published.
            x = self.spatial_norm(spatial(x))
            # Of a single clip the transposed tokens are a view, which every layer would copy again.
            x = x.view(batch, frames, joints, -1).transpose(1, 2).flatten(0, 1).contiguous()
            if i == 0:
                x = x + self.frame_embedding[:, :frames]
            x = self.temporal_norm(temporal(x))
            x = x.view(batch, joints, frames, -1).transpose(1, 2).flatten(0, 1).contiguous()
        return x.view(batch, frames, joints, -1)

    def forward(
        self, clip: Float[Tensor, "B F J C"], embedding: Float[Tensor, "B W"] | None = None
    ) -> Float[Tensor, "B F J 3"]:
        """3-D joints in metres; only their positions relative to the root are trained. Arguments as of `features`."""
        return self.output(self.features(clip, embedding))
