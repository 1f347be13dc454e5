"""Reprojection error: the agreement of a body with 2-D keypoints.

Shape letters: B samples, J joints.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from noise2pose import cameras
from noise2pose.batch import PoseBatch


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
        distance = torch.linalg.vector_norm(pixels - self.points, dim=-1)
        return self._mean(distance)

    def robust(self, pixels: Float[Tensor, "B J 2"], scale: float) -> Float[Tensor, " B"]:
        """Mean of the Geman-McClure error d^2 / (d^2 + scale^2) in sizes, weighted by confidence (Bogo et al., 2016).

        A wrong detection far away has no more influence than one at a few times the scale.
        """
        square = (pixels - self.points).square().sum(dim=-1) / self.size[:, None].square()
        return self._mean(square / (square + scale**2))

    def _mean(self, values: Float[Tensor, "B J"]) -> Float[Tensor, " B"]:
        return (self.confidence * values).sum(dim=-1) / self.confidence.sum(dim=-1).clamp_min(1e-6)
