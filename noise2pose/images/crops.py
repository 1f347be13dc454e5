"""Square boxes around people, and crops of images: of one image with averaging, of many by affine maps.

An image is a plane of pixels of side 1: the pixel in column 0 covers x from 0 to 1 and its centre is at x = 0.5, so the
image ends at x = width. Boxes and keypoints are in these coordinates, as is a principal point at half the size.

An affine map is a (2, 3) matrix that is applied to (x, y, 1). Crops take one interpolation, on any device, from the
part of the image that was read.

Shape letters: H, W image; S side of the crops; J joints; B crops; P bytes of all patches.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

BOX_SCALE = 1.2  # of SPIN's and HMR's boxes, in longer sides of the keypoints' extent


def crop(
    image: UInt8[np.ndarray, "H W 3"] | UInt8[Tensor, "H W 3"] | Float[Tensor, "H W 3"],
    box: Float[Tensor, "3"],
    size: int = 224,
) -> Float[Tensor, "3 S S"]:
    """A square of an image, resized; black outside the image.

    The filter is a triangle that is two crop pixels or two image pixels wide, whichever is more: enlarging is bilinear
    interpolation, and shrinking averages all pixels on the way, as anti-aliased resizing does.

    Args:
        image: RGB, in 0..255 if integer, else in [0, 1].
        box: centre x, centre y and side, in pixels of the image.
        size: S.

    Returns:
        RGB in [0, 1], float32, on the image's device.

    Raises:
        ValueError: if the side is not a positive number.
    """
    pixels = torch.as_tensor(image)
    centre_x, centre_y, side = box.tolist()
    if not 0.0 < side < float("inf"):
        raise ValueError(f"a box of side {side} cannot be cropped")
    rows, down = _filter(centre_y, side, size, pixels.shape[0])
    columns, across = _filter(centre_x, side, size, pixels.shape[1])
    part = pixels[rows, columns]
    part = part.float() / 255.0 if pixels.dtype == torch.uint8 else part.float()
    return down.to(part) @ part.permute(2, 0, 1) @ across.to(part).T


def bounds_of_keypoints(keypoints: Float[Tensor, "*batch J 3"]) -> Float[Tensor, "*batch 4"]:
    """The tight box around the visible joints of each pose.

    Args:
        keypoints: pixels and confidence; a joint is visible if its confidence is above 0.

    Returns:
        x0, y0, x1, y1 in pixels; NaN for a pose without visible joints.
    """
    seen = keypoints[..., 2:] > 0
    low = torch.where(seen, keypoints[..., :2], torch.inf).amin(dim=-2)
    high = torch.where(seen, keypoints[..., :2], -torch.inf).amax(dim=-2)
    return torch.where(seen.any(dim=-2), torch.cat((low, high), dim=-1), torch.nan)


def box_of_keypoints(keypoints: Float[Tensor, "*batch J 3"], scale: float = BOX_SCALE) -> Float[Tensor, "*batch 3"]:
    """The square around the visible joints of each pose: its side is `scale` times the longer side of their extent.

    Args:
        keypoints: pixels and confidence; a joint is visible if its confidence is above 0.
        scale: 1 touches the outermost joints.

    Returns:
        Centre x, centre y and side in pixels; all 0 for a pose without visible joints.
    """
    bounds = bounds_of_keypoints(keypoints)
    low, high = bounds[..., :2], bounds[..., 2:]
    box = torch.cat(((low + high) / 2.0, scale * (high - low).amax(dim=-1, keepdim=True)), dim=-1)
    return torch.where((keypoints[..., 2:] > 0).any(dim=-2), box, 0.0)


def square_box(
    bounds: Float[Tensor, "*batch 4"],
    scale: float,
    margin: float | None = None,
    image_size: Float[Tensor, "*batch 2"] | None = None,
) -> Float[Tensor, "*batch 3"]:
    """The square to be cropped around a tight box.

    Args:
        bounds: x0, y0, x1, y1 in pixels, not scaled by anything.
        scale: of the square, in longer sides of the box.
        margin: factor on both sides of the box before it is cut at the borders of the image; None if it is not cut.
        image_size: width and height; needed with a margin.

    Returns:
        Centre x, centre y and side in pixels; the side is 0 where nothing of the box is left.

    Raises:
        ValueError: if there is a margin and no `image_size`.
    """
    low, high = bounds[..., :2], bounds[..., 2:]
    if margin is not None:
        if image_size is None:
            raise ValueError("a box that is cut at the borders of the image needs image_size")
        centre, half = (low + high) / 2.0, margin * (high - low) / 2.0
        low, high = ((corner.clamp_min(0.0)).minimum(image_size) for corner in (centre - half, centre + half))
    return torch.cat(((low + high) / 2.0, scale * (high - low).amax(dim=-1, keepdim=True)), dim=-1)


def joints_in_box(
    keypoints: Float[Tensor, "*batch J 3"], box: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch J 3"]:
    """Joints in units of half the box's side, from its centre; those without confidence are zeros.

    Args:
        keypoints: pixels and confidence.
        box: centre x, centre y and side, pixels.
    """
    places = (keypoints[..., :2] - box[..., None, :2]) * 2.0 / box[..., None, 2:]
    seen = keypoints[..., 2:] > 0
    return torch.where(seen, torch.cat((places, keypoints[..., 2:]), dim=-1), 0.0)


def _filter(centre: float, side: float, size: int, length: int) -> tuple[slice, Tensor]:
    """Along one axis: the image's pixels that the crop touches (K), and their weights for each crop pixel (S, K)."""
    step = side / size  # image pixels for each crop pixel
    reach = max(step, 1.0)
    places = centre + ((torch.arange(size, dtype=torch.float64) + 0.5) / size - 0.5) * side
    first, last = int((places[0] - reach).floor()), int((places[-1] + reach).ceil())
    low, high = min(max(first, 0), length), max(min(last, length), 0)
    touched = slice(low, max(low, high))
    pixels = torch.arange(touched.start, touched.stop, dtype=torch.float64) + 0.5
    weights = (1.0 - (places[:, None] - pixels).abs() / reach).clamp_min(0.0)
    return touched, weights / _sum_of_triangle(places, reach)[:, None]


