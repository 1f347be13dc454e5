"""What the diffusion denoises: SMPL parameters as one vector of 226 numbers (section III-B of the paper).

The vector holds the 24 rotation matrices row by row, the root's first, then 10 shape coefficients. A state between the
steps of a chain does not hold rotations; they are projected before a body is posed.

Shape letters: B batch, D numbers of a state, J joints, C numbers of a condition.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose.batch import PoseBatch, Smpl
from noise2pose.bodies import BodyModel
from noise2pose.images.crops import joints_in_box
from noise2pose.rotations import nearest_rotation

Condition = Literal["none", "frontend", "keypoints", "both"]

NUM_JOINTS = 24
NUM_ROTATION = 9 * NUM_JOINTS
STATE_SIZE = NUM_ROTATION + 10


def to_state(smpl: Smpl) -> Float[Tensor, "*batch D"]:
    """The vector of SMPL parameters."""
    matrices = torch.cat((smpl["global_orient"][..., None, :, :], smpl["body_pose"]), dim=-3)
    return torch.cat((matrices.flatten(-3), smpl["betas"]), dim=-1)


def to_smpl(state: Float[Tensor, "*batch D"], project: bool = True) -> Smpl:
    """SMPL parameters of a vector.

    Args:
        state: (..., 226).
        project: replace each matrix by the nearest rotation; the release gives the matrices to the body unchanged.
    """
    matrices: Tensor = state[..., :NUM_ROTATION].unflatten(-1, (NUM_JOINTS, 3, 3))
    if project:
        matrices = nearest_rotation(matrices)
    return {
        "global_orient": matrices[..., 0, :, :],
        "body_pose": matrices[..., 1:, :, :],
        "betas": state[..., NUM_ROTATION:],
    }


@dataclass(frozen=True)
class PosedBody:
    """The joints of a body in the poses of states.

    Attributes:
        body: of the states.
        skeleton: name of its joint regressor.
        project: make rotations of the matrices first; see `to_smpl`.
    """

    body: BodyModel
    skeleton: str
    project: bool

    def joints(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B J 3"]:
        """Joints in the camera's orientation, metres, before any translation."""
        smpl = to_smpl(state, self.project)
        return self.body.joints(smpl["global_orient"], smpl["body_pose"], smpl["betas"], regressor=self.skeleton)


def condition_size(condition: Condition, num_joints: int) -> int:
    """Numbers C of a condition, for a skeleton of `num_joints`."""
    sizes = {"none": 0, "frontend": STATE_SIZE, "keypoints": 3 * num_joints, "both": STATE_SIZE + 3 * num_joints}
    return sizes[condition]


def condition_of(
    condition: Condition, theta: Float[Tensor, "B D"] | None, mean: Float[Tensor, " D"], batch: PoseBatch
) -> Float[Tensor, "B C"] | None:
    """The condition of each sample, centred on zero; None for the condition `none`.

    Args:
        condition: its parts.
        theta: the front end's states; needed where they are a part.
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
