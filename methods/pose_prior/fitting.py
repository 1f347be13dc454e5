"""Bodies fitted to 2-D keypoints of one or several views, with the denoiser as the prior of their poses.

The most probable pose is looked for under a blurred prior whose blur sigma is made smaller from step to step, so that
the first steps see few, wide maxima. The gradient of the logarithm of such a density is what a denoiser knows,
(D(x, sigma) - x) / sigma^2 (Vincent, "A connection between score matching and denoising autoencoders", 2011), so a step
costs one call of it. For a normal distribution this is the prior of SMPLify (Bogo et al., ECCV 2016).

Shape letters: B batch, J joints of the skeleton, D numbers of a state.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from methods.pose_prior.denoiser import LinearDenoiser, to_pose
from methods.pose_prior.sampling import levels
from methods.pose_prior.views import Views
from noise2pose import rotations
from noise2pose.batch import Smpl
from noise2pose.bodies import BodyModel

_NUM_BETAS = 10  # coefficients of the shape that are fitted


@dataclass(frozen=True)
class Guidance:
    """Settings of a fit.

    Attributes:
        strength: weight of the error of the keypoints against the prior.
        scale: of the robust error, box sides; a keypoint several times further away has little influence.
        iterations: of Adam, one call of the denoiser each.
        learning_rate: of Adam, for the numbers of a state, of the root and of the shape alike; it falls to a tenth.
        largest: blur of the prior at first, radians.
        least: blur of the prior at last.
    """

    strength: float
    scale: float
    iterations: int
    learning_rate: float
    largest: float
    least: float


class Fitted(NamedTuple):
    """Bodies.

    Attributes:
        smpl: parameters, in the frame of the first view.
        joints: of the skeleton, before the translation, metres.
        translation: metres.
        cost: what was minimised, at the last step.
    """

    smpl: Smpl
    joints: Float[Tensor, "B J 3"]
    translation: Float[Tensor, "B 3"]
    cost: Float[Tensor, " B"]


@torch.inference_mode(False)  # predictions run in it, and it has no gradients
def fit_to_views(
    denoiser: LinearDenoiser,
    views: Views,
    body: BodyModel,
    skeleton: str,
    state: Float[Tensor, "B D"],
    orient: Float[Tensor, "B 3 3"],
    guidance: Guidance,
) -> Fitted:
    """Fits bodies, each independently of the others.

    Args:
        denoiser: of the prior.
        views: 2-D keypoints.
        body: whose joints are compared.
        skeleton: of the keypoints, a regressor of the body.
        state: poses to start from.
        orient: rotations of the root to start from.
        guidance: settings.
    """
    views = Views(*(part.clone() for part in views))  # outside inference mode
    state, root = state.clone(), rotations.rotmat_to_interleaved_6d(orient).clone()
    betas = state.new_zeros(len(state), _NUM_BETAS)
    variables = [state, root, betas]
    cost = state.new_zeros(len(state))

    def smpl() -> Smpl:
        return {
            "global_orient": rotations.interleaved_6d_to_rotmat(root),
            "body_pose": to_pose(state),
            "betas": betas,
        }

    with torch.enable_grad():
        for variable in variables:
            variable.requires_grad_()
        optimizer = torch.optim.Adam(variables, lr=guidance.learning_rate)
        blurs = levels(guidance.iterations, guidance.largest, guidance.least)
        rates = levels(guidance.iterations, guidance.learning_rate, guidance.learning_rate / 10.0)
        for sigma, rate in zip(blurs, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            with torch.no_grad():
                likely = denoiser(state, state.new_full((len(state),), sigma))
            joints = body.joints(**smpl(), regressor=skeleton)
            with torch.no_grad():
                place = views.place(joints)
            prior = ((state - likely) / sigma).square().sum(dim=-1) + betas.square().sum(dim=-1)
            cost = guidance.strength * views.distance(joints, place, guidance.scale) + 0.5 * prior
            optimizer.zero_grad()
            cost.sum().backward()  # with a mean, the gradient of a body would depend on their number
            optimizer.step()
    for variable in variables:
        variable.requires_grad_(False)
    answer = smpl()
    joints = body.joints(**answer, regressor=skeleton)
    return Fitted(answer, joints, views.place(joints), cost.detach())
