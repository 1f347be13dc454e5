"""The baseline without a network: body parameters are optimised to the same 2-D keypoints with a prior.

It follows SMPLify (Bogo et al., "Keep it SMPL", ECCV 2016) as SPIN initialises it: from a regressed body, first its
orientation, then everything, with a robust reprojection error, a prior of poses and one of shapes. SMPLify's mixture of
poses is not free; the prior here is one Gaussian with full covariance, fitted to the training poses.

Shape letters: N training states, B samples, D numbers of a state, P = 69 angles of the body's pose.
"""

from typing import NamedTuple

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from methods.diffannot.reprojection import Keypoints
from methods.diffannot.states import PosedBody, to_smpl, to_state

_SHRINKAGE = 0.05**2  # radians squared, added to the variances, so that poses unlike the training data are possible


class PosePrior(NamedTuple):
    """A Gaussian of the axis-angles below the root, and a standard normal of shape coefficients.

    Attributes:
        mean: (P,) radians.
        precision: (P, P).
    """

    mean: Float[Tensor, " P"]
    precision: Float[Tensor, "P P"]

    @classmethod
    def fit(cls, states: Float[Tensor, "N D"]) -> "PosePrior":
        """The prior of training states."""
        poses = roma.rotmat_to_rotvec(to_smpl(states, project=False)["body_pose"]).flatten(1).double()
        covariance = poses.T.cov() + _SHRINKAGE * torch.eye(poses.shape[1], dtype=poses.dtype, device=poses.device)
        return cls(poses.mean(dim=0).to(states), torch.linalg.inv(covariance).to(states))

    def energy(self, pose: Float[Tensor, "B P"], betas: Float[Tensor, "B S"]) -> Float[Tensor, " B"]:
        """Half the squared Mahalanobis distance of pose and shape."""
        offset = pose - self.mean
        return 0.5 * ((offset @ self.precision * offset).sum(dim=-1) + betas.square().sum(dim=-1))


def fit_to_keypoints(
    theta: Float[Tensor, "B D"],
    posed_body: PosedBody,
    keypoints: Keypoints,
    prior: PosePrior,
    strength: float = 300.0,
    scale: float = 0.1,
    iterations: tuple[int, int] = (10, 30),
    learning_rate: float = 0.003,
) -> Float[Tensor, "B D"]:
    """Fits bodies to keypoints, each independently of the others.

    Args:
        theta: initial states.
        posed_body: of the states.
        keypoints: 2-D evidence.
        prior: of poses.
        strength: of the reprojection error against the prior.
        scale: of the robust error, in box sides.
        iterations: of Adam, on the orientation, then on all parameters.
        learning_rate: of Adam, radians.
    """
    with torch.inference_mode(False), torch.enable_grad():  # predictions run in inference mode, without gradients
        keypoints = keypoints.for_gradients()
        return _fit(theta.clone(), posed_body, keypoints, prior, strength, scale, iterations, learning_rate)


def _fit(
    theta: Float[Tensor, "B D"],
    posed_body: PosedBody,
    keypoints: Keypoints,
    prior: PosePrior,
    strength: float,
    scale: float,
    iterations: tuple[int, int],
    learning_rate: float,
) -> Float[Tensor, "B D"]:
    smpl = to_smpl(theta)
    orient = roma.rotmat_to_rotvec(smpl["global_orient"])
    pose = roma.rotmat_to_rotvec(smpl["body_pose"]).flatten(1)
    betas = smpl["betas"].clone()

    def state() -> Tensor:
        return to_state(
            {
                "global_orient": roma.rotvec_to_rotmat(orient),
                "body_pose": roma.rotvec_to_rotmat(pose.unflatten(1, (-1, 3))),
                "betas": betas,
            }
        )

    for count, variables in zip(iterations, ([orient], [orient, pose, betas]), strict=True):
        for variable in variables:
            variable.requires_grad_()
        optimizer = torch.optim.Adam(variables, lr=learning_rate)
        for _ in range(count):
            data = keypoints.robust(keypoints.project(posed_body.joints(state())), scale)
            # Summed over the samples: with a mean, the gradient of one would depend on their number.
            loss = (strength * data + prior.energy(pose, betas)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return state().detach()
