"""HMR (Kanazawa et al., CVPR 2018): a body from one image of a person, or from the person's 2-D joints."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.base import PoseMethod
from methods.facing import Normalisation, towards_person, turned_back
from methods.hmr.features import KeypointFeatures
from methods.hmr.losses import Discriminators, Measure, discriminator_loss, prior_loss, supervised_losses
from methods.hmr.official import published_parts
from methods.mesh_batches import (
    PinholeCamera,
    box_of,
    camera_of,
    check_single_frames,
    image_of,
    known_bodies,
    project_to_image,
    rotations_of,
    vary_colours,
)
from methods.mesh_regression import (
    Estimate,
    Regressor,
    box_in_view,
    full_translation,
    mean_of,
    mirrored,
    prediction_of,
    whole_loss,
)
from methods.networks.backbones import Backbone, BackboneName, make_backbone
from methods.networks.pretrained import load_pretrained
from methods.schedules import scheduled
from noise2pose import skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.images.crops import joints_in_box


class HMR(PoseMethod):
    """Regresses the parameters of a body and a camera from the features of an image, or of a person's 2-D joints.

    The 2-D loss is taken in the whole image with the camera of the batch (full perspective, as in CLIFF; HMR assumes a
    focal length of 5000 pixels in the crop).

    Args:
        input: `image` for the crop of the box, `keypoints` for the 2-D joints.
        backbone: image only: `resnet50` as published, or `efficientnet_lite0` for processors without an accelerator.
        pretrained: image only: weights that training starts from: `imagenet` for those that a package ships, or a file
            (see `methods.networks.pretrained`). They are read when training starts and not needed afterwards.
        freeze_backbone: train the regressor alone.
        width: keypoints only: of the features.
        num_blocks: keypoints only: residual blocks of the features.
        hidden: units of the regressor.
        num_iterations: of the regressor.
        normalisation: keypoints only: `box` for all joints in the box of the batch, or `limbs` for the twelve limb
            joints in a box around them, seen by a camera that is turned to the person (`methods.facing`): then it does
            not matter where in the image they are, nor what a detector calls spine, chin and top of the head.
        feature_dropout: keypoints only: in the blocks of the features.
        dropout: of the regressor's layers (published: 0.5).
        flip_test: the answer is the mean of those to the keypoints or the image and to their mirror image.
        box_input: give the regressor the place and the size of the box in the field of view (CLIFF). A crop alone does
            not show from which direction the camera sees the person.
        body: `free`, or the path of a body file.
        skeleton: joint order of the data, a name in `noise2pose.skeletons` that the body has a regressor for.
        measure: of the losses on joints and rotations: `squares` as published, or `distance`.
        keypoints_3d_weight: of the loss on root-relative joints, metres.
        keypoints_2d_weight: of the loss on projected joints, half box sides.
        vertex_weight: of the loss on vertices; at 0 no mesh is computed, and training is much faster.
        pose_weight: of the loss on rotation matrices.
        betas_weight: of the loss on the shape.
        camera_weight: of the prior on the camera's scale (SPIN).
        keypoint_noise: keypoints only: standard deviation of noise on the joints while training, half box sides.
        keypoint_dropout: keypoints only: share of the joints that are hidden while training.
        image_noise: image only: while training, each colour channel is multiplied by a random factor that differs from
            1 by at most this.
        adversarial: train discriminators of poses and shapes, and the regressor to deceive them.
        adversarial_weight: of the regressor's term.
        learning_rate: of Adam, at its peak.
        discriminator_learning_rate: of Adam for the discriminators, at its peak.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    weight_files = ("pretrained",)

    def __init__(
        self,
        input: Literal["image", "keypoints"] = "image",
        backbone: BackboneName = "resnet50",
        pretrained: str | None = None,
        freeze_backbone: bool = False,
        width: int = 1024,
        num_blocks: int = 2,
        hidden: int = 1024,
        num_iterations: int = 3,
        normalisation: Normalisation = "box",
        feature_dropout: float = 0.1,
        dropout: float = 0.5,
        flip_test: bool = False,
        box_input: bool = False,
        body: str = "free",
        skeleton: str = "h36m_17",
        measure: Measure = "squares",
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
        self.normalisation: Normalisation = normalisation
        self.measure: Measure = measure
        self.flip_test = flip_test
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
                raise InputError("model.pretrained is for images: leave it out with model.input keypoints")
            self.backbone = KeypointFeatures(self.skeleton.num_joints, width, num_blocks, feature_dropout)
        else:
            if normalisation != "box":
                raise InputError(f"model.normalisation {normalisation} is for keypoints: set model.input to keypoints")
            self.backbone = make_backbone(backbone)
        self.backbone.requires_grad_(not freeze_backbone)
        self.regressor = Regressor(self.backbone.width + 3 * box_input, hidden, num_iterations, dropout)
        self.discriminators = Discriminators() if adversarial else None
        self.train()  # the Trainer keeps the modes that it finds, and a frozen backbone is in evaluation mode

    def forward(self, batch: PoseBatch) -> Prediction:
        batch, rotation = towards_person(batch, self.skeleton, self.normalisation)
        box, camera = box_of(batch), camera_of(batch)
        estimate = self.estimate(batch, box, camera)
        joints = self._joints(estimate)
        translation = full_translation(estimate.camera, box, camera)
        prediction = prediction_of(estimate, joints, translation, self.skeleton.root)
        if self.answers_mesh and not self.training:
            mesh = self.body(estimate.rotations[:, 0], estimate.rotations[:, 1:], estimate.betas).vertices
            prediction["vertices"] = mesh - joints[:, self.skeleton.root, None]
        return turned_back(prediction, rotation, self.body.rest_joints(estimate.betas)[:, 0])

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        batch, _ = towards_person(batch, self.skeleton, self.normalisation)
        box, camera = box_of(batch), camera_of(batch)
        estimate = self.estimate(batch, box, camera)
        joints = self._joints(estimate)
        translation = full_translation(estimate.camera, box, camera)
        pixels = project_to_image(joints + translation[:, None], camera)
        body = self.body if self.weights["vertices"] else None
        terms = supervised_losses(estimate, joints, pixels, box, batch, self.skeleton.root, body, self.measure)
        if self.discriminators is not None:
            terms["adversarial"] = prior_loss(self.discriminators, estimate.rotations, estimate.betas)
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        self.log_dict({f"train/loss_{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss, prog_bar=True)
        if self.discriminators is not None:
            if "smpl" not in batch:
                raise InputError("model.adversarial needs data with body parameters, and this data has none")
            known = known_bodies(batch)
            real = rotations_of(batch["smpl"])[known], batch["smpl"]["betas"][known]
            judged = discriminator_loss(self.discriminators, (estimate.rotations, estimate.betas), real)
            self.log("train/loss_discriminator", judged.detach())
            loss = loss + judged
        return whole_loss(estimate, loss)

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
            load_pretrained(self.backbone, self.regressor, self.pretrained, published_parts)
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

    def estimate(self, batch: PoseBatch, box: Float[Tensor, "B 3"], camera: PinholeCamera) -> Estimate:
        """The regressor's estimate of each person."""
        seen, place = self._input(batch, box), box_in_view(box, camera)
        estimate = self._regress(seen, place)
        if not self.flip_test or self.training:
            return estimate
        mirror = seen.new_tensor([-1.0, 1.0, 1.0])
        flipped = seen[:, list(self.skeleton.flip_order)] * mirror if self.input == "keypoints" else seen.flip(-1)
        return mean_of(estimate, mirrored(self._regress(flipped, place * mirror)))

    def _regress(self, seen: Tensor, place: Float[Tensor, "B 3"]) -> Estimate:
        features = self.backbone(seen)
        return self.regressor(torch.cat((features, place), dim=-1) if self.box_input else features)

    def _input(self, batch: PoseBatch, box: Float[Tensor, "B 3"]) -> Tensor:
        if self.input == "keypoints":
            return self._joints_in_box(batch["keypoints_2d"], box)
        image = image_of(batch, "HMR", remedy="set model.input to keypoints")
        return vary_colours(image, self.image_noise) if self.training and self.image_noise else image

    def _joints_in_box(self, keypoints: Float[Tensor, "B J 3"], box: Float[Tensor, "B 3"]) -> Float[Tensor, "B J 3"]:
        check_single_frames(keypoints, self.skeleton, "HMR")
        if self.training and self.keypoint_dropout:
            seen = torch.rand_like(keypoints[..., 2:]) >= self.keypoint_dropout
            keypoints = torch.cat((keypoints[..., :2], keypoints[..., 2:] * seen), dim=-1)
        joints = joints_in_box(keypoints, box)
        if self.training and self.keypoint_noise:
            seen = keypoints[..., 2:] > 0
            noise = self.keypoint_noise * torch.randn_like(joints[..., :2]) * seen
            joints = torch.cat((joints[..., :2] + noise, joints[..., 2:]), dim=-1)
        return joints

    def _joints(self, estimate: Estimate) -> Float[Tensor, "B J 3"]:
        """Joints of the body, metres, before its translation."""
        rotations = estimate.rotations
        return self.body.joints(rotations[:, 0], rotations[:, 1:], estimate.betas, regressor=self.skeleton.name)
