"""One detection for each person: boxes that overlap, and poses that agree, are the same person.

Shape letters: P detections, Q others, J joints.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noise2pose.keypoints.noise import coco_sigmas

_SPREAD = 2.0 * coco_sigmas("coco_17").float()  # in square roots of the person's area


def overlaps(boxes: Float[Tensor, "P 4"], others: Float[Tensor, "Q 4"]) -> Float[Tensor, "P Q"]:
    """Intersection over union of every two boxes (x0, y0, x1, y1); 0 for boxes without area."""
    low = torch.maximum(boxes[:, None, :2], others[:, :2])
    high = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = (high - low).clamp_min(0.0).prod(dim=-1)
    areas = [(each[:, 2:] - each[:, :2]).clamp_min(0.0).prod(dim=-1) for each in (boxes, others)]
    return shared / (areas[0][:, None] + areas[1] - shared).clamp_min(1e-12)


def suppress(similar: Bool[Tensor, "P P"], scores: Float[Tensor, " P"]) -> Int[Tensor, " Q"]:
    """Greedy suppression: the most certain detection stays, those similar to it go, and so on.

    Args:
        similar: which two detections are of the same person.
        scores: of the detections; of equal ones the first counts as the more certain.

    Returns:
        Rows that stay, the most certain first.
    """
    order = scores.argsort(descending=True, stable=True)
    similar = similar[order][:, order]
    left = torch.ones(len(order), dtype=torch.bool)
    for row in range(len(order)):
        if left[row]:
            left[row + 1 :] &= ~similar[row, row + 1 :]
    return order[left]


def suppress_boxes(boxes: Float[Tensor, "P 4"], scores: Float[Tensor, " P"], most: float) -> Int[Tensor, " Q"]:
    """Rows of the boxes that stay where two overlap by more than `most` (intersection over union)."""
    return suppress(overlaps(boxes, boxes) > most, scores)


def pose_similarity(poses: Float[Tensor, "P 17 3"], others: Float[Tensor, "Q 17 3"]) -> Float[Tensor, "P Q"]:
    """Object keypoint similarity of COCO between every two poses, over the joints that both see.

    The area is that of the box around the smaller of the two. Poses that share fewer than three joints are not
    compared: 0.

    Args:
        poses: (P, 17, 3) in the order of coco_17, pixels and confidence.
        others: (Q, 17, 3) the same.
    """
    both = (poses[:, None, :, 2] > 0) & (others[:, :, 2] > 0)
    areas = torch.minimum(_areas(poses)[:, None], _areas(others)).clamp_min(1.0)
    squares = (poses[:, None, :, :2] - others[:, :, :2]).square().sum(dim=-1)
    agreement = torch.exp(-squares / (2.0 * areas[..., None] * _SPREAD.square()))
    count = both.sum(dim=-1)
    return torch.where(count >= 3, (agreement * both).sum(dim=-1) / count.clamp_min(1), 0.0)


def _areas(poses: Float[Tensor, "P 17 3"]) -> Float[Tensor, " P"]:
    seen = poses[..., 2:] > 0
    low = torch.where(seen, poses[..., :2], torch.inf).amin(dim=1)
    high = torch.where(seen, poses[..., :2], -torch.inf).amax(dim=1)
    return (high - low).clamp_min(0.0).prod(dim=-1)
