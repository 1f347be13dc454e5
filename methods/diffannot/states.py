"""What the diffusion denoises: SMPL parameters as one vector of 226 numbers (section III-B of the paper).

The 24 rotation matrices row by row, the root's first, then 10 shape coefficients. A state between the steps of a chain
does not hold rotations; they are projected before a body sees them, and shape coefficients are never clipped.

Shape letters: D numbers of a state.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from noise2pose import rotations
from noise2pose.batch import Smpl

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
        project: replace each matrix by the rotation nearest to it; the release feeds the body the matrices as they are.
    """
    matrices: Tensor = state[..., :NUM_ROTATION].unflatten(-1, (NUM_JOINTS, 3, 3))
    if project:
        matrices = rotations.project_to_so3(matrices)  # pyright: ignore[reportAssignmentType]
    return {
        "global_orient": matrices[..., 0, :, :],
        "body_pose": matrices[..., 1:, :, :],
        "betas": state[..., NUM_ROTATION:],
    }
