"""Features of 2-D joints for HMR's regressor, where an image backbone computes them from an image.

Shape letters: J joints, W width of the features.
"""

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
        """Features of joints, in the units of `crops.joints_in_box`."""
        features = self.input(keypoints.flatten(-2))
        for block in self.blocks:
            features = features + block(features)
        return self.norm(features)


class _Block(nn.Sequential):
    def __init__(self, width: int, dropout: float) -> None:
        layers = [(nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)) for _ in range(2)]
        super().__init__(*(layer for part in layers for layer in part))
