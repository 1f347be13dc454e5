"""HMR's iterative regressor: from features to the rotations, the shape and the weak-perspective camera of a body.

`KeypointFeatures` computes features for it from 2-D joints, where an image backbone does from an image.

Shape letters: J joints, W width of the features.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from noise2pose import rotations
from noise2pose.images.mirroring import mirror_smpl

NUM_ROTATIONS, NUM_BETAS, NUM_CAMERA = 24, 10, 3
NUM_POSE = 6 * NUM_ROTATIONS


class Estimate(NamedTuple):
    """The regressor's estimate of a person.

    Attributes:
        rotations: the root's in the camera frame, then the others relative to their parents.
        betas: shape.
        camera: (s, tx, ty) of the crop, see `cameras.crop_to_full_translation`.
    """

    rotations: Float[Tensor, "*batch 24 3 3"]
    betas: Float[Tensor, "*batch 10"]
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

    The state is [24 rotations in 6-D, interleaved | 10 betas | camera]. There is no activation between the two layers,
    as in SPIN and mmhuman3d (Kanazawa's TensorFlow code has one). Published mean parameters belong to SMPL and are not
    shipped; without them the body stands in its rest pose and faces the camera.

    Args:
        width: of the features.
        hidden: units of the two layers (published: 1024).
        num_iterations: steps (published: 3).
        dropout: after each layer (published: 0.5).
    """

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(self, width: int = 2048, hidden: int = 1024, num_iterations: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.num_iterations = num_iterations
        self.fc1 = nn.Linear(width + NUM_POSE + NUM_BETAS + NUM_CAMERA, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.decpose = nn.Linear(hidden, NUM_POSE)
        self.decshape = nn.Linear(hidden, NUM_BETAS)
        self.deccam = nn.Linear(hidden, NUM_CAMERA)
        for layer in (self.decpose, self.decshape, self.deccam):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
        rest = torch.eye(3).repeat(NUM_ROTATIONS, 1, 1)
        rest[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # a body has y up, a camera y down
        self.register_buffer("init_pose", rotations.rotmat_to_interleaved_6d(rest).view(1, NUM_POSE))
        self.register_buffer("init_shape", torch.zeros(1, NUM_BETAS))
        self.register_buffer("init_cam", torch.tensor([[0.9, 0.0, 0.0]]))

    def forward(self, features: Float[Tensor, "*batch W"]) -> Estimate:
        """The estimate after the last step."""
        mean = torch.cat((self.init_pose, self.init_shape, self.init_cam), dim=-1)
        state = mean.expand(*features.shape[:-1], -1)
        for _ in range(self.num_iterations):
            hidden = self.dropout(self.fc1(torch.cat((features, state), dim=-1)))
            hidden = self.dropout(self.fc2(hidden))
            state = state + torch.cat((self.decpose(hidden), self.decshape(hidden), self.deccam(hidden)), dim=-1)
        pose, betas, camera = state.split((NUM_POSE, NUM_BETAS, NUM_CAMERA), dim=-1)
        return Estimate(rotations.interleaved_6d_to_rotmat(pose.unflatten(-1, (NUM_ROTATIONS, 6))), betas, camera)


class KeypointFeatures(nn.Module):
    """A residual network over the joints of the box (after Martinez et al., "A simple yet effective baseline", 2017).

    Args:
        num_joints: J.
        width: W, of the layers and of the features.
        num_blocks: residual blocks of two layers.
        dropout: in the blocks.
    """

    def __init__(self, num_joints: int = 17, width: int = 1024, num_blocks: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.input = nn.Linear(3 * num_joints, width)
        self.blocks = nn.ModuleList(_Block(width, dropout) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, keypoints: Float[Tensor, "*batch J 3"]) -> Float[Tensor, "*batch W"]:
        """Features of joints, in the units of `crops.joints_in_box`."""
        features = self.input(keypoints.flatten(-2))
        for block in self.blocks:
            features = features + block(features)
        return self.norm(features)


class _Block(nn.Sequential):
    def __init__(self, width: int, dropout: float) -> None:
        layers = [(nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)) for _ in range(2)]
        super().__init__(*(layer for part in layers for layer in part))
