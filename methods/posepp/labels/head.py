"""The head of a body turned to the face that an image shows: the paper's "head pose optimisation", in direct form.

The paper fine-tunes a network on each image (EFT); here the two rotations themselves are optimised. Neck and head turn
by axis-angle deltas until nose, eyes and ears project on their detections; camera and everything else stay.

Shape letters: N people, K joints of the kinematic tree, F = 5 points of the face.
"""

import math
from typing import NamedTuple

import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from methods.posepp.labels.settings import HeadPose
from noise2pose import cameras
from noise2pose.bodies import BodyModel
from noise2pose.bodies.coco import face_points

NECK, HEAD = 12, 15  # of the kinematic tree of SMPL, SMPL-H and SMPL-X
_LEAST_DEPTH = 0.1  # metres


class TurnedHeads(NamedTuple):
    """What became of the heads.

    Attributes:
        rotations: (N, K, 3, 3), those of the label where a head is not accepted.
        accepted: (N,).
        skipped: (N,) too few points, or nothing to correct.
        before: (N,) weighted mean distance of the points, sides of the face's box; 0 without points.
        after: (N,) the same of the turned head, also where it was not accepted.
        degrees: (N,) length of both deltas.
    """

    rotations: Float[Tensor, "N K 3 3"]
    accepted: Bool[Tensor, " N"]
    skipped: Bool[Tensor, " N"]
    before: Float[Tensor, " N"]
    after: Float[Tensor, " N"]
    degrees: Float[Tensor, " N"]


def turn_heads(
    body: BodyModel,
    rotations: Float[Tensor, "N K 3 3"],
    betas: Float[Tensor, "N S"],
    translation: Float[Tensor, "N 3"],
    camera: Float[Tensor, "N 3 3"],
    face: Float[Tensor, "N 5 3"],
    options: HeadPose,
) -> TurnedHeads:
    """Turns the heads of people so that their faces project on detected points.

    Args:
        body: whose parameters they are.
        rotations: of all joints, the root's first.
        betas: shape coefficients.
        translation: metres.
        camera: K, pixels.
        face: nose, eyes and ears as detected, pixels and score.
        options: of the optimisation.
    """
    focal, centre = torch.stack((camera[:, 0, 0], camera[:, 1, 1]), dim=-1), camera[:, :2, 2]
    counted = (face[..., 2] >= options.least_score) & face.isfinite().all(dim=-1)
    weights = torch.where(counted, face[..., 2], 0.0)
    target = torch.where(counted[..., None], face[..., :2], 0.0)
    total = weights.sum(dim=-1).clamp_min(1e-6)

    def project(turned: Tensor) -> Tensor:
        points = face_points(body, turned[:, 0], turned[:, 1:], betas, translation)
        points = torch.cat((points[..., :2], points[..., 2:].clamp_min(_LEAST_DEPTH)), dim=-1)
        return cameras.project(points, focal, centre)

    with torch.no_grad():
        start = project(rotations)
        side = (start.amax(dim=1) - start.amin(dim=1)).amax(dim=-1).clamp_min(1.0)

    def squares(turned: Tensor) -> Tensor:
        return (project(turned) - target).square().sum(dim=-1) / side[:, None].square()

    def residual(turned: Tensor) -> Tensor:
        return (weights * squares(turned).sqrt()).sum(dim=-1) / total

    with torch.no_grad():
        before = residual(rotations)
    skipped = (counted.sum(dim=-1) < options.least_points) | (before < options.least_residual)
    deltas = rotations.new_zeros(len(rotations), 2, 3)
    rows = (~skipped).nonzero()[:, 0]
    if len(rows):
        deltas[rows] = _optimised(
            body, rotations[rows], betas[rows], translation[rows], focal[rows], centre[rows], target[rows],
            (weights / total[:, None])[rows], side[rows], options,
        )  # fmt: skip
    with torch.no_grad():
        turned = with_deltas(rotations, deltas)
        after = residual(turned)
    degrees = deltas.flatten(1).norm(dim=-1) * 180.0 / math.pi
    accepted = ~skipped & (after <= (1.0 - options.least_gain) * before) & (degrees <= options.most_degrees)
    kept = torch.where(accepted[:, None, None, None], turned, rotations)
    return TurnedHeads(kept, accepted, skipped, before, after, degrees)


