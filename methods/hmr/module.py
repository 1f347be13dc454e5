"""HMR (Kanazawa et al., CVPR 2018): a body from one picture of a person, or from its 2-D joints."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from methods.base import PoseMethod, warmup_cosine
from methods.hmr.keypoint_features import KeypointFeatures, box_around, in_box
from methods.hmr.losses import supervised_losses
from methods.hmr.regressor import Estimate, Regressor
from noise2pose import cameras, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError

_SMALLEST_SCALE = 0.05  # of the camera: forty metres across the box
_NEAREST = 0.1  # metres in front of the camera


class HMR(PoseMethod):
    """Regresses the parameters of a body and a camera from the features of a picture, or of a person's 2-D joints.

    The 2-D loss is taken in the whole picture with the camera of the batch (full perspective, as CLIFF does it; HMR
    assumes a focal length of 5000 pixels in the crop).

    Args:
        input: `image` for the picture in the box, `keypoints` for the 2-D joints.
        width: keypoints only: of the features.
        num_blocks: keypoints only: residual blocks of the features.
        hidden: units of the regressor.
        num_iterations: of the regressor.
        box_input: tell the regressor where the box lies in the field of view and how large it is (CLIFF). A crop alone
            does not show from which side the camera sees it.
        body: `free`, or the path of a body file.
        skeleton: joint order of the data, a name in `noise2pose.skeletons` that the body has a regressor for.
        keypoints_3d_weight: of the loss on root-relative joints, metres.
        keypoints_2d_weight: of the loss on projected joints, half box sides.
        vertex_weight: of the loss on vertices; 0 leaves the mesh out, which training is much faster without.
        pose_weight: of the loss on rotation matrices.
        betas_weight: of the loss on the shape.
        camera_weight: of the prior on the camera's scale (SPIN).
        keypoint_noise: keypoints only: standard deviation of noise on the joints while training, half box sides.
        keypoint_dropout: keypoints only: share of the joints that are hidden while training.
        learning_rate: of Adam, at its peak.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    def __init__(
        self,
        input: Literal["image", "keypoints"] = "image",
        width: int = 1024,
        num_blocks: int = 2,
        hidden: int = 1024,
        num_iterations: int = 3,
        box_input: bool = False,
        body: str = "free",
        skeleton: str = "h36m_17",
        keypoints_3d_weight: float = 100.0,
        keypoints_2d_weight: float = 10.0,
        vertex_weight: float = 2.0,
        pose_weight: float = 3.0,
        betas_weight: float = 0.02,
        camera_weight: float = 1.0,
        keypoint_noise: float = 0.0,
        keypoint_dropout: float = 0.0,
        learning_rate: float = 2.5e-4,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.title = f"HMR ({input})"
        self.input = input
        self.box_input = box_input
        self.skeleton = skeletons.get(skeleton)
        self.weights = {
            "joints_3d": keypoints_3d_weight,
            "joints_2d": keypoints_2d_weight,
            "vertices": vertex_weight,
            "pose": pose_weight,
            "betas": betas_weight,
            "camera": camera_weight,
        }
        self.keypoint_noise = keypoint_noise
        self.keypoint_dropout = keypoint_dropout
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.body: BodyModel = _body(body)
        self.backbone: nn.Module = KeypointFeatures(self.skeleton.num_joints, width, num_blocks)
        self.regressor = Regressor(width + 3 * box_input, hidden, num_iterations)

    def forward(self, batch: PoseBatch) -> Prediction:
        estimate = self.estimate(batch)
        joints = self._joints(estimate)
        root = joints[:, self.skeleton.root, None]
        orient, pose = estimate.rotations[:, 0], estimate.rotations[:, 1:]
        prediction: Prediction = {
            "joints_3d": joints - root,
            "smpl": {"global_orient": orient, "body_pose": pose, "betas": estimate.betas},
            "camera_translation": full_translation(estimate.camera, self.box(batch), batch),
        }
        if not self.training:
            prediction["vertices"] = self.body(orient, pose, estimate.betas).vertices - root
        return prediction

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        estimate = self.estimate(batch)
        joints, box = self._joints(estimate), self.box(batch)
        pixels = project_to_picture(joints, full_translation(estimate.camera, box, batch), batch)
        body = self.body if self.weights["vertices"] else None
        terms = supervised_losses(estimate, joints, pixels, box, batch, self.skeleton.root, body)
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        self.log_dict({f"train/loss_{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss, prog_bar=True)
        # Data-parallel training waits for a gradient of every parameter, also where the batch has no such ground truth.
        return loss + 0.0 * (estimate.rotations.sum() + estimate.betas.sum() + estimate.camera.sum())

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, warmup_cosine(num_steps, min(self.warmup_steps, num_steps // 2)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def estimate(self, batch: PoseBatch) -> Estimate:
        """What the regressor says of each person."""
        features = self.backbone(self._input(batch))
        if self.box_input:
            features = torch.cat((features, box_in_view(self.box(batch), batch)), dim=-1)
        return self.regressor(features)

    def box(self, batch: PoseBatch) -> Float[Tensor, "B 3"]:
        """The box of each person: the batch's, or the one around the visible joints."""
        return batch["box"] if "box" in batch else box_around(batch["keypoints_2d"])

    def _input(self, batch: PoseBatch) -> Tensor:
        keypoints = batch["keypoints_2d"]
        if keypoints.ndim != 3 or keypoints.shape[1] != self.skeleton.num_joints:
            raise InputError(
                f"keypoints_2d has shape {tuple(keypoints.shape)}; HMR takes single frames of "
                f"{self.skeleton.num_joints} joints in the order of {self.skeleton.name}: set data.num_frames to 1"
            )
        if self.training and self.keypoint_dropout:
            seen = torch.rand_like(keypoints[..., 2:]) >= self.keypoint_dropout
            keypoints = torch.cat((keypoints[..., :2], keypoints[..., 2:] * seen), dim=-1)
        joints = in_box(keypoints, self.box(batch))
        if self.training and self.keypoint_noise:
            seen = keypoints[..., 2:] > 0
            noise = self.keypoint_noise * torch.randn_like(joints[..., :2]) * seen
            joints = torch.cat((joints[..., :2] + noise, joints[..., 2:]), dim=-1)
        return joints

    def _joints(self, estimate: Estimate) -> Float[Tensor, "B J 3"]:
        """Joints of the body, metres, not centred: `camera_translation` takes them to the camera."""
        rotations = estimate.rotations
        return self.body.joints(rotations[:, 0], rotations[:, 1:], estimate.betas, regressor=self.skeleton.name)


def full_translation(camera: Float[Tensor, "B 3"], box: Float[Tensor, "B 3"], batch: PoseBatch) -> Float[Tensor, "B 3"]:
    """Translation of the body in the camera of the whole picture, metres.

    Args:
        camera: (s, tx, ty) of the crop; a scale below 0.05 counts as that.
        box: centre x, centre y and side, pixels.
        batch: its `camera` has focal length and principal point.
    """
    scale = camera[:, :1].clamp_min(_SMALLEST_SCALE)
    centre = batch["camera"]["principal_point"]
    # CLIFF's formula takes the principal point to be the middle of the picture: this is the size of such a picture.
    size = 2.0 * centre
    return cameras.crop_to_full_translation(
        torch.cat((scale, camera[:, 1:]), dim=-1), box, size, batch["camera"]["focal"][:, 0]
    )


def project_to_picture(
    joints: Float[Tensor, "B J 3"], translation: Float[Tensor, "B 3"], batch: PoseBatch
) -> Float[Tensor, "B J 2"]:
    """Pixels of joints in the whole picture; what lies behind the camera is put just in front of it."""
    points = joints + translation[:, None]
    points = torch.cat((points[..., :2], points[..., 2:].clamp_min(_NEAREST)), dim=-1)
    return cameras.project(points, batch["camera"]["focal"], batch["camera"]["principal_point"])


def box_in_view(box: Float[Tensor, "B 3"], batch: PoseBatch) -> Float[Tensor, "B 3"]:
    """Offset of the box from the principal point, and its side, in focal lengths (CLIFF, Li et al., ECCV 2022)."""
    focal, centre = batch["camera"]["focal"], batch["camera"]["principal_point"]
    return torch.cat(((box[:, :2] - centre) / focal, box[:, 2:] / focal[:, :1]), dim=-1)


def _body(name: str) -> BodyModel:
    return BodyModel.free_body() if name == "free" else BodyModel.from_file(name)
