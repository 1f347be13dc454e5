"""A decoder that moves keypoints to where the features of an image say that they are: deformable cross-attention.

Every joint is a query with a reference point in the image. A layer lets the joints of a person attend to each other,
samples the feature maps of several resolutions at a few learnt places around each reference (Zhu et al., "Deformable
DETR", ICLR 2021), and moves the reference by what a branch of its own answers, in logit space (as Poseur, Mao et al.,
ECCV 2022). Written from the papers, in plain PyTorch.

Shape letters: B images, G groups of references, J joints, D channels, H heads, L levels, P points, Q = G J queries.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_EDGE = 0.01  # references are kept so far inside the image, where the logit is finite
_FREQUENCIES = 16  # of the encoding of places, for x and y each


class DeformableDecoder(nn.Module):
    """Layers of self-attention between joints and deformable attention to feature maps.

    Args:
        level_widths: channels of the feature maps.
        num_joints: J.
        channels: D.
        num_layers: each moves the references once.
        num_heads: H.
        num_points: P, in each level and head.
    """

    def __init__(
        self,
        level_widths: Sequence[int],
        num_joints: int,
        channels: int = 64,
        num_layers: int = 3,
        num_heads: int = 4,
        num_points: int = 4,
    ) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, channels, 1), nn.GroupNorm(8, channels)) for width in level_widths
        )
        self.joints = nn.Parameter(0.02 * torch.randn(num_joints, channels))
        self.place = nn.Linear(4 * _FREQUENCIES, channels)
        self.layers = nn.ModuleList(
            DecoderLayer(channels, len(level_widths), num_heads, num_points) for _ in range(num_layers)
        )
        self.moves = nn.ModuleList(_branch(channels) for _ in range(num_layers))

    def forward(self, levels: Sequence[Tensor], references: Float[Tensor, "B G J 2"]) -> list[Float[Tensor, "B G J 2"]]:
        """The references after each layer.

        Args:
            levels: feature maps (B, C, s, s) of the image.
            references: x and y in [0, 1] across the image; those outside are moved to its border.
        """
        maps = [project(level) for level, project in zip(levels, self.inputs, strict=True)]
        references = references.clamp(_EDGE, 1.0 - _EDGE)
        queries = self.joints.expand(*references.shape[:3], -1)
        found = []
        for layer, move in zip(self.layers, self.moves, strict=True):
            queries = layer(queries, self.place(encoded(references)), references, maps)
            references = torch.sigmoid(torch.logit(references) + move(queries)).clamp(_EDGE, 1.0 - _EDGE)
            found.append(references)
            references = references.detach()  # as published: each layer learns its own move
        return found


class DecoderLayer(nn.Module):
    """Self-attention, deformable attention and a feed-forward network, each with a residual and a norm after it.

    Args:
        channels: D.
        num_levels: L.
        num_heads: H.
        num_points: P.
    """

    def __init__(self, channels: int, num_levels: int, num_heads: int, num_points: int) -> None:
        super().__init__()
        self.between = nn.MultiheadAttention(channels, num_heads, batch_first=True)
        self.across = DeformableAttention(channels, num_levels, num_heads, num_points)
        self.feed = nn.Sequential(nn.Linear(channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, channels))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self,
        queries: Float[Tensor, "B G J D"],
        place: Float[Tensor, "B G J D"],
        references: Float[Tensor, "B G J 2"],
        maps: Sequence[Float[Tensor, "B D s t"]],
    ) -> Float[Tensor, "B G J D"]:
        """The queries with what they saw; `place` encodes the references."""
        placed = (queries + place).flatten(0, 1)  # groups do not see each other
        seen, _ = self.between(placed, placed, queries.flatten(0, 1), need_weights=False)
        queries = self.norms[0](queries + seen.view_as(queries))
        looked = self.across((queries + place).flatten(1, 2), references.flatten(1, 2), maps)
        queries = self.norms[1](queries + looked.view_as(queries))
        return self.norms[2](queries + self.feed(queries))


class DeformableAttention(nn.Module):
    """Weighted bilinear samples of feature maps at learnt offsets from a reference point.

    Args:
        channels: D.
        num_levels: L.
        num_heads: H.
        num_points: P.
    """

    def __init__(self, channels: int, num_levels: int, num_heads: int, num_points: int) -> None:
        super().__init__()
        self.shape = (num_heads, num_levels, num_points)
        count = num_heads * num_levels * num_points
        self.offsets = nn.Linear(channels, 2 * count)
        self.weights = nn.Linear(channels, count)
        self.values = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(num_levels))
        self.output = nn.Linear(channels, channels)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        with torch.no_grad():  # at first every head looks into a direction of its own, farther with every point
            angles = 2.0 * math.pi * torch.arange(num_heads) / num_heads
            ring = torch.stack((angles.cos(), angles.sin()), dim=-1)[:, None, None]
            steps = torch.arange(1, num_points + 1)[:, None]
            self.offsets.bias.copy_((ring * steps).expand(*self.shape, 2).flatten())

    def forward(
        self,
        queries: Float[Tensor, "B Q D"],
        references: Float[Tensor, "B Q 2"],
        maps: Sequence[Float[Tensor, "B D s t"]],
    ) -> Float[Tensor, "B Q D"]:
        """What the queries see around their references, offsets in cells of each level."""
        heads, levels, points = self.shape
        offsets = self.offsets(queries).unflatten(-1, (heads, levels, points, 2))
        weights = self.weights(queries).unflatten(-1, (heads, levels * points)).softmax(dim=-1)
        weights = weights.unflatten(-1, (levels, points))
        seen = queries.new_zeros(*queries.shape[:2], heads, queries.shape[-1] // heads)
        for level, (features, value) in enumerate(zip(maps, self.values, strict=True)):
            size = queries.new_tensor(features.shape[:-3:-1])  # columns, rows
            places = references[:, :, None, None] + offsets[:, :, :, level] / size
            grid = (2.0 * places - 1.0).permute(0, 2, 1, 3, 4).flatten(0, 1)  # (B H, Q, P, 2)
            by_head = value(features).unflatten(1, (heads, -1)).flatten(0, 1)
            sampled = F.grid_sample(by_head, grid, align_corners=False)  # (B H, D / H, Q, P)
            sampled = sampled.unflatten(0, (-1, heads)).permute(0, 3, 1, 4, 2)
            seen = seen + (sampled * weights[:, :, :, level, :, None]).sum(dim=-2)
        return self.output(seen.flatten(-2))


def encoded(places: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch E"]:
    """Sines and cosines of x and y, of wavelengths from two images to a hundredth of one."""
    steps = torch.arange(_FREQUENCIES, device=places.device, dtype=places.dtype)
    angles = places[..., None] * math.pi * 200.0 ** (steps / (_FREQUENCIES - 1))
    return torch.cat((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def _branch(channels: int) -> nn.Sequential:
    """From a query to the move of its reference in logit space; at first there is none."""
    branch = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 2))
    last = branch[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return branch
