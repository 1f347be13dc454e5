"""The agreement of a body with 2-D keypoints, and the loss terms of section III-E of the paper, through the body.

Shape letters: B samples, D numbers of a state, J joints.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.diffannot.states import PosedBody
from noise2pose import cameras
from noise2pose.batch import PoseBatch
from noise2pose.metrics import functional

_ROBUST_SCALE = 0.2  # box sides; the error of an estimate from pure noise is large and must not dominate


class Keypoints(NamedTuple):
    """The 2-D evidence of each sample.

    Attributes:
        points: (B, J, 2) pixels of the whole image.
        confidence: (B, J).
        focal: (B, 2) pixels.
        principal_point: (B, 2) pixels.
        size: (B,) side of the person's box, pixels; the unit of errors.
    """

    points: Float[Tensor, "B J 2"]
    confidence: Float[Tensor, "B J"]
    focal: Float[Tensor, "B 2"]
    principal_point: Float[Tensor, "B 2"]
    size: Float[Tensor, " B"]

    @classmethod
    def of(cls, batch: PoseBatch) -> "Keypoints":
        """The keypoints of a batch."""
        points, camera = batch["keypoints_2d"], batch["camera"]
        return cls(points[..., :2], points[..., 2], camera["focal"], camera["principal_point"], batch["box"][:, 2])

    def rows(self, index: Int[Tensor, " R"]) -> "Keypoints":
        """The keypoints of the samples `index`, which may repeat."""
        return Keypoints(*(part[index] for part in self))

    def for_gradients(self) -> "Keypoints":
        """A copy outside inference mode, in which predictions run and gradients cannot be computed."""
        return Keypoints(*(part.clone() for part in self))

    def project(
        self, joints: Float[Tensor, "B J 3"], translation: Float[Tensor, "B 3"] | None = None
    ) -> Float[Tensor, "B J 2"]:
        """Pixels of joints; without a translation, at the one that fits best (`fit`)."""
        if translation is None:
            translation = self.fit(joints)
        return cameras.project(joints + translation[:, None], self.focal, self.principal_point)

    def fit(self, joints: Float[Tensor, "B J 3"]) -> Float[Tensor, "B 3"]:
        """Translation at which joints fit the keypoints best (`cameras.fit_translation`), without gradient."""
        with torch.no_grad():
            return cameras.fit_translation(joints, self.points, self.confidence, self.focal, self.principal_point)

    def distance(self, pixels: Float[Tensor, "B J 2"]) -> Float[Tensor, " B"]:
        """Mean distance in pixels, weighted by confidence; 0 without visible joints."""
        return self._mean(torch.linalg.vector_norm(pixels - self.points, dim=-1))

    def robust(self, pixels: Float[Tensor, "B J 2"], scale: float, doubt: float = 0.0) -> Float[Tensor, " B"]:
        """Mean of the Geman-McClure error d^2 / (d^2 + scale^2) in sizes, weighted by confidence (Bogo et al., 2016).

        A wrong detection far away has no more influence than one at a few times the scale.

        Args:
            pixels: of the body's joints.
            scale: in sizes.
            doubt: a joint of confidence c counts 1 / (1 + (doubt (1 - c))^2) of a certain one, as if its standard
                deviation grew with 1 - c; 0 for the confidence alone.
        """
        square = (pixels - self.points).square().sum(dim=-1) / self.size[:, None].square()
        error = square / (square + scale**2)
        if not doubt:
            return self._mean(error)
        weight = (self.confidence > 0) / (1.0 + (doubt * (1.0 - self.confidence.clamp_max(1.0))).square())
        # Over the joints that are seen, not the weights: what nobody is certain of pulls less.
        return (weight * error).sum(dim=-1) / (self.confidence > 0).sum(dim=-1).clamp_min(1)

    def _mean(self, values: Float[Tensor, "B J"]) -> Float[Tensor, " B"]:
        return (self.confidence * values).sum(dim=-1) / self.confidence.sum(dim=-1).clamp_min(1e-6)


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
