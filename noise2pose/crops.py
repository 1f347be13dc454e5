"""Square boxes around people: from their joints, their joints in them, and crops of pictures.

A picture is a plane of pixels of side 1: the pixel in column 0 covers x from 0 to 1 and its centre is at x = 0.5, so
the picture ends at x = width. Boxes and keypoints are in these coordinates, as is a principal point at half the size.

Shape letters: H, W picture; S side of the crop; J joints.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

BOX_SCALE = 1.2  # of SPIN's and HMR's boxes, in longer sides of the keypoints' extent
BoxRule = Literal["keypoints", "mask", "detector", "dpmesh"]
_RULES: dict[str, float] = {
    "keypoints": BOX_SCALE,
    "mask": 0.9,  # SPIN's boxes of Human3.6M, from the masks of its background subtraction
    "detector": 1.25,  # HMR's and mmhuman3d's demo, from the boxes of a detector
    "dpmesh": 1.1,  # JOTR's and DPMesh's tests, after both sides were scaled by 1.2 and clipped to the picture
}
_DPMESH_SIDES = 1.2


def crop(
    image: UInt8[np.ndarray, "H W 3"] | UInt8[Tensor, "H W 3"] | Float[Tensor, "H W 3"],
    box: Float[Tensor, "3"],
    size: int = 224,
) -> Float[Tensor, "3 S S"]:
    """A square of a picture, resized; black outside the picture.

    The filter is a triangle that is two crop pixels or two picture pixels wide, whichever is more: enlarging is
    bilinear interpolation, and shrinking averages all pixels on the way, as anti-aliased resizing does.

    Args:
        image: RGB, in 0..255 if integer, else in [0, 1].
        box: centre x, centre y and side, in pixels of the picture.
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


def box_of_keypoints(keypoints: Float[Tensor, "*batch J 3"], scale: float = BOX_SCALE) -> Float[Tensor, "*batch 3"]:
    """The square around the visible joints of each pose: its side is `scale` times the longer side of their extent.

    Args:
        keypoints: pixels and confidence; a joint is visible if its confidence is above 0.
        scale: 1 touches the outermost joints.

    Returns:
        Centre x, centre y and side in pixels; all 0 for a pose without visible joints.
    """
    seen = keypoints[..., 2:] > 0
    low = torch.where(seen, keypoints[..., :2], torch.inf).amin(dim=-2)
    high = torch.where(seen, keypoints[..., :2], -torch.inf).amax(dim=-2)
    box = torch.cat(((low + high) / 2.0, scale * (high - low).amax(dim=-1, keepdim=True)), dim=-1)
    return torch.where(seen.any(dim=-2), box, 0.0)


def square_box(
    bounds: Float[Tensor, "*batch 4"], rule: BoxRule, image_size: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch 3"]:
    """The square box of a tight one, scaled once by the rule of those who published numbers with it.

    Args:
        bounds: x0, y0, x1, y1, pixels.
        rule: whose.
        image_size: width and height, pixels.

    Returns:
        Centre x, centre y and side, pixels.
    """
    low, high = bounds[..., :2], bounds[..., 2:]
    if rule == "dpmesh":
        centre, half = (low + high) / 2.0, _DPMESH_SIDES * (high - low) / 2.0
        low, high = (centre - half).clamp_min(0.0), torch.minimum(centre + half, image_size)
    side = _RULES[rule] * (high - low).amax(dim=-1, keepdim=True)
    return torch.cat(((low + high) / 2.0, side), dim=-1)


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
    """Along one axis: the picture's pixels that the crop touches (K), and their weights for each crop pixel (S, K)."""
    step = side / size  # picture pixels for each crop pixel
    reach = max(step, 1.0)
    places = centre + ((torch.arange(size, dtype=torch.float64) + 0.5) / size - 0.5) * side
    first, last = int((places[0] - reach).floor()), int((places[-1] + reach).ceil())
    pixels = torch.arange(first, last, dtype=torch.float64) + 0.5
    weights = (1.0 - (places[:, None] - pixels).abs() / reach).clamp_min(0.0)
    weights = weights / weights.sum(dim=1, keepdim=True)  # also over what lies outside, which is black
    low, high = min(max(first, 0), length), max(min(last, length), 0)
    return slice(low, max(low, high)), weights[:, low - first : max(low, high) - first]
