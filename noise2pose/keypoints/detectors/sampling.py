"""Parts of images as a network wants them: resized with averaging, from no more pixels than they need.

Shape letters: H, W image; h, w input of a network; S side of a square input.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from noise2pose.keypoints.detectors.contract import Region, turn

_SKIPPED = 3.0  # pixels of the image between two of a network's input


class Window(NamedTuple):
    """A part of an image that becomes the input of a network; it may reach over the border.

    Attributes:
        corner: (2,) x and y of its upper left corner, pixels of the image.
        extent: (2,) width and height, pixels of the image.
        size: width and height of the input.
    """

    corner: Float[Tensor, "2"]
    extent: Float[Tensor, "2"]
    size: tuple[int, int]

    def in_image(self, points: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Points in pixels of the input, in pixels of the image."""
        return points * (self.extent / torch.tensor(self.size)) + self.corner


def letterbox(width: int, height: int, size: tuple[int, int], centred: bool = True) -> Window:
    """The whole image in an input of another shape: padded at both ends, or after its end.

    Args:
        width: of the image.
        height: of the image.
        size: width and height of the input.
        centred: whether the padding is on both sides.
    """
    image, wanted = torch.tensor([width, height]).float(), torch.tensor(size).float()
    extent = wanted * (image / wanted).max()
    return Window((image - extent) / 2.0 if centred else torch.zeros(2), extent, size)


def around(box: Float[Tensor, "4"], margin: float, size: tuple[int, int]) -> Window:
    """A box with a margin, made longer on one side to the shape of the input.

    Args:
        box: x0, y0, x1, y1 in pixels of the image.
        margin: factor on the sides of the box.
        size: width and height of the input.
    """
    extent, wanted = margin * (box[2:] - box[:2]).clamp_min(1.0), torch.tensor(size).float()
    extent = wanted * (extent / wanted).max()
    return Window((box[:2] + box[2:] - extent) / 2.0, extent, size)


def part_of(
    image: UInt8[np.ndarray, "H W 3"], box: Float[Tensor, "4"], margin: float
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[Tensor, "2"]]:
    """The pixels of a box, and where their corner is in the image: without the neighbours of a person in a group.

    Args:
        image: RGB.
        box: x0, y0, x1, y1 in pixels.
        margin: added on each side, in sides of the box.
    """
    wider = margin * (box[2:] - box[:2])
    (left, top), (right, bottom) = (box[:2] - wider).floor().int().tolist(), (box[2:] + wider).ceil().int().tolist()
    left, top = (min(max(start, 0), length - 1) for start, length in ((left, image.shape[1]), (top, image.shape[0])))
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    return part, torch.tensor([left, top]).float()


def cut(image: UInt8[np.ndarray, "H W 3"], window: Window, fill: int) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a window, resized with a filter that averages what it shrinks.

    Args:
        image: RGB.
        window: in it.
        fill: grey value outside the image.
    """
    step = (window.extent / torch.tensor(window.size)).tolist()
    spans = []
    for axis, length in enumerate((image.shape[1], image.shape[0])):
        start, size = float(window.corner[axis]), window.size[axis]
        # Pixels of the input that lie in the image; a thousandth of one over its border is rounding.
        first = max(0, int(np.ceil(-start / step[axis] - 1e-3)))
        last = min(size, int(np.floor((length - start) / step[axis] + 1e-3)))
        low, high = (min(max(start + edge * step[axis], 0.0), length) for edge in (first, last))
        spans.append((first, max(first, last), low, high))
    (left, right, x0, x1), (top, bottom, y0, y1) = spans
    result = np.full((window.size[1], window.size[0], 3), fill, dtype=np.uint8)
    if right > left and bottom > top:
        margin = [int(np.ceil(2.0 * each)) + 1 for each in step]
        column, row = max(0, int(x0) - margin[0]), max(0, int(y0) - margin[1])
        part = image[row : int(np.ceil(y1)) + margin[1], column : int(np.ceil(x1)) + margin[0]]
        resized = Image.fromarray(np.ascontiguousarray(part)).resize(
            (right - left, bottom - top),
            Image.Resampling.BILINEAR,
            box=(x0 - column, y0 - row, x1 - column, y1 - row),
            reducing_gap=3.0,
        )
        result[top:bottom, left:right] = np.asarray(resized)
    return result


def turned_crop(image: UInt8[np.ndarray, "H W 3"], region: Region, size: int, outside: str) -> Float[Tensor, "3 S S"]:
    """The region of an image, upright, sampled as BlazePose's pipeline does: at corners of cells, not at centres.

    Args:
        image: RGB.
        region: to cut out.
        size: S.
        outside: `zeros` for black outside the image, `border` for its nearest pixel.

    Returns:
        RGB in [0, 1].
    """
    # Averaged first where sampling would skip most of the pixels, unlike in the published pipeline.
    step = max(1, int(region.side / size / _SKIPPED))
    part, corner = _bounding(image, region, step)
    if step > 1:
        part = np.asarray(Image.fromarray(np.ascontiguousarray(part)).reduce(step))
    pixels = torch.from_numpy(np.array(part)).permute(2, 0, 1)[None].float() / 255.0
    width_height = step * torch.tensor([pixels.shape[3], pixels.shape[2]])
    places = torch.arange(size) / size - 0.5
    grid = torch.stack(torch.meshgrid(places, places, indexing="xy"), dim=-1).flatten(0, 1)
    grid = turn(grid, region.angle) * region.side + region.centre - corner + 0.5
    grid = (2.0 * grid / width_height - 1.0).view(1, size, size, 2)
    return grid_sample(pixels, grid, padding_mode=outside, align_corners=False)[0]


def _bounding(image: np.ndarray, region: Region, step: int) -> tuple[np.ndarray, Tensor]:
    """The part of the image that a region touches, at least one pixel; and its corner, a multiple of the step."""
    square = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    corners = turn(square, region.angle) * region.side + region.centre
    spans = []
    for axis, length in enumerate((image.shape[1], image.shape[0])):
        low = min(max(int(corners[:, axis].min()) - 2 * step, 0), length - 1) // step * step
        spans.append((low, max(min(int(corners[:, axis].max()) + 2 * step + 2, length), low + 1)))
    (left, right), (top, bottom) = spans
    return image[top:bottom, left:right], torch.tensor([left, top]).float()