def _sum_of_triangle(places: Tensor, reach: float) -> Tensor:
    """Sum of the weights around each place, including those of the black pixels outside the image.

    In closed form, because a box can be many times as large as the image.
    """
    places = places - 0.5  # now the centres of pixels are whole numbers
    first, middle, last = (places - reach).ceil(), places.floor(), (places + reach).floor()
    before, after = middle - first + 1.0, last - middle
    distances = before * (places - (first + middle) / 2.0) + after * ((middle + 1.0 + last) / 2.0 - places)
    return before + after - distances / reach


def crop_matrix(box: Float[Tensor, "*batch 3"], size: int) -> Float[Tensor, "*batch 2 3"]:
    """From pixels of the image to those of the crop of a box.

    Args:
        box: centre x, centre y and side, pixels of the image.
        size: S.
    """
    zoom = size / box[..., 2]
    zero, half = torch.zeros_like(zoom), size / 2.0
    x = torch.stack((zoom, zero, half - zoom * box[..., 0]), dim=-1)
    y = torch.stack((zero, zoom, half - zoom * box[..., 1]), dim=-1)
    return torch.stack((x, y), dim=-2)


def compose(outer: Float[Tensor, "*#batch 2 3"], inner: Float[Tensor, "*#batch 2 3"]) -> Float[Tensor, "*batch 2 3"]:
    """The map that applies `inner` first and then `outer`."""
    linear = outer[..., :2] @ inner
    return torch.cat((linear[..., :2], linear[..., 2:] + outer[..., 2:]), dim=-1)


def invert(matrix: Float[Tensor, "*batch 2 3"]) -> Float[Tensor, "*batch 2 3"]:
    """The inverse map."""
    linear = torch.linalg.inv(matrix[..., :2])
    return torch.cat((linear, -linear @ matrix[..., 2:]), dim=-1)


def move_points(
    points: Float[Tensor, "*batch N C"], matrix: Float[Tensor, "*batch 2 3"]
) -> Float[Tensor, "*batch N C"]:
    """Applies the map to x and y of each point; the other columns stay."""
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

    Nothing is averaged: where a crop pixel is wider than a patch pixel, patch pixels between the samples are skipped.

    Args:
        pixels: RGB of the patches, as `noise2pose.batch.Patches` has them.
        sizes: height and width of each patch, none of them 0.
        matrix: from pixels of the crop to those of the patch.
        size: S.
        gain: of red, green and blue; brighter than white is white.

    Returns:
        RGB in [0, 1], float32, on the device of the pixels.
    """
    crops = torch.empty(len(sizes), 3, size, size, device=pixels.device)
    places = torch.arange(size, device=pixels.device, dtype=torch.float32) + 0.5
    # To `grid_sample` a patch reaches from -1 to 1, whatever its size.
    extent = torch.tensor([(width, height) for height, width in sizes], dtype=torch.float32).to(pixels.device)
    matrix = 2.0 * matrix.to(crops) / extent[..., None]
    # x and y as one complex number: adding these is ten times as fast as adding pairs of numbers.
    step_x, step_y, start = torch.view_as_complex(matrix.transpose(-1, -2).contiguous()).unbind(dim=-1)
    across = step_x[:, None] * places  # (B, S)
    down = step_y[:, None] * places + (start - (1.0 + 1.0j))[:, None]
    factor = torch.ones(len(sizes), 3) if gain is None else gain
    factor = (factor / 255.0).to(crops)[..., None, None]
    # Patches differ in size, so they are sampled one by one; allocating memory for each would take longer than that.
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