def with_deltas(rotations: Float[Tensor, "N K 3 3"], deltas: Float[Tensor, "N 2 3"]) -> Float[Tensor, "N K 3 3"]:
    """The rotations with neck and head turned further, each about the axes of its own frame."""
    turns = roma.rotvec_to_rotmat(deltas)
    parts = list(rotations.unbind(dim=1))
    parts[NECK], parts[HEAD] = parts[NECK] @ turns[:, 0], parts[HEAD] @ turns[:, 1]
    return torch.stack(parts, dim=1)


def _optimised(
    body: BodyModel,
    rotations: Tensor,
    betas: Tensor,
    translation: Tensor,
    focal: Tensor,
    centre: Tensor,
    target: Tensor,
    weights: Tensor,
    side: Tensor,
    options: HeadPose,
) -> Tensor:
    """Deltas (N, 2, 3) after all steps. People do not influence each other: the loss is a sum over them."""
    spine = _without_head(body, rotations, betas, translation)
    deltas = torch.zeros(len(rotations), 2, 3, dtype=rotations.dtype, requires_grad=True)
    optimiser = torch.optim.Adam([deltas], lr=options.learning_rate)
    for _ in range(options.steps):
        optimiser.zero_grad()
        points = spine.face(deltas)
        points = torch.cat((points[..., :2], points[..., 2:].clamp_min(_LEAST_DEPTH)), dim=-1)
        squares = (cameras.project(points, focal, centre) - target).square().sum(dim=-1) / side[:, None].square()
        robust = squares / (squares + options.scale**2)  # Geman and McClure
        loss = (weights * robust).sum() + options.prior * deltas.square().sum()
        loss.backward()
        optimiser.step()
    return deltas.detach()


class _Chain(NamedTuple):
    """The chain from the neck to points that follow the head, with everything before it in place.

    Attributes:
        parent: (N, 3, 3) world rotation of what the neck hangs on.
        neck_at: (N, 3) place of the neck in the camera frame.
        neck, head: (N, 3, 3) rotations of the label.
        bone: (N, 3) from the neck to the head in the rest pose.
        points: (N, 5, 3) of the face relative to the head in the rest pose.
    """

    parent: Tensor
    neck_at: Tensor
    neck: Tensor
    head: Tensor
    bone: Tensor
    points: Tensor

    def face(self, deltas: Float[Tensor, "N 2 3"]) -> Float[Tensor, "N 5 3"]:
        """Points of the face in the camera frame."""
        turns = roma.rotvec_to_rotmat(deltas)
        neck = self.parent @ (self.neck @ turns[:, 0])
        head = neck @ (self.head @ turns[:, 1])
        head_at = self.neck_at + (neck @ self.bone[..., None])[..., 0]
        return self.points @ head.mT + head_at[:, None]


@torch.no_grad()
def _without_head(body: BodyModel, rotations: Tensor, betas: Tensor, translation: Tensor) -> _Chain:
    """The chain of each person; posing the whole tree in every step would take five times as long.

    The points are taken to follow the head alone, as nose, eyes and ears of all bodies of SMPL's family nearly do.
    """
    rest = body.rest_joints(betas)
    world = rotations[:, 0]
    path, joint = [], body.parents[NECK]
    while joint > 0:
        path.append(joint)
        joint = body.parents[joint]
    for each in reversed(path):
        world = world @ rotations[:, each]
    joints = body.joints(rotations[:, 0], rotations[:, 1:], betas, translation, regressor=body.regressors[0])
    at_rest = torch.eye(3, dtype=rotations.dtype).expand_as(rotations)
    points = face_points(body, at_rest[:, 0], at_rest[:, 1:], betas) - rest[:, None, HEAD]
    return _Chain(world, joints[:, NECK], rotations[:, NECK], rotations[:, HEAD], rest[:, HEAD] - rest[:, NECK], points)
