"""The 3-D volume of DPMesh's regressor: voxels in front of the camera, made of a feature map (release, after JOTR).

Places in it are (x, y, z) in [0, 1]: right and down in the box, and away from the camera; 0.5 is the depth of the root.

Shape letters: B batch, F channels of the feature map, D width; H, W, Z rows, columns and depths; J points.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.dpmesh.regressor.transformer import Encoder, line_code

_LEAST_EXPONENT, _LARGEST_EXPONENT = 1.0, 20.0


class Volume(nn.Module):
    """Splits channels into depths, adds the place of each voxel, and applies attention between the voxels.

    By default a voxel's place is its centre, and a point is sampled where it lies. The release has depths that are not
    uniform, at (i / Z)^e with a learned exponent e, but samples a point at z^e instead of the inverse, and takes the
    corners of voxels for their centres; `learned_exponent` does exactly that.

    Args:
        feature_width: F.
        width: D.
        depth: Z.
        rows: H; also W.
        num_layers: of the encoder.
        num_heads: of the encoder.
        feedforward: of the encoder.
        dropout: of the encoder.
        learned_exponent: behave as the release.
    """

    positions: Tensor

    def __init__(
        self,
        feature_width: int,
        width: int,
        depth: int,
        rows: int,
        num_layers: int,
        num_heads: int,
        feedforward: int,
        dropout: float,
        learned_exponent: bool,
    ) -> None:
        super().__init__()
        self.width, self.depth = width, depth
        self.lift = nn.Conv2d(feature_width, width * depth, 1)
        self.place = nn.Conv3d(width + 3, width, 1)
        self.encoder = Encoder(width, num_layers, num_heads, feedforward, dropout, final_norm=True)
        self.exponent = nn.Parameter(torch.tensor(3.0)) if learned_exponent else None
        self.register_buffer("positions", line_code(depth * rows * rows, width), persistent=False)

    def forward(self, features: Float[Tensor, "B F H W"]) -> Float[Tensor, "B D Z H W"]:
        """The voxels."""
        volume = self.lift(features).unflatten(1, (self.width, self.depth))
        anchors = self._anchors(volume).expand(len(volume), -1, -1, -1, -1)
        volume = self.place(torch.cat((volume, anchors), dim=1))
        tokens = self.encoder(volume.flatten(2).transpose(1, 2), self.positions)
        return tokens.transpose(1, 2).unflatten(2, volume.shape[2:])

    def sample(self, volume: Float[Tensor, "B D Z H W"], points: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J D"]:
        """Linear interpolation of the voxels at each point."""
        if self.exponent is None:
            grid = 2.0 * points - 1.0
            options = {"align_corners": False, "padding_mode": "border"}
        else:
            depth = points[..., 2:] ** self._clamped_exponent()
            grid = 2.0 * torch.cat((points[..., :2], depth), dim=-1) - 1.0
            options = {"align_corners": True, "padding_mode": "zeros"}
        return F.grid_sample(volume, grid[:, :, None, None].to(volume.dtype), **options)[..., 0, 0].transpose(1, 2)

    def _anchors(self, volume: Tensor) -> Float[Tensor, "3 Z H W"]:
        """(z, y, x) of each voxel."""
        shift = 0.5 if self.exponent is None else 0.0
        axes = [(torch.arange(n, device=volume.device, dtype=volume.dtype) + shift) / n for n in volume.shape[2:]]
        if self.exponent is not None:
            axes[0] = axes[0] ** self._clamped_exponent()
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))

    def _clamped_exponent(self) -> Tensor:
        assert self.exponent is not None
        return self.exponent.clamp(_LEAST_EXPONENT, _LARGEST_EXPONENT)
