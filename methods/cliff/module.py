"""CLIFF (Li et al., ECCV 2022): a body from the image of a person and from where in the photograph they are."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from methods.base import PoseMethod
from methods.cliff.losses import supervised_losses
from methods.cliff.official import BODIES, published_parts
from methods.cliff.regressor import (
    BACKBONES,
    HEADS,
    BackboneName,
    BoxNorm,
    Crop,
    Head,
    box_information,
    cropped,
    of_smpl,
    regressor_for,
)
from methods.mesh_batches import (
    PinholeCamera,
    box_of,
    camera_of,
    check_single_frames,
    image_of,
    image_size_of,
    project_to_image,
    vary_colours,
)
from methods.mesh_regression import Estimate, full_translation, mean_of, mirrored, prediction_of, whole_loss
from methods.networks.pretrained import load_pretrained
from methods.schedules import scheduled
from noise2pose import skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError


class CLIFF(PoseMethod):
    """Regresses a body from a crop and the place of its box in the whole image, in which the 2-D loss is taken.

    Args:
        backbone: `hrnet_w48_pose` as BEDLAM and Pose++, `hrnet_w48` or `resnet50` as CLIFF, or `efficientnet_lite0` for
            processors without an accelerator.
        pretrained: weights that training starts from: `imagenet` for those that a package ships, or a file (see
            `methods.networks.pretrained`). They are read when training starts and not needed afterwards.
        freeze_backbone: train the regressor alone.
        head: `smpl` for 24 rotations and 10 shape coefficients, `smplx` for 22 and 11.
        bbox_norm: unit of the box information: `bedlam`, or `cliff` (see `box_information`). Weights know their own.
        crop: `square`, or `portrait` as CLIFF (see `cropped`).
        test_focal: focal length of evaluations: the batch's (`camera`), or always the diagonal of the image
            (`diagonal`), with which the published numbers were made.
        hidden: units of the regressor.
        num_iterations: of the regressor.
        dropout: of the regressor's layers (published: 0.5).
        flip_test: the answer is the mean of those to the image and to its mirror image.
        body: `free`, or the path of a body file.
        skeleton: joint order of the data, a name in `noise2pose.skeletons` that the body has a regressor for.
        loss_weight: of the sum of all terms.
        keypoints_3d_weight: of the loss on joints, metres.
        keypoints_2d_weight: of the loss on projected joints in the whole image.
        vertex_weight: of the loss on vertices; at 0 no mesh is computed, and training is much faster.
        pose_weight: of the loss on rotation matrices without the root's.
        betas_weight: of the loss on the shape.
        camera_weight: of the prior on the camera's scale.
        image_noise: while training, each colour channel is multiplied by a random factor that differs from 1 by at
            most this.
        learning_rate: of Adam, at its peak.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    weight_files = ("pretrained",)

    def __init__(
        self,
        backbone: BackboneName = "hrnet_w48_pose",
        pretrained: str | None = None,
        freeze_backbone: bool = False,
        head: Head = "smpl",
        bbox_norm: BoxNorm = "bedlam",
        crop: Crop = "square",
        test_focal: Literal["camera", "diagonal"] = "camera",
        hidden: int = 1024,
        num_iterations: int = 3,
        dropout: float = 0.5,
        flip_test: bool = False,
        body: str = "free",
        skeleton: str = "h36m_17",
        loss_weight: float = 60.0,
        keypoints_3d_weight: float = 5.0,
        keypoints_2d_weight: float = 5.0,
        vertex_weight: float = 1.0,
        pose_weight: float = 1.0,
        betas_weight: float = 0.001,
        camera_weight: float = 1.0,
        image_noise: float = 0.4,
        learning_rate: float = 5e-5,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.title = "CLIFF"
        self.input = "image"
        self.pretrained = pretrained
        self.freeze_backbone = freeze_backbone
        self.head = HEADS[head]
        self.bbox_norm: BoxNorm = bbox_norm
        self.crop: Crop = crop
        self.test_focal = test_focal
        self.flip_test = flip_test
        self.skeleton = skeletons.get(skeleton)
        weights = {
            "joints_3d": keypoints_3d_weight,
            "joints_2d": keypoints_2d_weight,
            "vertices": vertex_weight,
            "pose": pose_weight,
            "betas": betas_weight,
            "camera": camera_weight,
        }
        self.weights = {name: loss_weight * weight for name, weight in weights.items()}
        self.image_noise = image_noise
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.body: BodyModel = BodyModel.load(body)
        self.backbone = BACKBONES[backbone]()
        self.backbone.requires_grad_(not freeze_backbone)
        self.regressor = regressor_for(self.backbone, self.head, hidden, num_iterations, dropout)
        self.train()  # the Trainer keeps the modes that it finds, and a frozen backbone is in evaluation mode

    def forward(self, batch: PoseBatch) -> Prediction:
        box, camera = box_of(batch), self._camera(batch)
        estimate = self.estimate(batch, box, camera)
        joints = self._joints(estimate)
        translation = full_translation(estimate.camera, box, camera)
        prediction = prediction_of(estimate, joints, translation, self.skeleton.root)
        if self.answers_mesh and not self.training:
            pose = self.body.complete(estimate.rotations[:, 1:])
            mesh = self.body(estimate.rotations[:, 0], pose, estimate.betas).vertices
            prediction["vertices"] = mesh - joints[:, self.skeleton.root, None]
        return prediction

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        for key in ("keypoints_2d", "keypoints_3d"):
            if key in batch:
                check_single_frames(batch[key], self.skeleton, self.title)
        box, camera = box_of(batch), self._camera(batch)
        estimate = self.estimate(batch, box, camera)
        joints = self._joints(estimate)
        pixels = project_to_image(joints + full_translation(estimate.camera, box, camera)[:, None], camera)
        terms = supervised_losses(
            estimate, joints, pixels, box, image_size_of(batch), batch,
            body=self.body, skeleton=self.skeleton.name, root=self.skeleton.root,
            num_rotations=self.head.num_rotations, vertices=self.weights["vertices"] > 0.0,
        )  # fmt: skip
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        self.log_dict({f"train/loss_{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss, prog_bar=True)
        return whole_loss(estimate, loss)

    def train(self, mode: bool = True) -> "CLIFF":
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit" or self.resumed:  # a resumed run restores everything from its own checkpoint
            return
        if self.pretrained is not None:
            load_pretrained(self.backbone, self.regressor, self.pretrained, published_parts, beside=BODIES)
        elif self.freeze_backbone:
            raise InputError("model.freeze_backbone needs a trained backbone: give model.pretrained")

    def configure_optimizers(self) -> dict[str, Any]:
        trained = [*self.regressor.parameters(), *(p for p in self.backbone.parameters() if p.requires_grad)]
        optimizer = torch.optim.Adam(trained, lr=self.learning_rate)
        return scheduled(optimizer, self.warmup_steps, range(int(self.trainer.estimated_stepping_batches)))

    def estimate(self, batch: PoseBatch, box: Float[Tensor, "B 3"], camera: PinholeCamera) -> Estimate:
        """The regressor's estimate of each person, as SMPL's parameters."""
        image = image_of(batch, self.title)
        if self.training and self.image_noise:
            image = vary_colours(image, self.image_noise)
        image, place = cropped(image, self.crop), box_information(box, camera, self.bbox_norm)
        estimate = self._regress(image, place)
        if not self.flip_test or self.training:
            return estimate
        other = self._regress(image.flip(-1), place * place.new_tensor([-1.0, 1.0, 1.0]))
        return mean_of(estimate, mirrored(other))

    def _regress(self, image: Tensor, place: Float[Tensor, "B 3"]) -> Estimate:
        return of_smpl(self.regressor(torch.cat((self.backbone(image), place), dim=-1)))

    def _camera(self, batch: PoseBatch) -> PinholeCamera:
        if self.training or self.test_focal == "camera" or "camera" not in batch:
            return camera_of(batch)
        known = {key: value for key, value in batch["camera"].items() if key != "focal"}
        return camera_of({**batch, "camera": known})  # pyright: ignore[reportArgumentType]

    def _joints(self, estimate: Estimate) -> Float[Tensor, "B J 3"]:
        """Joints of the body, metres, before its translation."""
        pose = self.body.complete(estimate.rotations[:, 1:])
        return self.body.joints(estimate.rotations[:, 0], pose, estimate.betas, regressor=self.skeleton.name)
