"""DPMesh (Zhu et al., CVPR 2024): a diffusion model's U-Net as a one-step backbone for people who are partly hidden."""

from typing import Literal

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor

from methods.dpmesh import conditions as told
from methods.dpmesh.backbone.context import Context
from methods.dpmesh.backbone.unet import LatentConvention, LoRAScope, Training
from methods.dpmesh.conditions import Conditions
from methods.dpmesh.losses import WEIGHTS, known_bodies, supervised_losses, token_loss
from methods.dpmesh.networks import MeshNetwork, PoseHeadName, make_network, make_pose_head, make_teacher
from methods.dpmesh.reasoning import Reasoning, read_teacher, reasoning_losses, stack_views
from methods.dpmesh.regressor.camera import full_translation, intrinsics, project_to_picture
from methods.dpmesh.regressor.pose_heads import CodebookHead
from methods.dpmesh.regressor.regressor import Estimate
from methods.dpmesh.settings import check_settings, check_start
from methods.dpmesh.sizes import SIZES, BackboneName, Size, sides_of
from methods.staged import Group, StagedMethod
from noise2pose import skeletons
from noise2pose.batch import JointMaps, PoseBatch, Prediction, Smpl
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError

_TITLES = {"diffusion": "DPMesh", "resnet50": "DPMesh (ResNet-50)", "transformer": "DPMesh (transformer)"}
_MAPS = {"8-16": (8, 16), "8-16-32": (8, 16, 32)}


