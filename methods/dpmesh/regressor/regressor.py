"""DPMesh's regressor: from one feature map to a body and a camera (paper, section 3.3; the release follows JOTR).

Places in its volume of voxels are (x, y, z) in [0, 1]: right and down in the box, and away from the camera; 0.5 is the
depth of the root.

Shape letters: B batch, F channels of the feature map, D width, H rows and columns of the feature map, Z depths, L
decoder layers, J joints that the decoder locates (`IMAGE_JOINTS`), N queries of the body, M tokens of the image.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.dpmesh.regressor.pose_heads import Cascade, PoseHead
from methods.dpmesh.regressor.transformer import TEMPERATURE, DecoderLayer, Encoder, plane_code, sine_code
from methods.mesh_batches import PinholeCamera, translation_in_image
from noise2pose import rotations

# Joints that the decoder locates in the image, in the release's order; its "neck" is Human3.6M's thorax.
IMAGE_JOINTS = (
    *("pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "thorax", "head_top"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
)
NUM_BETAS, NUM_CAMERA = 10, 3
RELEASE = {"position_temperature": 1.0, "learned_exponent": True}  # arguments of a `Regressor` as released
CAMERA_RANGE = 2.5  # metres that the box shows at most (release: `camera_3d_size`)
_NARROWEST = 0.02  # of the camera's sigmoid: five centimetres across the box
_EDGE = 1e-5  # least distance of places from 0 and 1, where logits are infinite
_LEAST_EXPONENT, _LARGEST_EXPONENT = 1.0, 20.0


class Estimate(NamedTuple):
    """The regressor's estimate of a person.

    Attributes:
        root: rotation of the body in the camera frame.
        body_pose: rotations of SMPL's other joints, relative to their parents.
        pose_code: numbers that `body_pose` was decoded from, see `methods.dpmesh.regressor.pose_heads`.
        betas: shape.
        camera: see `full_translation`.
        joint_img: (x, y, z) of `IMAGE_JOINTS` in the volume, in (0, 1), after each layer.
        plane: feature map that the queries attend to, before its encoder.
        volume: voxels.
    """

    root: Float[Tensor, "B 3 3"]
    body_pose: Float[Tensor, "B 23 3 3"]
    pose_code: Tensor
    betas: Float[Tensor, "B 10"]
    camera: Float[Tensor, "B 3"]
    joint_img: Float[Tensor, "L B J 3"]
    plane: Float[Tensor, "B D H H"]
    volume: Float[Tensor, "B D Z H H"]

    @property
    def rotations(self) -> Float[Tensor, "B 24 3 3"]:
        """All rotations, root first."""
        return torch.cat((self.root[:, None], self.body_pose), dim=1)


class Regressor(nn.Module):
    """Queries for pose, shape, camera and 15 joints attend to the image, and to the volume at the joints.

    Args:
        feature_width: F.
        pose_head: from the states of the pose queries to rotations; it must have the same `width` and
            `num_decoder_layers`.
        width: D, a multiple of 4 and of `num_heads`.
        rows: H.
        depth: Z.
        num_heads: of all attention.
        num_encoder_layers: of the two encoders.
        num_decoder_layers: L.
        feedforward: hidden units of decoder and image encoder.
        volume_feedforward: hidden units of the volume's encoder.
        dropout: of the transformers.
        position_temperature: of the position codes of the image; 1 for those of the release, whose frequencies are all
            1 because it rounds an exponent.
        learned_exponent: uneven depths, as released, see `Volume`.
    """

    plane_positions: Tensor

    def __init__(
        self,
        feature_width: int,
        pose_head: PoseHead,
        width: int = 256,
        rows: int = 8,
        depth: int = 8,
        num_heads: int = 8,
        num_encoder_layers: int = 2,
        num_decoder_layers: int = 4,
        feedforward: int = 2048,
        volume_feedforward: int = 1024,
        dropout: float = 0.1,
        position_temperature: float = TEMPERATURE,
        learned_exponent: bool = False,
    ) -> None:
        super().__init__()
        self.volume = Volume(
            *(feature_width, width, depth, rows, num_encoder_layers, num_heads, volume_feedforward, dropout),
            learned_exponent=learned_exponent,
        )
        self.to_plane = nn.Conv2d(feature_width, width, 1)
        self.plane_encoder = Encoder(width, num_encoder_layers, num_heads, feedforward, dropout, final_norm=False)
        self.register_buffer("plane_positions", plane_code(rows, rows, width, position_temperature), persistent=False)
        self.decoder = JointDecoder(width, num_heads, num_decoder_layers, feedforward, dropout)
        self.body_queries = nn.Parameter(torch.randn(pose_head.num_queries + 2, width))
        self.joint_queries = nn.Parameter(torch.randn(len(IMAGE_JOINTS), width))
        facing = torch.diag(torch.tensor((1.0, -1.0, -1.0)))  # a body has y up, a camera y down
        self.root_head = Cascade(width, 6, num_decoder_layers, rotations.rotmat_to_interleaved_6d(facing))
        self.pose_head = pose_head
        self.shape_head = Cascade(width, NUM_BETAS, num_decoder_layers)
        # Training starts with a box that shows two metres.
        self.camera_head = Cascade(width, NUM_CAMERA, num_decoder_layers, torch.tensor((0.0, 0.0, 1.4)))

    def forward(self, features: Float[Tensor, "B F H H"]) -> Estimate:
        """The body in each feature map."""
        volume, plane = self.volume(features), self.to_plane(features)
        memory = self.plane_encoder(plane.flatten(2).transpose(1, 2), self.plane_positions)
        states, joint_img = self.decoder(
            self.body_queries, self.joint_queries, memory, self.plane_positions, volume, self.volume
        )
        body_pose, code = self.pose_head(states[:, :, :-2])
        root = rotations.interleaved_6d_to_rotmat(self.root_head(states[:, :, 0]))
        betas, camera = self.shape_head(states[:, :, -2]), self.camera_head(states[:, :, -1])
        return Estimate(root, body_pose, code, betas, camera, joint_img, plane, volume)


class Volume(nn.Module):
    """Splits channels into depths, adds the place of each voxel, and applies attention between the voxels.

    By default a voxel's place is its centre, and a point is sampled where it lies. The release has depths that are not
    uniform, at (i / Z)^e with a learned exponent e, but samples a point at z^e instead of the inverse, and takes the
    corners of voxels for their centres; `learned_exponent` does exactly that.

    Args:
        feature_width: F.
        width: D.
        depth: Z.
        rows: H.
        num_layers, num_heads, feedforward, dropout: of the encoder.
        learned_exponent: behave as the release.
    """

    positions: Tensor

    def __init__(
        self,
        feature_width: int,
        width: int,
        depth: int,
        rows: int,
        num_layers: int,
        num_heads: int,
        feedforward: int,
        dropout: float,
        learned_exponent: bool,
    ) -> None:
        super().__init__()
        self.width, self.depth = width, depth
        self.lift = nn.Conv2d(feature_width, width * depth, 1)
        self.place = nn.Conv3d(width + 3, width, 1)
        self.encoder = Encoder(width, num_layers, num_heads, feedforward, dropout, final_norm=True)
        self.exponent = nn.Parameter(torch.tensor(3.0)) if learned_exponent else None
        self.register_buffer("positions", sine_code(torch.arange(depth * rows * rows), width), persistent=False)

    def forward(self, features: Float[Tensor, "B F H H"]) -> Float[Tensor, "B D Z H H"]:
        """The voxels."""
        volume = self.lift(features).unflatten(1, (self.width, self.depth))
        anchors = self._anchors(volume).expand(len(volume), -1, -1, -1, -1)
        volume = self.place(torch.cat((volume, anchors), dim=1))
        tokens = self.encoder(volume.flatten(2).transpose(1, 2), self.positions)
        return tokens.transpose(1, 2).unflatten(2, volume.shape[2:])

    def sample(self, volume: Float[Tensor, "B D Z H H"], points: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J D"]:
        """Linear interpolation of the voxels at each point."""
        if self.exponent is None:
            grid = 2.0 * points - 1.0
            options = {"align_corners": False, "padding_mode": "border"}
        else:
            depth = points[..., 2:] ** self._clamped_exponent()
            grid = 2.0 * torch.cat((points[..., :2], depth), dim=-1) - 1.0
            options = {"align_corners": True, "padding_mode": "zeros"}
        return F.grid_sample(volume, grid[:, :, None, None].to(volume.dtype), **options)[..., 0, 0].transpose(1, 2)

    def _anchors(self, volume: Tensor) -> Float[Tensor, "3 Z H H"]:
        """(z, y, x) of each voxel."""
        shift = 0.5 if self.exponent is None else 0.0
        axes = [(torch.arange(n, device=volume.device, dtype=volume.dtype) + shift) / n for n in volume.shape[2:]]
        if self.exponent is not None:
            axes[0] = axes[0] ** self._clamped_exponent()
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))

    def _clamped_exponent(self) -> Tensor:
        assert self.exponent is not None
        return self.exponent.clamp(_LEAST_EXPONENT, _LARGEST_EXPONENT)


class JointDecoder(nn.Module):
    """Decoder layers; after each, the joints are located and the volume at their places is added to the memory.

    Unlike in DETR, the one final normalisation is applied after each layer, before the next.

    Args:
        width: D.
        num_layers: L.
        num_heads, feedforward, dropout: of each layer.
    """

    def __init__(self, width: int, num_heads: int, num_layers: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, num_heads, feedforward, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.body_start = nn.Parameter(torch.zeros(width))
        self.joint_start = nn.Parameter(torch.zeros(width))
        self.locate = nn.ModuleList(nn.Linear(width + 3 * (number > 0), 3) for number in range(num_layers))
        self.place = nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width))

    def forward(
        self,
        body_queries: Float[Tensor, "N D"],
        joint_queries: Float[Tensor, "J D"],
        memory: Float[Tensor, "B M D"],
        positions: Float[Tensor, "M D"],
        volume: Float[Tensor, "B D Z H H"],
        sampler: Volume,
    ) -> tuple[Float[Tensor, "L B N D"], Float[Tensor, "L B J 3"]]:
        """States of the body's queries, and places of the joints, after each layer.

        Args:
            body_queries: embeddings of the first N queries.
            joint_queries: embeddings of the other queries.
            memory: tokens of the image.
            positions: codes of these tokens.
            volume: voxels.
            sampler: interpolates in them.
        """
        batch, num_body = len(memory), len(body_queries)
        queries = torch.cat((body_queries, joint_queries))
        start = torch.cat((self.body_start.expand_as(body_queries), self.joint_start.expand_as(joint_queries)))
        states = start.expand(batch, -1, -1)
        fixed_positions = positions.expand(batch, -1, -1)
        attended, places = memory, fixed_positions
        body_states, located = [], []
        logit = None
        for layer, locate in zip(self.layers, self.locate, strict=True):
            if logit is not None:
                attended = torch.cat((memory, sampler.sample(volume, located[-1])), dim=1)
                places = torch.cat((fixed_positions, self.place(logit)), dim=1)
            states = self.norm(layer(states, queries, attended, places))
            joints = states[:, num_body:]
            if logit is None:
                joint_img = locate(joints).sigmoid()
            else:
                joint_img = (logit + locate(torch.cat((joints, logit), dim=-1))).sigmoid()
            logit = torch.logit(joint_img, eps=_EDGE)
            body_states.append(states[:, :num_body])
            located.append(joint_img)
        return torch.stack(body_states), torch.stack(located)


def full_translation(
    camera: Float[Tensor, "B 3"], box: Float[Tensor, "B 3"], image_camera: PinholeCamera
) -> Float[Tensor, "B 3"]:
    """Translation of the body in the camera of the whole image, metres.

    Args:
        camera: of the regressor. The sigmoid of the third number, times `CAMERA_RANGE`, is how many metres of the
            person's plane the box shows. The first two are the body's translation to the right and down, in metres,
            from the ray through the middle of the box.
        box: centre x, centre y and side, pixels.
        image_camera: of the whole image.
    """
    metres = CAMERA_RANGE * camera[:, 2:].sigmoid().clamp_min(_NARROWEST)
    return translation_in_image(torch.cat((2.0 / metres, camera[:, :2]), dim=-1), box, image_camera)
