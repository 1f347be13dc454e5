"""Maps of joints from the feature maps of a backbone: the head, the loss, and keypoints out of maps.

A map is a distribution over the cells of a grid that covers the square crop; it sums to one.

Shape letters: B batch, J joints, h side of the grid in cells, S side of the image in pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from noise2pose.keypoints.heatmaps import heatmaps

_WINDOW = 2  # cells around the highest within which the place of a joint is the mean
_NEAR = 1  # cells around it whose share of the map is the confidence


class HeatmapHead(nn.Module):
    """Adds coarse feature maps to finer ones, from the coarsest to that of a quarter of the image's side.

    Args:
        level_widths: channels of the feature maps, the finest first.
        channels: of the sum.
        num_joints: J.
    """

    def __init__(self, level_widths: Sequence[int], channels: int, num_joints: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in level_widths)
        self.smooth = nn.ModuleList(_smoothed(channels) for _ in level_widths)
        self.joints = nn.Conv2d(channels, num_joints, 1)

    def forward(self, levels: Sequence[Tensor]) -> Float[Tensor, "B J h h"]:
        """Logits of the maps; h = S / 4."""
        merged: Tensor | None = None
        for level, lateral, smooth in reversed(list(zip(levels, self.lateral, self.smooth, strict=True))):
            here = lateral(level)
            if merged is not None:
                here = here + F.interpolate(merged, size=here.shape[-2:], mode="nearest")
            merged = smooth(here)
        assert merged is not None
        return self.joints(merged)


def heatmap_loss(
    logits: Float[Tensor, "B J h h"], places: Float[Tensor, "B J 3"], sigma: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Cross entropy of the maps with Gaussians at the true places, and the distance of the maps' means from these.

    Args:
        logits: of the maps.
        places: in [0, 1] across the crop, and a confidence; joints outside the crop or without confidence do not count.
        sigma: of the Gaussians, cells.

    Returns:
        Cross entropy, above that of the Gaussian itself, and distance in cells: means over the joints that count.
    """
    side = logits.shape[-1]
    counted = (places[..., 2] > 0) & ((places[..., :2] >= 0) & (places[..., :2] <= 1)).all(dim=-1)
    cells = torch.where(counted[..., None], places[..., :2], 0.5) * side - 0.5
    target = heatmaps(cells, (side, side), sigma).flatten(-2)
    target = target / target.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    log_maps = logits.flatten(-2).log_softmax(dim=-1)
    entropy = F.kl_div(log_maps, target, reduction="none").sum(dim=-1)
    mean = _mean_place(log_maps.exp().unflatten(-1, (side, side)))
    distance = (mean - cells).abs().sum(dim=-1)
    weights = counted.to(logits)
    total = weights.sum().clamp_min(1.0)
    return (weights * entropy).sum() / total, (weights * distance).sum() / total


def keypoints_of(maps: Float[Tensor, "B J h h"]) -> Float[Tensor, "B J 3"]:
    """The place of each joint in [0, 1] across the crop, and how much of its map lies there.

    The place is the mean of the map within two cells of its highest; the confidence is its share within one cell, so
    it is the probability that the joint is as near as this if the maps are calibrated.
    """
    side = maps.shape[-1]
    highest = maps.flatten(-2).argmax(dim=-1)
    row, column = highest // side, highest % side
    steps = torch.arange(side, device=maps.device)
    down = (steps - row[..., None]).abs()
    across = (steps - column[..., None]).abs()
    window = ((down <= _WINDOW)[..., :, None] & (across <= _WINDOW)[..., None, :]) * maps
    near = ((down <= _NEAR)[..., :, None] & (across <= _NEAR)[..., None, :]) * maps
    place = _mean_place(window / window.sum(dim=(-1, -2), keepdim=True))
    return torch.cat(((place + 0.5) / side, near.sum(dim=(-1, -2))[..., None]), dim=-1)


def _mean_place(maps: Float[Tensor, "B J h h"]) -> Float[Tensor, "B J 2"]:
    """Mean column and row of distributions, in cells."""
    steps = torch.arange(maps.shape[-1], device=maps.device, dtype=maps.dtype)
    return torch.stack((maps.sum(dim=-2) @ steps, maps.sum(dim=-1) @ steps), dim=-1)


def _smoothed(channels: int) -> nn.Sequential:
    # Depthwise and pointwise: a full 3x3 convolution on the finest map would cost more than the whole small backbone.
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
