"""The terms that the paper adds to the diffusion loss (section III-E), with gradients through the body.

Shape letters: B batch, D numbers of a state, J joints.
"""

from jaxtyping import Float
from torch import Tensor

from methods.diffannot.reprojection import Keypoints
from methods.diffannot.states import PosedBody
from noise2pose.metrics import functional

_ROBUST_SCALE = 0.2  # box sides; the error of an estimate from pure noise is large and must not dominate


def loss_3d(
    posed_body: PosedBody, start: Float[Tensor, "B D"], target: Float[Tensor, "B J 4"], level: Float[Tensor, " B"]
) -> Float[Tensor, ""]:
    """L_3D: PA-MPJPE of the estimated x_0 in metres, of the samples with 3-D joints.

    The weight is alpha-bar of each sample's time, because nothing can be estimated from pure noise. The release
    measures the predicted noise instead, without a gradient.

    Args:
        posed_body: of the states.
        start: estimates of x_0.
        target: joints and their validity.
        level: alpha-bar.
    """
    valid = target[..., 3] > 0
    known = valid.sum(dim=-1) >= 3  # fewer joints can be aligned exactly
    joints = posed_body.joints(start[known])
    error = functional.pa_mpjpe(joints, target[known, :, :3], valid[known])
    return (level[known] * error).sum() / max(int(known.sum()), 1)


def loss_2d(
    posed_body: PosedBody,
    start: Float[Tensor, "B D"],
    keypoints: Keypoints,
    translation: Float[Tensor, "B 3"],
    level: Float[Tensor, " B"],
) -> Float[Tensor, ""]:
    """L_2D: robust reprojection error of the estimated x_0 with the front end's camera; 0 without visible joints.

    Args:
        posed_body: of the states.
        start: estimates of x_0.
        keypoints: 2-D evidence.
        translation: of the front end's camera, metres.
        level: alpha-bar.
    """
    error = keypoints.robust(keypoints.project(posed_body.joints(start), translation), _ROBUST_SCALE)
    return (level * error).mean()
