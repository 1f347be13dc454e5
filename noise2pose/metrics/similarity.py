"""Object keypoint similarity (OKS) and average precision of COCO, for one person an image.

OKS = mean over the joints that count of exp(-d^2 / (2 A k^2)), with d the distance in pixels, A the area of the person
in square pixels and k twice COCO's sigma of the joint (cocodataset.org, keypoint evaluation).

Shape letters: J joints.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from noise2pose.keypoints.noise import coco_sigmas

THRESHOLDS = tuple(0.5 + 0.05 * number for number in range(10))
BOX_SHARE = 0.53  # area of a person in areas of their box, where the outline is not known (COCO's people on average)
_LEAST_AREA = 1.0  # square pixels
_ROUNDING = 1e-6  # a similarity of exactly a threshold passes it


def oks(
    pred: Float[Tensor, "*#batch J 2"],
    target: Float[Tensor, "*#batch J 2"],
    area: Float[Tensor, "*#batch"],
    valid: Shaped[Tensor, "*#batch J"],
    skeleton: str = "coco_17",
) -> Float[Tensor, "*batch"]:
    """Object keypoint similarity of two poses, in [0, 1].

    Args:
        pred: pixels.
        target: pixels.
        area: of the person, square pixels; positive.
        valid: positive for joints that count; what the others hold does not matter.
        skeleton: of the joints.

    Returns:
        NaN for a pose without a joint that counts.

    Raises:
        InputError: if a joint of the skeleton has no sigma.
    """
    return similarity_of(in_similarity(pred, area, skeleton), in_similarity(target, area, skeleton), valid)


def in_similarity(
    points: Float[Tensor, "*#batch J 2"], area: Float[Tensor, "*#batch"], skeleton: str
) -> Float[Tensor, "*batch J 2"]:
    """Points in units in which two of them at a distance d have the similarity exp(-d^2).

    Args:
        points: pixels.
        area: of the person, square pixels.
        skeleton: of the joints.

    Raises:
        InputError: if a joint of the skeleton has no sigma.
    """
    spread = 2.0 * coco_sigmas(skeleton).to(points)
    return points / ((2.0 * area).sqrt()[..., None] * spread)[..., None]


def similarity_of(
    pred: Float[Tensor, "*#batch J 2"], target: Float[Tensor, "*#batch J 2"], valid: Shaped[Tensor, "*#batch J"]
) -> Float[Tensor, "*batch"]:
    """`oks` of points in the units of `in_similarity`."""
    counted = valid > 0
    squares = torch.where(counted, (pred - target).square().sum(dim=-1), 0.0)
    return torch.where(counted, torch.exp(-squares), 0.0).sum(dim=-1) / counted.sum(dim=-1)


def precision_of(
    pred: Float[Tensor, "*#batch J 2"], target: Float[Tensor, "*#batch J 2"], valid: Shaped[Tensor, "*#batch J"]
) -> Float[Tensor, "*batch"]:
    """`average_precision` of points in the units of `in_similarity`."""
    return average_precision(similarity_of(pred, target, valid))


def average_precision(similarity: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """AP of an image with one person and one detection: the share of the thresholds .50, .55, ..., .95 that OKS passes.

    Returns:
        In {0, 0.1, ..., 1}; NaN where the similarity is NaN.
    """
    thresholds = torch.tensor(THRESHOLDS, dtype=similarity.dtype, device=similarity.device)
    share = (similarity[..., None] >= thresholds - _ROUNDING).to(similarity.dtype).mean(dim=-1)
    return torch.where(similarity.isnan(), similarity, share)


def area_of(bounds: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch"]:
    """The area of a person in square pixels, from the tight box around their keypoints; at least one.

    Args:
        bounds: x0, y0, x1, y1 in pixels; NaN gives the least.
    """
    area = BOX_SHARE * (bounds[..., 2:] - bounds[..., :2]).prod(dim=-1)
    return torch.where(area > _LEAST_AREA, area, _LEAST_AREA)
