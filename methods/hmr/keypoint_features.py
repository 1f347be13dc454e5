"""Features of a person's 2-D joints, where HMR has those of a picture.

Shape letters: J joints, W width.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class KeypointFeatures(nn.Module):
    """A residual network over the joints of the box (after Martinez et al., "A simple yet effective baseline", 2017).

    Args:
        num_joints: J.
        width: W, of the layers and of the features.
        num_blocks: residual blocks of two layers.
        dropout: in the blocks.
    """

    def __init__(self, num_joints: int = 17, width: int = 1024, num_blocks: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.input = nn.Linear(3 * num_joints, width)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, keypoints: Float[Tensor, "*batch J 3"]) -> Float[Tensor, "*batch W"]:
        """Features of joints in units of `in_box`."""
        features = self.input(keypoints.flatten(-2))
        for block in self.blocks:
            features = features + block(features)
        return self.norm(features)


class _Block(nn.Sequential):
    def __init__(self, width: int, dropout: float) -> None:
        layers = [(nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)) for _ in range(2)]
        super().__init__(*(layer for part in layers for layer in part))


def in_box(keypoints: Float[Tensor, "*batch J 3"], box: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch J 3"]:
    """Joints in units of half the box's side from its centre; those without confidence are zero.

    Args:
        keypoints: pixels and confidence.
        box: centre x, centre y and side, pixels.
    """
    places = (keypoints[..., :2] - box[..., None, :2]) * 2.0 / box[..., None, 2:]
    seen = keypoints[..., 2:] > 0
    return torch.where(seen, torch.cat((places, keypoints[..., 2:]), dim=-1), 0.0)


def box_around(keypoints: Float[Tensor, "*batch J 3"], margin: float = 1.2) -> Float[Tensor, "*batch 3"]:
    """The square box of the visible joints, for data that have none: centre x, centre y and side, pixels.

    Args:
        keypoints: pixels and confidence; at least two places are visible.
        margin: side over the longer extent of the joints, as in SPIN's data.
    """
    seen = keypoints[..., 2:] > 0
    low = torch.where(seen, keypoints[..., :2], torch.inf).amin(dim=-2)
    high = torch.where(seen, keypoints[..., :2], -torch.inf).amax(dim=-2)
    side = margin * (high - low).amax(dim=-1, keepdim=True)
    return torch.cat(((low + high) / 2.0, side), dim=-1)
