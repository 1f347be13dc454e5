"""2-D keypoints of one person in one or several calibrated views, as evidence of the pose.

The place of a body is the one that fits the keypoints of all views best, in closed form, because another pose has
another root.

Shape letters: B batch, V views, J joints of the skeleton, R candidate orientations.
"""

from typing import NamedTuple

import roma
import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.mesh_batches import box_of, camera_of
from noise2pose.batch import PoseBatch

_NEAREST = 0.1  # metres in front of a camera: where joints behind it are projected from
_HEADINGS, _TILTS = 16, (-70.0, 0.0, 70.0)  # candidate orientations; degrees of bowing and of leaning to a side
_APART = 60.0  # degrees between the orientations that fits start from
_UPRIGHT = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))  # faces the camera, whose y is down


class Views(NamedTuple):
    """Keypoints and cameras. A camera turns by `rotation` and moves by `shift` what is given in the first one's frame.

    Attributes:
        points: (B, V, J, 2) pixels.
        confidence: (B, V, J); a keypoint of 0 is not used.
        focal: (B, V, 2) pixels.
        principal_point: (B, V, 2) pixels.
        size: (B, V) side of the person's box, pixels; the unit of errors.
        rotation: (B, V, 3, 3); of the first view, the identity.
        shift: (B, V, 3) metres; of the first view, 0.
    """

    points: Float[Tensor, "B V J 2"]
    confidence: Float[Tensor, "B V J"]
    focal: Float[Tensor, "B V 2"]
    principal_point: Float[Tensor, "B V 2"]
    size: Float[Tensor, "B V"]
    rotation: Float[Tensor, "B V 3 3"]
    shift: Float[Tensor, "B V 3"]

    @classmethod
    def of(cls, batch: PoseBatch) -> "Views":
        """The one view of a batch."""
        keypoints, camera = batch["keypoints_2d"][:, None], camera_of(batch)
        rotation = torch.eye(3, dtype=keypoints.dtype, device=keypoints.device).expand(len(keypoints), 1, 3, 3)
        return cls(
            keypoints[..., :2],
            keypoints[..., 2],
            camera.focal[:, None],
            camera.principal_point[:, None],
            box_of(batch)[:, None, 2],
            rotation,
            torch.zeros_like(rotation[..., 0]),
        )

    @classmethod
    def joined(cls, views: list["Views"]) -> "Views":
        """Several views of the same people; the first is that of the first camera."""
        return cls(*(torch.cat(parts, dim=1) for parts in zip(*views, strict=True)))

    def rows(self, index: Int[Tensor, " B"]) -> "Views":
        """The views of the samples `index`, which may repeat; also a copy that gradients may pass."""
        return Views(*(part[index] for part in self))

    def place(self, joints: Float[Tensor, "*R B J 3"]) -> Float[Tensor, "*R B 3"]:
        """Translation at which joints fit the keypoints of all views best (least squares on the viewing rays)."""
        ray = (self.points - self.principal_point[..., None, :]) / self.focal[..., None, :]
        turned = self._turned(joints) + self.shift[..., None, :]
        # f (x + r_1 t) = (u - c) (z + r_3 t), where r are the rows of the view's rotation: linear in t.
        rows = self.rotation[..., None, :2, :] - ray[..., None] * self.rotation[..., None, 2:, :]
        wanted = ray * turned[..., 2:] - turned[..., :2]
        weights = self.confidence[..., None, None]
        matrix = (weights * rows).flatten(1, 3).mT @ rows.flatten(1, 3)
        matrix = matrix + 1e-9 * torch.eye(3, dtype=matrix.dtype, device=matrix.device)
        vector = ((weights * rows).flatten(1, 3).mT @ wanted.flatten(-3)[..., None])[..., 0]
        return torch.linalg.solve(matrix, vector[..., None])[..., 0]

    def distance(
        self, joints: Float[Tensor, "*R B J 3"], translation: Float[Tensor, "*R B 3"], scale: float
    ) -> Float[Tensor, "*R B"]:
        """Geman-McClure error d^2 / (d^2 + scale^2) in box sides: mean over the joints, sum over the views."""
        placed = self._turned(joints + translation[..., None, :]) + self.shift[..., None, :]
        depth = placed[..., 2:].clamp_min(_NEAREST)
        pixels = placed[..., :2] / depth * self.focal[..., None, :] + self.principal_point[..., None, :]
        square = (pixels - self.points).square().sum(dim=-1) / self.size[..., None].square()
        robust = square / (square + scale**2)
        return ((self.confidence * robust).sum(dim=-1) / self.confidence.sum(dim=-1).clamp_min(1e-6)).sum(dim=-1)

    def _turned(self, joints: Float[Tensor, "*R B J 3"]) -> Float[Tensor, "*R B V J 3"]:
        """The joints in the orientation of each view."""
        return joints[..., None, :, :] @ self.rotation.mT


def first_orientations(
    views: Views, joints: Float[Tensor, "J 3"], scale: float, number: int
) -> Float[Tensor, "number B 3 3"]:
    """Orientations at which a body fits the keypoints best, each at least `_APART` from the better ones.

    Args:
        views: 2-D keypoints.
        joints: of the body with the mean pose, facing along z with y up, metres.
        scale: of the robust error.
        number: how many.
    """
    turns = torch.cartesian_prod(
        torch.tensor(_TILTS), torch.tensor(_TILTS), torch.arange(_HEADINGS) * (360.0 / _HEADINGS)
    )
    candidates = torch.tensor(_UPRIGHT) @ roma.euler_to_rotmat("ZXY", turns, degrees=True)  # pyright: ignore
    candidates = candidates.to(joints)
    turned = (joints @ candidates.mT)[:, None].expand(-1, len(views.points), -1, -1)
    error = views.distance(turned, views.place(turned), scale)
    far = torch.rad2deg(roma.rotmat_geodesic_distance(candidates[:, None], candidates[None])) >= _APART
    found = []
    for _ in range(number):
        best = error.argmin(dim=0)
        found.append(candidates[best])
        error = torch.where(far[:, best], error, torch.inf)
    return torch.stack(found)
