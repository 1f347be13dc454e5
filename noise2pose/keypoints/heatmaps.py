"""Heat-maps of 2-D joints, and samples from heat-maps.

Coordinates are in cells of the grid, x to the right and y down; the centre of the first cell is (0, 0).

Shape letters: J joints, H rows, W columns, S samples.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise2pose import keyed_random
from noise2pose.errors import InputError

_STREAM = 140  # of keyed_random
_SECOND_PEAK = 0.5  # height of a second peak relative to the reported one, at confidence 0


def heatmaps(
    keypoints: Float[Tensor, "*batch J 2"], size: tuple[int, int], sigma: float
) -> Float[Tensor, "*batch J H W"]:
    """Gaussian heat-maps with peak 1, not normalised; a joint outside the grid leaves its tail on it.

    Args:
        keypoints: (..., J, 2) joints, cells.
        size: H rows and W columns.
        sigma: standard deviation, cells.
    """
    rows, columns = (torch.arange(n, dtype=keypoints.dtype, device=keypoints.device) for n in size)
    x = torch.exp(-0.5 * ((columns - keypoints[..., :1]) / sigma).square())
    y = torch.exp(-0.5 * ((rows - keypoints[..., 1:]) / sigma).square())
    return y[..., :, None] * x[..., None, :]


def detection_heatmaps(
    detections: Float[Tensor, "B J 3"],
    truth: Float[Tensor, "B J 2"],
    box: Float[Tensor, "B 3"],
    size: tuple[int, int],
    sigma: float,
    partners: Int[Tensor, " J"],
) -> Float[Tensor, "B J H W"]:
    """Heat-maps that a detector could give with the simulated detections of `noise2pose.keypoints.noise`.

    A detector reports its highest peak, and where it is not sure it responds elsewhere too: at the right place if it
    reported a wrong one, and at the left joint for the right one. So a map has the reported peak, and up to half as
    high, the less confident the higher, one at the joint's true place and one at its partner's. At most a third of a
    map is at the true place unless it is reported, and half of what is elsewhere is wrong: our assumption, not fitted
    to any detector.

    Args:
        detections: pixels and confidence.
        truth: pixels.
        box: square that the maps cover: centre x, centre y and side, pixels.
        size: H rows and W columns.
        sigma: standard deviation of a peak, cells.
        partners: the joint on the other side; a joint without one is its own.
    """
    cells = torch.tensor(size[::-1], dtype=truth.dtype, device=truth.device)

    def peaks(pixels: Tensor) -> Tensor:
        return heatmaps(((pixels - box[:, None, :2]) / box[:, None, 2:] + 0.5) * cells - 0.5, size, sigma)

    second = _SECOND_PEAK * (1.0 - detections[..., 2].clamp(0.0, 1.0))[..., None, None]
    at_truth = peaks(truth)
    paired = (partners != torch.arange(len(partners), device=partners.device))[:, None, None]
    return peaks(detections[..., :2]) + second * (at_truth + paired * at_truth[:, partners])


def sample_heatmaps(
    maps: Float[Tensor, "B *batch J H W"], keys: Int[Tensor, " B"], num_samples: int, seed: int = 0
) -> Float[Tensor, "B *batch S J 2"]:
    """Samples positions of joints: a cell in proportion to its value, then uniformly within the cell.

    Joints are sampled independently. The samples of an image depend on its key and the seed, not on the batch.

    Args:
        maps: (B, ..., J, H, W) any values that are not negative, in any scale.
        keys: (B,) of `keyed_random`.
        num_samples: S.
        seed: which repetition of the experiment this is.

    Returns:
        (B, ..., S, J, 2) cells.

    Raises:
        InputError: if a map has a negative value, NaN or infinity, or is zero everywhere.
    """
    width = maps.shape[-1]
    # Double precision, because single would lose the small cells of a large map in the running sum.
    cumulative = maps.flatten(-2).double().cumsum(dim=-1)
    total = cumulative[..., -1:]
    # Comparisons with NaN are false, so this refuses NaN too.
    if bad := int((~((maps.flatten(-2) >= 0).all(dim=-1) & (total[..., 0] > 0) & total[..., 0].isfinite())).sum()):
        raise InputError(f"heat-maps: {bad} of {total.numel()} have negative values, NaN or infinity, or are all zero")
    shape = (*maps.shape[1:-2], num_samples, 3)
    uniform = keyed_random.uniform(keys, shape, stream=_STREAM, seed=seed)
    cell = torch.searchsorted(cumulative, uniform[..., 0].double() * total, right=True)
    within = uniform[..., 1:].to(maps.dtype) - 0.5
    corner = torch.stack((cell % width, cell // width), dim=-1).to(maps.dtype)
    return (corner + within).transpose(-2, -3)
