"""What the denoiser may be told beside the state, so that it denoises towards this person and not towards any.

Shape letters: B batch, D numbers of a state, J joints, C numbers of a condition.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.diffannot.states import STATE_SIZE
from noise2pose.batch import PoseBatch
from noise2pose.crops import joints_in_box

Condition = Literal["none", "frontend", "keypoints", "both"]


def condition_size(condition: Condition, num_joints: int) -> int:
    """C."""
    return {"none": 0, "frontend": STATE_SIZE, "keypoints": 3 * num_joints, "both": STATE_SIZE + 3 * num_joints}[
        condition
    ]


def condition_of(
    condition: Condition, theta: Float[Tensor, "B D"] | None, mean: Float[Tensor, " D"], batch: PoseBatch
) -> Float[Tensor, "B C"] | None:
    """The condition of each sample, centred on zero; None where there is none.

    Args:
        condition: of which parts it consists.
        theta: the front end's states, where the condition has them.
        mean: of the training states.
        batch: its 2-D keypoints are taken as `joints_in_box` gives them.
    """
    parts = []
    if condition in ("frontend", "both"):
        assert theta is not None
        parts.append(theta - mean)
    if condition in ("keypoints", "both"):
        parts.append(joints_in_box(batch["keypoints_2d"], batch["box"]).flatten(1))
    return torch.cat(parts, dim=-1) if parts else None
