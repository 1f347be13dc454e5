"""Identities that are things: the foot of a table in which a pose network sees a person with confidence.

Neither confidence nor the number of joints tells them: in a room with a table its foot had hips of confidence 1. What
they have in common: they stay where they are, are small beside the people of the video, and lie. Somebody who sits far
away is upright, who lies near is large, and who walks far away moves, so all three have to be true.

Shape letters: T poses, J joints.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from noise2pose.tracking.identities import boxes_of

_PLACE = 0.75  # of the longer side of the box: the middle of nobody who moves stays within it
_SMALL = 0.3  # of the longer side of the largest person of the video


def are_things(people: Sequence[Float[torch.Tensor, "T J 3"]]) -> list[bool]:
    """Which identities of a video are not believed to be people; never the largest one.

    Args:
        people: pixels and confidence of the poses of each.
    """
    boxes = [boxes_of(points).numpy() for points in people]
    sides = [np.median(box[:, 2:] - box[:, :2], axis=0) for box in boxes]
    largest = max((side.max() for side in sides), default=0.0)
    middles = [(box[:, :2] + box[:, 2:]) / 2.0 for box in boxes]
    return [
        bool(
            side.max() < _SMALL * largest
            and side[0] >= side[1]
            and (np.quantile(middle, 0.95, axis=0) - np.quantile(middle, 0.05, axis=0)).max() < _PLACE * side.max()
        )
        for side, middle in zip(sides, middles, strict=True)
    ]