class DPMesh(StagedMethod):
    """Regresses a body from a picture and noisy 2-D joints, with one step of a diffusion model as the backbone.

    With `nkr`, training has two stages: a teacher is trained on true joints, or taken from a checkpoint; then it is
    frozen, and the student is trained on noisy ones. The checkpoint holds both, so a run is resumed in either stage.

    Args:
        backbone: `diffusion`, or a baseline of the paper: `resnet50`, or `transformer` (ViT).
        size: `tiny` for processors without an accelerator, or `sd15`: Stable Diffusion 1.5, or ViT-L/16.
        image_size: side that pictures are resized to; by default 64 with `tiny` and 256 with `sd15`.
        pretrained: weights that training starts from. `diffusion`: Stable Diffusion 1.5, a folder in diffusers' layout
            or a single file; baselines: a file of ImageNet weights.
        control_pretrained: of a published ControlNet that the ControlNet starts from, folder or file, with `pretrained`
            (paper: that of OpenPose); by default it starts from the U-Net's weights.
        prior_checkpoint: checkpoint of a `methods.dpmesh.Prior` that training starts from, instead.
        heatmaps: show the backbone the heat-maps of the joints.
        context: how joints become tokens of the cross-attention: `mlp2_visible` (paper), `linear30` (release), `none`.
        maps: sides of the levels that cross-attention maps join: `8-16` (release) or `8-16-32` (paper).
        unet_training: `lora` (paper), `full` or `frozen`.
        lora_scope: layers with low-rank updates: `attn2` (paper), `attn`, `attn_ff` (release).
        lora_rank: of the updates.
        train_controlnet: as in the paper; the release never does.
        latent: `sd` for latents as the U-Net was trained on; `release` for those of pixels in [0, 1], not scaled.
        timestep: that the U-Net is told.
        gradient_checkpointing: compute activations of the backbone twice instead of keeping them.
        channels_last: memory layout of the backbone's convolutions.
        compile: compile the backbone.
        pose_head: `vq_soft` or `vq_ce`, with a codebook; `rot6d`; or `vposer` (release).
        codebook_checkpoint: checkpoint of a `methods.dpmesh.Codebook`, or the name of one that is shipped.
        codebook: written into checkpoints, which hold the codebook's weights; not to be given.
        vposer_file: weights of VPoser, version 1.
        nkr: terms of the noisy key-point reasoning: `off`, `mse`, `contrastive` or `both`.
        nkr_weight: of their sum.
        nkr_temperature: of the contrastive term (1 in the release's unused class).
        nkr_gather: take negatives from all processes.
        teacher_epochs: first epochs of the run, in which the teacher is trained.
        teacher_checkpoint: a trained DPMesh of the same sizes as the teacher, instead.
        train_keypoints: what the student is trained on: `noisy` for true joints with fresh errors, `clean` for true
            joints, `batch` for those of the data.
        joint_dropout: share of the joints that the student is not told of while training.
        release: be as published where that is not better, which published weights need: told of 30 joints, of which
            the data may lack some, with heat-maps half a cell off, and with the regressor's quirks.
        body: `free`, or the path of a body file.
        skeleton: joint order of the data, a name in `noise2pose.skeletons` that the body has a regressor for.
        image_weight, fitted_image_weight, pose_weight, betas_weight, joints_2d_weight, joints_3d_weight: of the terms
            of `methods.dpmesh.losses`.
        token_weight: of the cross-entropy of `vq_ce`.
        uncertainty: learn the weights of the terms instead (release).
        image_noise: each colour channel is multiplied by at most so much more or less than 1 while training.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    input = "image"
    first_stage_option = "teacher_epochs"
    weight_files = (
        *("pretrained", "control_pretrained", "prior_checkpoint"),
        *("codebook_checkpoint", "teacher_checkpoint", "vposer_file"),
    )

    def __init__(
        self,
        backbone: BackboneName = "diffusion",
        size: Size = "tiny",
        image_size: int | None = None,
        pretrained: str | None = None,
        control_pretrained: str | None = None,
        prior_checkpoint: str | None = None,
        heatmaps: bool = True,
        context: Context = "mlp2_visible",
        maps: Literal["8-16", "8-16-32"] = "8-16",
        unet_training: Training = "lora",
        lora_scope: LoRAScope = "attn2",
        lora_rank: int = 64,
        train_controlnet: bool = True,
        latent: LatentConvention = "sd",
        timestep: int = 1,
        gradient_checkpointing: bool = False,
        channels_last: bool = False,
        compile: bool = False,
        pose_head: PoseHeadName = "vq_soft",
        codebook_checkpoint: str | None = None,
        codebook: str | None = None,
        vposer_file: str | None = None,
        nkr: Reasoning = "off",
        nkr_weight: float = 1.0,
        nkr_temperature: float = 0.5,
        nkr_gather: bool = True,
        teacher_epochs: int = 0,
        teacher_checkpoint: str | None = None,
        train_keypoints: Literal["noisy", "clean", "batch"] = "noisy",
        joint_dropout: float = 0.1,
        release: bool = False,
        body: str = "free",
        skeleton: str = "h36m_17",
        image_weight: float = WEIGHTS["image"],
        fitted_image_weight: float = WEIGHTS["fitted_image"],
        pose_weight: float = WEIGHTS["pose"],
        betas_weight: float = WEIGHTS["betas"],
        joints_2d_weight: float = WEIGHTS["joints_2d"],
        joints_3d_weight: float = WEIGHTS["joints_3d"],
        token_weight: float = 0.5,
        uncertainty: bool = False,
        image_noise: float = 0.2,
        learning_rate: float = 1e-4,
        weight_decay: float = 1e-6,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        check_settings(self.hparams)
        self.title = _TITLES[backbone] + ("" if nkr == "off" else f" + NKR ({nkr})")
        self.num_steps = 1 if backbone == "diffusion" else 0
        self.shows_joints = heatmaps or (backbone == "diffusion" and context != "none")
        self.pretrained, self.prior_checkpoint = pretrained, prior_checkpoint
        self.heatmaps = heatmaps
        self.nkr: Reasoning = nkr
        self.nkr_weight, self.nkr_temperature, self.nkr_gather = nkr_weight, nkr_temperature, nkr_gather
        self.first_stage_epochs, self.teacher_checkpoint = teacher_epochs, teacher_checkpoint
        self.train_keypoints, self.joint_dropout = train_keypoints, joint_dropout
        self.weights = {
            "image": image_weight,
            "fitted_image": fitted_image_weight,
            "pose": pose_weight,
            "betas": betas_weight,
            "joints_2d": joints_2d_weight,
            "joints_3d": joints_3d_weight,
            "tokens": token_weight,
        }
        self.image_noise = image_noise
        self.learning_rate, self.weight_decay, self.warmup_steps = learning_rate, weight_decay, warmup_steps
        self.release = release
        self.skeleton = skeletons.get(skeleton)
        num_joints = skeletons.get(told.RELEASED if release else skeleton).num_joints
        self.body: BodyModel = BodyModel.load(body)
        sizes = SIZES[size]
        head, self.hparams["codebook"] = make_pose_head(
            pose_head, sizes.width, sizes.num_decoder_layers, codebook_checkpoint, codebook, vposer_file
        )
        diffusion = {
            **{"weights": pretrained, "control_weights": control_pretrained, "latent": latent, "timestep": timestep},
            **{"maps": _MAPS[maps], "unet_training": unet_training, "lora_scope": lora_scope, "lora_rank": lora_rank},
            **{"train_controlnet": train_controlnet, "gradient_checkpointing": gradient_checkpointing},
            **{"channels_last": channels_last, "compile": compile},
        }
        parts = (num_joints, uncertainty, heatmaps, context, diffusion, release, sides_of(size, image_size))
        self.network = make_network(backbone, size, head, *parts)
        self.teacher = None if nkr == "off" else make_teacher(self.network)
        if self.teacher is not None and not teacher_epochs:
            self.teacher.requires_grad_(False)
        self.register_buffer("student_steps", torch.zeros((), dtype=torch.int64))
        self.train()  # the Trainer keeps the modes that it finds, and frozen parts are at rest from the start

    @property
    def uses_keypoints(self) -> bool:
        return self.shows_joints

    def forward(self, batch: PoseBatch) -> Prediction:
        assert self.body is not None
        box = told.checked_box(batch)
        estimate, _ = self._answering(told.picture(batch), self._conditions(batch["keypoints_2d"], box, batch))
        with torch.autocast(box.device.type, enabled=False):
            smpl: Smpl = {"global_orient": estimate.root, "body_pose": estimate.body_pose, "betas": estimate.betas}
            joints = self.body.joints(**smpl, regressor=self.skeleton.name)
            root = joints[:, self.skeleton.root, None]
            prediction: Prediction = {
                "joints_3d": joints - root,
                "smpl": smpl,
                "camera_translation": full_translation(estimate.camera, box, *intrinsics(batch)),
            }
            if not self.training:
                prediction["vertices"] = self.body(**smpl).vertices - root
        return prediction

    @torch.no_grad()
    def joint_maps(self, batch: PoseBatch) -> JointMaps:
        seen = self._conditions(batch["keypoints_2d"], told.checked_box(batch), batch)
        maps = {"heatmaps": seen.heatmaps} if self.heatmaps else {}
        attention = self._answering.attention(told.picture(batch), seen)
        maps |= {f"attention_{side}": found.float() for side, found in attention.items()}
        return JointMaps(told.RELEASED if self.release else self.skeleton.name, seen.present, maps)

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        box, image, true = told.checked_box(batch), told.picture(batch), told.clean_keypoints(batch)
        image = told.vary_colours(image, self.image_noise)
        clean = self._conditions(true, box, batch)
        if self.in_first_stage:
            assert self.teacher is not None
            network, seen = self.teacher, clean
        else:
            network, seen = self.network, self._conditions(self._keypoints(batch, true), box, batch)
            self.student_steps += 1
        estimate, levels = network(image, seen)
        taught = {}
        if self.teacher is not None and network is self.network:
            with torch.no_grad():  # at the precision of the student
                target = self.teacher.levels(image, clean)
            taught = self._reasoning(levels, target)
        with torch.autocast(box.device.type, enabled=False):
            terms = self._supervised(estimate, batch, true, box)
            if network.balance is None:
                loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
            else:
                loss = network.balance.total(terms)
            if taught:
                loss = loss + self.nkr_weight * torch.stack(list(taught.values())).sum()
                terms |= {f"nkr_{name}": term for name, term in taught.items()}
        self.log_dict({f"train/loss_{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss, prog_bar=True)
        return self.with_frozen_parameters(loss)

    def stage_groups(self) -> tuple[list[Group], list[Group]]:
        taught_here = self.teacher is not None and self.first_stage_epochs > 0
        first = self.teacher.parameter_groups(self.weight_decay) if self.teacher is not None and taught_here else []
        return first, self.network.parameter_groups(self.weight_decay)

    def train(self, mode: bool = True) -> "DPMesh":
        super().train(mode)
        if self.teacher is not None and not self.in_first_stage:
            self.teacher.eval()
        return self

    def check_training(self, trainer: L.Trainer, resumed: bool) -> None:
        super().check_training(trainer, resumed)
        if self.nkr != "off" and not (self.first_stage_epochs or self.teacher_checkpoint):
            raise InputError(
                f"model.nkr {self.nkr} needs a teacher: give model.teacher_epochs of at least 1, or "
                "model.teacher_checkpoint"
            )
        if not resumed:
            check_start(self.hparams, self.network.sides.image)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit" or self.resumed:  # a resumed run restores everything from its own checkpoint
            return
        for source in (None if self.num_steps else self.pretrained, self.prior_checkpoint):
            if source is not None:
                self.network.features.load_pretrained(source)
        if self.teacher is not None:
            self.teacher.load_state_dict(self.network.state_dict())
            if self.teacher_checkpoint is not None:
                read_teacher(self.teacher_checkpoint, self.teacher, self.network)

    @property
    def _answering(self) -> MeshNetwork:
        """The student, as soon as it has been trained."""
        return self.network if self.teacher is None or self.student_steps > 0 else self.teacher

    def _supervised(
        self, estimate: Estimate, batch: PoseBatch, true: Float[Tensor, "B J 3"], box: Float[Tensor, "B 3"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Every term that the batch has ground truth for, not yet weighted."""
        assert self.body is not None
        joints = self.body.joints(estimate.root, estimate.body_pose, estimate.betas, regressor=self.skeleton.name)
        camera = intrinsics(batch)
        pixels = project_to_picture(joints, full_translation(estimate.camera, box, *camera), *camera)
        terms = supervised_losses(estimate, joints, pixels, true, box, batch, self.skeleton, self.body)
        head = self.network.regressor.pose_head
        if isinstance(head, CodebookHead) and head.hard and "smpl" in batch:
            indices, _ = head.codebook.encode(batch["smpl"]["body_pose"].flatten(-2))  # pyright: ignore[reportCallIssue]
            terms["tokens"] = token_loss(estimate.pose_code, indices, known_bodies(batch))
        return terms

    def _reasoning(self, levels: list[Tensor], target: list[Tensor]) -> dict[str, Float[Tensor, ""]]:
        """What the student still has to learn from the teacher, which sees the true joints."""
        with torch.autocast(self.device.type, enabled=False):
            gathered = None
            if self.nkr_gather and self.trainer.world_size > 1 and self.nkr in ("contrastive", "both"):
                gathered = [torch.as_tensor(self.all_gather(x, sync_grads=True)) for x in stack_views(levels, target)]
            return reasoning_losses(levels, target, self.nkr, self.nkr_temperature, gathered)

    def _conditions(self, keypoints: Tensor, box: Tensor, batch: PoseBatch) -> Conditions:
        """What the network is told of the joints."""
        told.check_joints(keypoints, self.skeleton)
        if self.release:
            keypoints = told.released_joints(keypoints, self.skeleton.name)
        image_size = batch.get("camera", {}).get("image_size")
        size = self.network.sides.latents
        found = told.conditions(keypoints, box, image_size, size=size, corners=self.release)
        return found if self.heatmaps else found._replace(heatmaps=torch.zeros_like(found.heatmaps))

    def _keypoints(self, batch: PoseBatch, true: Tensor) -> Tensor:
        """The joints that the student is trained on."""
        keypoints = {"clean": true, "batch": batch["keypoints_2d"]}.get(self.train_keypoints)
        if keypoints is None:
            keypoints = told.noisy_keypoints(batch, self.skeleton.name, self.global_step, self._seed)
        return told.drop_joints(keypoints, self.joint_dropout)
