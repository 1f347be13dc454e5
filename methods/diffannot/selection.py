"""What a refined state is chosen by: 2-D evidence, the denoiser's own opinion, or (never deployable) the ground truth.

A score is a function (rows of states, number of each row's sample) -> one number a row, less is better. The search
(`search.py`) asks for the scores of many candidates at once.

Shape letters: B samples, R candidates (rows), D numbers of a state, J joints.
"""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from methods.diffannot.reprojection import Keypoints
from methods.diffannot.search import Score
from methods.diffannot.states import to_smpl
from noise2pose.bodies import BodyModel
from noise2pose.metrics import functional

Denoise = Callable[[Tensor, int], Tensor]  # (B, D), time -> (B, D) noise


class Posed:
    """A body that poses states.

    Args:
        body: of the states.
        skeleton: name of its joint regressor.
        project: make rotations of the matrices first; see `states.to_smpl`.
    """

    def __init__(self, body: BodyModel, skeleton: str, project: bool) -> None:
        self.body = body
        self.skeleton = skeleton
        self.project = project

    def joints(self, state: Float[Tensor, "R D"]) -> Float[Tensor, "R J 3"]:
        """Joints in the camera's orientation, metres, before any translation."""
        smpl = to_smpl(state, self.project)
        return self.body.joints(smpl["global_orient"], smpl["body_pose"], smpl["betas"], regressor=self.skeleton)


def reprojection_score(posed: Posed, keypoints: Keypoints) -> Score:
    """`reproj2d`: mean distance of the joints from their 2-D keypoints, in box sides, where they fit best."""

    def score(states: Tensor, sample: Tensor) -> Tensor:
        evidence = keypoints.rows(sample)
        return evidence.distance(evidence.project(posed.joints(states))) / evidence.size

    return score


def truth_score(posed: Posed, target: Float[Tensor, "B J 4"], joints: Sequence[int], aligned: bool = True) -> Score:
    """`oracle` and `half_joints`: error of some joints, metres.

    Args:
        posed: poses the candidates.
        target: ground truth and its validity.
        joints: that count.
    """
    truth, valid = target[..., :3], target[..., 3]
    chosen = list(joints)

    def score(states: Tensor, sample: Tensor) -> Tensor:
        pose = posed.joints(states)[:, chosen]
        return functional.pa_mpjpe(pose, truth[sample][:, chosen], valid[sample][:, chosen])

    return score


def residual_score(denoise: Denoise, time: int) -> Score:
    """`consistency`: norm of the noise that the denoiser still finds in a candidate.

    Of the ways to ask a model whether it agrees with itself this is the one that can be asked of the front end's own
    answer as well: two chains from it, mirrored or with other noise, agree perfectly where they take no step.

    Args:
        denoise: the unconditional denoiser.
        time: at which it is asked.
    """

    def score(states: Tensor, sample: Tensor) -> Tensor:
        return denoise(states, time).square().mean(dim=-1).sqrt()

    return score


def half_of_the_joints(joints: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Every other of the joints that count: those to choose by, and those to report on."""
    return tuple(joints[::2]), tuple(joints[1::2])
