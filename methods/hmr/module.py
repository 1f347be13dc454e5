"""HMR (Kanazawa et al., CVPR 2018): a body from one picture of a person, or from its 2-D joints."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.backbones import Backbone, EfficientNetLite0, ResNet50
from methods.base import PoseMethod, scheduled
from methods.hmr.discriminator import Discriminators, discriminator_loss, prior_loss
from methods.hmr.losses import known_bodies, rotations_of, supervised_losses
from methods.hmr.pretrained import load_pretrained
from methods.hmr.regressor import Estimate, KeypointFeatures, Regressor
from noise2pose import cameras, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.images import crops

_SMALLEST_SCALE = 0.05  # of the camera: forty metres across the box
_NEAREST = 0.1  # metres in front of the camera


class HMR(PoseMethod):
    """Regresses the parameters of a body and a camera from the features of a picture, or of a person's 2-D joints.

    The 2-D loss is taken in the whole picture with the camera of the batch (full perspective, as CLIFF does it; HMR
    assumes a focal length of 5000 pixels in the crop).

    Args:
        input: `image` for the picture in the box, `keypoints` for the 2-D joints.
        backbone: image only: `resnet50` as published, or `efficientnet_lite0` for processors without an accelerator.
        pretrained: image only: weights that training starts from: `imagenet` for those that a package ships, or a file
            (see `methods.hmr.pretrained`). They are read when training starts, and not needed afterwards.
        freeze_backbone: train the regressor alone.
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
        image_noise: image only: each colour channel is multiplied by up to 1 more or less than this while training.
        adversarial: train discriminators of poses and shapes beside the regressor, which learns to pass them.
        adversarial_weight: of passing them.
        learning_rate: of Adam, at its peak.
        discriminator_learning_rate: of Adam for the discriminators, at its peak.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    weight_files = ("pretrained",)

    def __init__(
        self,
        input: Literal["image", "keypoints"] = "image",
        backbone: Literal["resnet50", "efficientnet_lite0"] = "resnet50",
        pretrained: str | None = None,
        freeze_backbone: bool = False,
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
        image_noise: float = 0.4,
        adversarial: bool = False,
        adversarial_weight: float = 1.0,
        learning_rate: float = 2.5e-4,
        discriminator_learning_rate: float = 1e-4,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.title = f"HMR ({input})"
        self.input = input
        self.pretrained = pretrained
        self.freeze_backbone = freeze_backbone
        self.box_input = box_input
        self.skeleton = skeletons.get(skeleton)
        self.weights = {
            "joints_3d": keypoints_3d_weight,
            "joints_2d": keypoints_2d_weight,
            "vertices": vertex_weight,
            "pose": pose_weight,
            "betas": betas_weight,
            "camera": camera_weight,
            "adversarial": adversarial_weight,
        }
        self.keypoint_noise = keypoint_noise
        self.keypoint_dropout = keypoint_dropout
        self.image_noise = image_noise
        self.learning_rate = learning_rate
        self.discriminator_learning_rate = discriminator_learning_rate
        self.warmup_steps = warmup_steps
        self.body: BodyModel = BodyModel.load(body)
        self.backbone: Backbone | KeypointFeatures
        if input == "keypoints":
            if pretrained is not None:
                raise InputError("model.pretrained is for pictures: leave it out with model.input keypoints")
            self.backbone = KeypointFeatures(self.skeleton.num_joints, width, num_blocks)
        else:
            self.backbone = ResNet50() if backbone == "resnet50" else EfficientNetLite0()
        self.backbone.requires_grad_(not freeze_backbone)
        self.regressor = Regressor(self.backbone.width + 3 * box_input, hidden, num_iterations)
        self.discriminators = Discriminators() if adversarial else None
        self.train()  # the Trainer keeps the modes that it finds, and a frozen backbone is at rest from the start

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
        if self.discriminators is not None:
            terms["adversarial"] = prior_loss(self.discriminators, estimate.rotations, estimate.betas)
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        self.log_dict({f"train/loss_{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss, prog_bar=True)
        if self.discriminators is not None:
            loss = loss + self._discriminator_loss(self.discriminators, estimate, batch)
        # Data-parallel training waits for a gradient of every parameter, also where the batch has no such ground truth.
        return loss + 0.0 * (estimate.rotations.sum() + estimate.betas.sum() + estimate.camera.sum())

    def train(self, mode: bool = True) -> "HMR":
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit" or self.resumed:  # a resumed run restores everything from its own checkpoint
            return
        if self.pretrained is not None:
            assert isinstance(self.backbone, Backbone), "refused by the constructor"
            load_pretrained(self.backbone, self.regressor, self.pretrained)
        elif self.freeze_backbone:
            raise InputError("model.freeze_backbone needs a trained backbone: give model.pretrained")

    def configure_optimizers(self) -> dict[str, Any]:
        # One optimiser for both sides: Adam treats every parameter by itself, and each loss has its gradient on one
        # side only, so both are trained at once. Steps, clipping and resuming are then those of every other method.
        trained = [*self.regressor.parameters(), *(p for p in self.backbone.parameters() if p.requires_grad)]
        groups: list[dict[str, Any]] = [{"params": trained}]
        if self.discriminators is not None:
            groups.append({"params": list(self.discriminators.parameters()), "lr": self.discriminator_learning_rate})
        optimizer = torch.optim.Adam(groups, lr=self.learning_rate)
        return scheduled(optimizer, self.warmup_steps, range(int(self.trainer.estimated_stepping_batches)))

    def estimate(self, batch: PoseBatch) -> Estimate:
        """What the regressor says of each person."""
        features = self.backbone(self._input(batch))
        if self.box_input:
            features = torch.cat((features, box_in_view(self.box(batch), batch)), dim=-1)
        return self.regressor(features)

    def box(self, batch: PoseBatch) -> Float[Tensor, "B 3"]:
        """The box of each person: the batch's, or the one around the visible joints."""
        return batch["box"] if "box" in batch else crops.box_of_keypoints(batch["keypoints_2d"])

    def _input(self, batch: PoseBatch) -> Tensor:
        return self._image(batch) if self.input == "image" else self._keypoints(batch)

    def _image(self, batch: PoseBatch) -> Float[Tensor, "B 3 S S"]:
        if "image" not in batch:
            raise InputError("HMR takes pictures and this data has none: set model.input to keypoints, or change data")
        image = batch["image"]
        if self.training and self.image_noise:
            gain = 1.0 + self.image_noise * (2.0 * torch.rand_like(image[..., :1, :1]) - 1.0)
            image = (image * gain).clamp(0.0, 1.0)
        return image

    def _keypoints(self, batch: PoseBatch) -> Float[Tensor, "B J 3"]:
        keypoints = batch["keypoints_2d"]
        if keypoints.ndim != 3 or keypoints.shape[1] != self.skeleton.num_joints:
            raise InputError(
                f"keypoints_2d has shape {tuple(keypoints.shape)}; HMR takes single frames of "
                f"{self.skeleton.num_joints} joints in the order of {self.skeleton.name}: set data.num_frames to 1"
            )
        if self.training and self.keypoint_dropout:
            seen = torch.rand_like(keypoints[..., 2:]) >= self.keypoint_dropout
            keypoints = torch.cat((keypoints[..., :2], keypoints[..., 2:] * seen), dim=-1)
        joints = crops.joints_in_box(keypoints, self.box(batch))
        if self.training and self.keypoint_noise:
            seen = keypoints[..., 2:] > 0
            noise = self.keypoint_noise * torch.randn_like(joints[..., :2]) * seen
            joints = torch.cat((joints[..., :2] + noise, joints[..., 2:]), dim=-1)
        return joints

    def _discriminator_loss(self, judges: Discriminators, estimate: Estimate, batch: PoseBatch) -> Tensor:
        if "smpl" not in batch:
            raise InputError("model.adversarial needs data with body parameters, and this data has none")
        known = known_bodies(batch)
        real = rotations_of(batch["smpl"])[known], batch["smpl"]["betas"][known]
        loss = discriminator_loss(judges, (estimate.rotations, estimate.betas), real)
        self.log("train/loss_discriminator", loss.detach())
        return loss

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
