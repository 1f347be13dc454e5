"""Crops with one interpolation, on any device: from pixels of the crop straight to those of what was read of a picture.

Pixels are as in `noise2pose.crops`: the centre of the first is at (0.5, 0.5). An affine map is a (2, 3) matrix that is
applied to (x, y, 1).

Shape letters: B crops, P bytes of all patches, S side of the crops.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor


def crop_matrix(box: Float[Tensor, "*batch 3"], size: int) -> Float[Tensor, "*batch 2 3"]:
    """From pixels of the picture to those of the crop of a box.

    Args:
        box: centre x, centre y and side, pixels of the picture.
        size: S.
    """
    zoom = size / box[..., 2]
    zero, half = torch.zeros_like(zoom), size / 2.0
    x = torch.stack((zoom, zero, half - zoom * box[..., 0]), dim=-1)
    y = torch.stack((zero, zoom, half - zoom * box[..., 1]), dim=-1)
    return torch.stack((x, y), dim=-2)


def compose(outer: Float[Tensor, "*#batch 2 3"], inner: Float[Tensor, "*#batch 2 3"]) -> Float[Tensor, "*batch 2 3"]:
    """The map that does `inner` first and `outer` after it."""
    linear = outer[..., :2] @ inner
    return torch.cat((linear[..., :2], linear[..., 2:] + outer[..., 2:]), dim=-1)


def invert(matrix: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "*batch 2 3"]:
    """The map back."""
    linear = torch.linalg.inv(matrix[..., :2])
    return torch.cat((linear, -linear @ matrix[..., 2:]), dim=-1)


def move_points(
    points: Float[Tensor, "*batch N C"], matrix: Float[Tensor, "*batch 2 3"]
) -> Float[Tensor, "*batch N C"]:
    """Applies the map to x and y of each point; what else its row holds stays."""
    moved = points[..., :2] @ matrix[..., :2].transpose(-1, -2) + matrix[..., None, :, 2]
    return torch.cat((moved, points[..., 2:]), dim=-1)


def sample(
    pixels: UInt8[Tensor, " P"],
    sizes: Sequence[tuple[int, int]],
    matrix: Float[Tensor, "B 2 3"],
    size: int = 224,
    gain: Float[Tensor, "B 3"] | None = None,
) -> Float[Tensor, "B 3 S S"]:
    """Bilinear samples of patches, black outside them: what `cv2.warpAffine` gives, but for its rounding.

    Nothing is averaged: where a crop pixel is wider than a patch pixel, patch pixels between the samples are not seen.

    Args:
        pixels: RGB of the patches, as `noise2pose.batch.Patches` has them.
        sizes: height and width of each patch, none of them 0.
        matrix: from pixels of the crop to those of the patch.
        size: S.
        gain: of red, green and blue; what becomes brighter than white is white.

    Returns:
        RGB in [0, 1], float32, on the device of the pixels.
    """
    crops = torch.empty(len(sizes), 3, size, size, device=pixels.device)
    places = torch.arange(size, device=pixels.device, dtype=torch.float32) + 0.5
    # To `grid_sample` a patch reaches from -1 to 1, whatever its size.
    extent = torch.tensor([(width, height) for height, width in sizes], dtype=torch.float32).to(pixels.device)
    matrix = 2.0 * matrix.to(crops) / extent[..., None]
    # x and y as one complex number: ten times as fast to add as pairs of numbers are.
    step_x, step_y, start = torch.view_as_complex(matrix.transpose(-1, -2).contiguous()).unbind(dim=-1)
    across = step_x[:, None] * places  # (B, S)
    down = step_y[:, None] * places + (start - (1.0 + 1.0j))[:, None]
    factor = torch.ones(len(sizes), 3) if gain is None else gain
    factor = (factor / 255.0).to(crops)[..., None, None]
    # Patches differ in size, so they are sampled one by one. New memory for each would take longer than the sampling.
    floats = torch.empty(max(3 * height * width for height, width in sizes), device=pixels.device)
    grid = torch.empty(1, size, size, 2, device=pixels.device)
    first = 0
    for number, (height, width) in enumerate(sizes):
        count = 3 * height * width
        patch = floats[:count].copy_(pixels[first : first + count]).view(1, height, width, 3).permute(0, 3, 1, 2)
        torch.add(across[number], down[number, :, None], out=torch.view_as_complex(grid[0]))
        torch.mul(F.grid_sample(patch, grid, align_corners=False)[0], factor[number], out=crops[number])
        first += count
    return crops if gain is None else crops.clamp_(max=1.0)
