"""What HMR and CLIFF share: the iterative regressor, its estimate, and where the estimated body stands in the image.

Shape letters: B batch, J joints, R rotations (24 of SMPL), S shape coefficients, W width of the features.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from methods.mesh_batches import PinholeCamera, translation_in_image
from noise2pose import rotations
from noise2pose.batch import Prediction, Smpl
from noise2pose.bodies import BodyModel
from noise2pose.images.mirroring import mirror_smpl

NUM_ROTATIONS, NUM_BETAS, NUM_CAMERA = 24, 10, 3
_SMALLEST_SCALE = 0.05  # of the camera: forty metres across the box


class Estimate(NamedTuple):
    """The regressor's estimate of a person.

    Attributes:
        rotations: the root's in the camera frame, then the others relative to their parents.
        betas: shape.
        camera: (s, tx, ty) of the crop, see `cameras.crop_to_full_translation`.
    """

    rotations: Float[Tensor, "*batch R 3 3"]
    betas: Float[Tensor, "*batch S"]
    camera: Float[Tensor, "*batch 3"]


def mirrored(estimate: Estimate) -> Estimate:
    """The estimate of the mirror image, about the vertical middle line of the crop. Its own inverse."""
    smpl = mirror_smpl(
        {"global_orient": estimate.rotations[..., 0, :, :], "body_pose": estimate.rotations[..., 1:, :, :]}
    )
    turned = torch.cat((smpl["global_orient"][..., None, :, :], smpl["body_pose"]), dim=-3)
    return Estimate(turned, estimate.betas, estimate.camera * estimate.camera.new_tensor([1.0, -1.0, 1.0]))


def mean_of(first: Estimate, second: Estimate) -> Estimate:
    """The mean of two estimates; of rotations, the rotation nearest to the mean of the matrices."""
    turned = rotations.halfway(first.rotations, second.rotations)
    return Estimate(turned, (first.betas + second.betas) / 2.0, (first.camera + second.camera) / 2.0)


class Regressor(nn.Module):
    """Starts from the mean parameters and corrects them in a few steps of one network, which takes the last estimate.

    The state is [rotations in 6-D, interleaved | betas | camera]. There is no activation between the two layers, as in
    SPIN, mmhuman3d and CLIFF (Kanazawa's TensorFlow code has one). Published mean parameters belong to SMPL and are not
    shipped; without them the body stands in its rest pose and faces the camera.

    Args:
        width: of the features.
        hidden: units of the two layers (published: 1024).
        num_iterations: steps (published: 3).
        dropout: after each layer (published: 0.5).
        num_rotations: R.
        num_betas: S.
    """

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(
        self,
        width: int = 2048,
        hidden: int = 1024,
        num_iterations: int = 3,
        dropout: float = 0.5,
        num_rotations: int = NUM_ROTATIONS,
        num_betas: int = NUM_BETAS,
    ) -> None:
        super().__init__()
        self.num_iterations = num_iterations
        self.sizes = (6 * num_rotations, num_betas, NUM_CAMERA)
        self.fc1 = nn.Linear(width + sum(self.sizes), hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.decpose, self.decshape, self.deccam = (nn.Linear(hidden, size) for size in self.sizes)
        for layer in (self.decpose, self.decshape, self.deccam):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
        rest = torch.eye(3).repeat(num_rotations, 1, 1)
        rest[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # a body has y up, a camera y down
        self.register_buffer("init_pose", rotations.rotmat_to_interleaved_6d(rest).view(1, -1))
        self.register_buffer("init_shape", torch.zeros(1, num_betas))
        self.register_buffer("init_cam", torch.tensor([[0.9, 0.0, 0.0]]))

    def forward(self, features: Float[Tensor, "*batch W"]) -> Estimate:
        """The estimate after the last step."""
        mean = torch.cat((self.init_pose, self.init_shape, self.init_cam), dim=-1)
        state = mean.expand(*features.shape[:-1], -1)
        for _ in range(self.num_iterations):
            hidden = self.dropout(self.fc1(torch.cat((features, state), dim=-1)))
            hidden = self.dropout(self.fc2(hidden))
            state = state + torch.cat((self.decpose(hidden), self.decshape(hidden), self.deccam(hidden)), dim=-1)
        pose, betas, camera = state.split(self.sizes, dim=-1)
        return Estimate(rotations.interleaved_6d_to_rotmat(pose.unflatten(-1, (-1, 6))), betas, camera)


def full_translation(
    camera: Float[Tensor, "B 3"], box: Float[Tensor, "B 3"], image_camera: PinholeCamera
) -> Float[Tensor, "B 3"]:
    """Translation of the body in the camera of the whole image, metres.

    Args:
        camera: (s, tx, ty) of the crop; a scale below 0.05 counts as 0.05.
        box: centre x, centre y and side, pixels.
        image_camera: of the whole image.
    """
    weak = torch.cat((camera[:, :1].clamp_min(_SMALLEST_SCALE), camera[:, 1:]), dim=-1)
    return translation_in_image(weak, box, image_camera)


def box_in_view(box: Float[Tensor, "B 3"], camera: PinholeCamera) -> Float[Tensor, "B 3"]:
    """Offset of the box from the principal point, and its side, in focal lengths (CLIFF, Li et al., ECCV 2022)."""
    offset = (box[:, :2] - camera.principal_point) / camera.focal
    return torch.cat((offset, box[:, 2:] / camera.focal[:, :1]), dim=-1)


def prediction_of(
    estimate: Estimate, joints: Float[Tensor, "B J 3"], translation: Float[Tensor, "B 3"], root: int
) -> Prediction:
    """The answer without a mesh.

    Args:
        estimate: of the regressor.
        joints: of the estimated body, metres, before its translation.
        translation: of the body in the camera frame, metres.
        root: joint that the answer is relative to.
    """
    return {
        "joints_3d": joints - joints[:, root, None],
        "smpl": {
            "global_orient": estimate.rotations[:, 0],
            "body_pose": estimate.rotations[:, 1:],
            "betas": estimate.betas,
        },
        "camera_translation": translation,
    }


def vertex_loss(estimate: Estimate, smpl: Smpl, known: Bool[Tensor, " B"], body: BodyModel) -> Float[Tensor, ""]:
    """L1 of the vertices of both bodies, each with its root joint where its rest pose has it, metres."""
    turned, betas = estimate.rotations[known], estimate.betas[known]
    ours = body(turned[:, 0], body.complete(turned[:, 1:]), betas).vertices
    pose = body.complete(smpl["body_pose"][known])
    theirs = body(smpl["global_orient"][known], pose, smpl["betas"][known]).vertices
    return (ours - theirs).abs().sum() / max(ours.numel(), 1)


def camera_prior(camera: Float[Tensor, "B 3"]) -> Float[Tensor, ""]:
    """exp(-10 s)^2, which keeps the scale of the camera from falling to zero and below (SPIN)."""
    return torch.exp(-10.0 * camera[:, 0]).square().mean()


def whole_loss(estimate: Estimate, loss: Tensor) -> Tensor:
    """A loss that has a gradient for every parameter, which data-parallel training waits for.

    The batch may lack the ground truth of some part of the estimate.
    """
    return loss + 0.0 * (estimate.rotations.sum() + estimate.betas.sum() + estimate.camera.sum())
