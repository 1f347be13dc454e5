"""Bodies fitted to 2-D keypoints without ground truth: guided by the denoiser, and a baseline without a network.

Guided: the denoiser is the prior, and the keypoints guide each of its steps. As in score-guided fitting (ScoreHMR,
Stathopoulos et al., CVPR 2024), but the data term is not one gradient step on the noise: at each time the estimate of
x_0 is moved to where the reprojection error and the distance from the denoiser's proposal balance (a proximal step, as
DiffPIR, Zhu et al., CVPRW 2023), which needs no step size for each noise level.

The baseline follows SMPLify (Bogo et al., "Keep it SMPL", ECCV 2016) as SPIN initialises it: from a regressed body,
first its orientation, then everything, with a robust reprojection error, a prior of poses and one of shapes. SMPLify's
mixture of poses is not free; the prior here is one Gaussian with full covariance, fitted to the training poses.

Shape letters: N training states, B samples, D numbers of a state, P = 69 angles of the body's pose.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from methods.diffannot.diffusion import GaussianDiffusion
from methods.diffannot.reprojection import Keypoints
from methods.diffannot.states import PosedBody, to_smpl, to_state

Denoise = Callable[[Tensor, int], Tensor]  # (state (B, D), time) -> noise (B, D)

_SHRINKAGE = 0.05**2  # radians squared, added to the variances, so that poses unlike the training data are possible


@dataclass(frozen=True)
class Guidance:
    """Settings of the guidance.

    Attributes:
        start: first time of each round; the front end's answer, or the last round's, is taken as x_start.
        stride: between the times of a round.
        rounds: number of runs of the chain.
        strength: weight of the reprojection error against the prior.
        scale: of the robust error, in box sides; a keypoint several times further away has little influence.
        doubt: how much less a keypoint counts that is not certain, see `Keypoints.robust`.
        iterations: of Adam in each proximal step.
        learning_rate: of Adam, in units of the state.
    """

    start: int = 60
    stride: int = 10
    rounds: int = 1
    strength: float = 300.0
    scale: float = 0.1
    doubt: float = 0.0
    iterations: int = 10
    learning_rate: float = 0.01

    @property
    def times(self) -> list[int]:
        """Times of one round, from the noisiest."""
        return list(range(0, self.start, self.stride))[::-1]


@torch.inference_mode(False)  # predictions run in it, and it has no gradients
@torch.no_grad()
def guided(
    diffusion: GaussianDiffusion,
    denoise: Denoise | None,
    theta: Float[Tensor, "B D"],
    posed_body: PosedBody,
    keypoints: Keypoints,
    guidance: Guidance,
) -> Float[Tensor, "B D"]:
    """Refines states, each independently of the others.

    Args:
        diffusion: schedule of the denoiser.
        denoise: (state, time) -> noise; None for the null control, whose prior is the state itself.
        theta: the front end's states.
        posed_body: of the states.
        keypoints: 2-D evidence.
        guidance: settings.
    """
    state, keypoints = theta.clone(), keypoints.for_gradients()
    times = guidance.times
    for _ in range(guidance.rounds):
        for time, following in zip(times, [*times[1:], -1], strict=True):
            level = diffusion.alphas_cumprod[time].to(state.dtype)
            proposal = state if denoise is None else diffusion.start_from_noise(state, time, denoise(state, time))
            clean = _nearest_that_fits(proposal, (1.0 - level) / level, posed_body, keypoints, guidance)
            if following < 0 or denoise is None:
                state = clean
                continue
            next_level = diffusion.alphas_cumprod[following].to(state.dtype)
            noise = (state - level.sqrt() * clean) / (1.0 - level).sqrt()
            state = next_level.sqrt() * clean + (1.0 - next_level).sqrt() * noise
    return state


def _nearest_that_fits(
    proposal: Float[Tensor, "B D"],
    variance: Tensor,
    posed_body: PosedBody,
    keypoints: Keypoints,
    guidance: Guidance,
) -> Float[Tensor, "B D"]:
    """argmin_x of |x - proposal|^2 / (2 variance) + strength * reprojection(x)."""
    with torch.enable_grad():
        state = proposal.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([state], lr=guidance.learning_rate)
        for _ in range(guidance.iterations):
            pixels = keypoints.project(posed_body.joints(state))
            # Summed over the samples: with a mean, the gradient of one would depend on their number.
            data = guidance.strength * keypoints.robust(pixels, guidance.scale, guidance.doubt).sum()
            prior = 0.5 * (state - proposal.detach()).square().sum() / variance
            optimizer.zero_grad()
            (data + prior).backward()
            optimizer.step()
    return state.detach()


def if_it_fits(
    refined: Float[Tensor, "B D"], theta: Float[Tensor, "B D"], posed_body: PosedBody, keypoints: Keypoints
) -> tuple[Float[Tensor, "B D"], Bool[Tensor, " B"]]:
    """Refined states, the front end's where these fit no worse: the denoiser alone has moved those.

    Args:
        refined: of `guided`.
        theta: the front end's states.
        posed_body: of the states.
        keypoints: 2-D evidence.

    Returns:
        The states, and which of them are the refined ones.
    """
    now, before = (keypoints.distance(keypoints.project(posed_body.joints(state))) for state in (refined, theta))
    fits = now < before
    return torch.where(fits[:, None], refined, theta), fits


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


@torch.inference_mode(False)
@torch.enable_grad()
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
    keypoints = keypoints.for_gradients()
    smpl = to_smpl(theta.clone())
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
