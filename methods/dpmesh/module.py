"""DPMesh (Zhu et al., CVPR 2024): a diffusion model's U-Net as a one-step backbone for partly occluded people."""

from typing import Literal

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor

from methods.dpmesh.backbone.attention import Context
from methods.dpmesh.backbone.unet import HeatmapInput, LatentConvention, LoRAScope, Training
from methods.dpmesh.conditions import RELEASED, Observation, Observer, TrainingKeypoints
from methods.dpmesh.losses import WEIGHTS, Reasoning, reasoning_losses, stack_views, supervised_losses, token_loss
from methods.dpmesh.networks import MeshNetwork, PoseHeadName, make_network, make_pose_head, make_teacher, read_teacher
from methods.dpmesh.regressor.pose_heads import CodebookHead
from methods.dpmesh.regressor.regressor import Estimate, full_translation
from methods.dpmesh.settings import SIZES, BackboneName, Size, check_settings, check_start, sides_of
from methods.dpmesh.sharding import gather, shard, share
from methods.mesh_batches import known_bodies, project_to_image
from methods.staged import Group, StagedMethod
from noise2pose import skeletons
from noise2pose.batch import JointMaps, PoseBatch, Prediction, Smpl
from noise2pose.bodies import BodyModel

_TITLES = {"diffusion": "DPMesh", "resnet50": "DPMesh (ResNet-50)", "transformer": "DPMesh (transformer)"}
_OF_BACKBONE = (
    *("heatmap_input", "latent", "timestep", "unet_training", "lora_scope", "lora_rank", "train_controlnet"),
    *("gradient_checkpointing", "channels_last", "compile"),
)
_MAPS = {"8-16": (8, 16), "8-16-32": (8, 16, 32)}


class DPMesh(StagedMethod):
    """Regresses a body from an image and noisy 2-D joints, with one step of a diffusion model as the backbone.

    With `nkr`, training has two stages: a teacher is trained on true joints, or taken from a checkpoint; then it is
    frozen, and the student is trained on noisy ones. Checkpoints hold both, so a run is resumed in either stage.

    Args:
        backbone: `diffusion`, or a baseline of the paper: `resnet50`, or `transformer` (ViT).
        size: `tiny` for processors without an accelerator, or `sd15`: Stable Diffusion 1.5, or ViT-L/16.
        image_size: side that images are resized to; by default 64 with `tiny` and 256 with `sd15`.
        pretrained: weights that training starts from. `diffusion`: Stable Diffusion 1.5, a folder in diffusers' layout
            or a single file; baselines: a file of ImageNet weights.
        control_pretrained: weights of a published ControlNet that the ControlNet starts from, folder or file, together
            with `pretrained` (paper: that of OpenPose); by default it starts from the U-Net's weights.
        prior_checkpoint: checkpoint of a `methods.dpmesh.Prior` that training starts from, instead of `pretrained`.
        heatmaps: give the heat-maps of the joints to the backbone.
        heatmap_input: of the diffusion backbone: `control` gives them beside the latents to a ControlNet (paper), `add`
            adds a linear map of them to the latents (paper, Table 4: z0 + c_add).
        context: how joints become tokens of the cross-attention: `mlp2_visible` (paper), `linear30` (release), `none`.
        maps: sides of the levels that cross-attention maps join: `8-16` (release) or `8-16-32` (paper).
        unet_training: `lora` (paper), `full` or `frozen`.
        lora_scope: layers with low-rank updates: `attn2` (paper), `attn`, `attn_ff` (release).
        lora_rank: of the updates.
        train_controlnet: train the ControlNet, as in the paper; the release does not.
        latent: `sd` for latents as the U-Net was trained on; `release` for those of pixels in [0, 1], not scaled.
        timestep: given to the U-Net.
        gradient_checkpointing: compute activations of the backbone twice instead of keeping them.
        channels_last: memory layout of the backbone's convolutions.
        compile: compile the backbone.
        pose_head: `vq_soft` or `vq_ce`, with a codebook; `rot6d`; or `vposer` (release).
        codebook_checkpoint: checkpoint of a `methods.dpmesh.Codebook`, or the name of one that is shipped.
        codebook: description of the codebook, which checkpoints hold beside its weights; not for the command line.
        vposer_file: weights of VPoser, version 1.
        nkr: terms of the noisy keypoint reasoning: `off`, `mse`, `contrastive` or `both`.
        nkr_weight: of their sum.
        nkr_temperature: of the contrastive term (1 in the release's unused class).
        nkr_gather: take negatives from all processes.
        teacher_epochs: first epochs of the run, in which the teacher is trained.
        teacher_checkpoint: checkpoint of a trained DPMesh of the same sizes that is the teacher, instead.
        train_keypoints: joints of the student's training: `noisy` for true joints with fresh errors, `clean` for true
            joints, `batch` for the keypoints of the data.
        joint_dropout: share of the joints that are hidden from the student in training.
        release: behave as published also where that is not better, as published weights need it: conditions of 30
            joints, of which the data may lack some, heat-maps half a cell off, and the regressor's quirks.
        body: `free`, or the path of a body file.
        skeleton: joint order of the data, a name in `noise2pose.skeletons` that the body has a regressor for.
        image_weight, fitted_image_weight, pose_weight, betas_weight, joints_2d_weight, joints_3d_weight: of the terms
            of `methods.dpmesh.losses`.
        token_weight: of the cross-entropy of `vq_ce`.
        uncertainty: learn the weights of the terms instead (release).
        image_noise: in training, each colour channel is multiplied by a random factor that differs from 1 by at most
            this.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW.
        warmup_steps: optimiser steps of linear warm-up.
        final_epochs: last epochs of each stage, with a tenth of the learning rate (paper: 5); 0 for half a cosine.
    """

    input = "image"
    first_stage_option = "teacher_epochs"
    ranges = {"timestep": (0, 999)}
    weight_files = (
        "pretrained",
        "control_pretrained",
        "prior_checkpoint",
        "codebook_checkpoint",
        "teacher_checkpoint",
        "vposer_file",
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
        heatmap_input: HeatmapInput = "control",
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
        train_keypoints: TrainingKeypoints = "noisy",
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
        final_epochs: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        check_settings(self.hparams)
        self.title = _TITLES[backbone] + ("" if nkr == "off" else f" + NKR ({nkr})")
        self.num_steps = 1 if backbone == "diffusion" else 0
        self.pretrained, self.prior_checkpoint = pretrained, prior_checkpoint
        self.heatmaps = heatmaps
        self.nkr: Reasoning = nkr
        self.nkr_weight, self.nkr_temperature, self.nkr_gather = nkr_weight, nkr_temperature, nkr_gather
        self.first_stage_epochs, self.teacher_checkpoint = teacher_epochs, teacher_checkpoint
        self.weights = {name: self.hparams[f"{name}_weight"] for name in WEIGHTS} | {"tokens": token_weight}
        self.learning_rate, self.weight_decay, self.warmup_steps = learning_rate, weight_decay, warmup_steps
        self.final_epochs = final_epochs
        self.release, self.skeleton = release, skeletons.get(skeleton)
        self.body: BodyModel = BodyModel.load(body)
        sizes, sides = SIZES[size], sides_of(size, image_size)
        self.observer = Observer(
            self.skeleton, sides.latents, release, heatmaps, train_keypoints, joint_dropout, image_noise
        )
        head, self.hparams["codebook"] = make_pose_head(
            pose_head, sizes.width, sizes.num_decoder_layers, codebook_checkpoint, codebook, vposer_file
        )
        diffusion = {
            "weights": pretrained,
            "control_weights": control_pretrained,
            "maps": _MAPS[maps],
            **{name: self.hparams[name] for name in _OF_BACKBONE},
        }
        self.network = make_network(
            backbone,
            size,
            head,
            num_joints=skeletons.get(RELEASED if release else skeleton).num_joints,
            uncertainty=uncertainty,
            heatmaps=heatmaps,
            context=context,
            diffusion=diffusion,
            release=release,
            sides=sides,
        )
        self.teacher = None if nkr == "off" else make_teacher(self.network)
        if self.teacher is not None and not teacher_epochs:
            self.teacher.requires_grad_(False)
        self.register_buffer("student_steps", torch.zeros((), dtype=torch.int64))
        self.train()  # the Trainer keeps the modes that it finds, and frozen parts are in evaluation mode

    @property
    def uses_keypoints(self) -> bool:
        return self.heatmaps or (self.hparams["backbone"] == "diffusion" and self.hparams["context"] != "none")

    def forward(self, batch: PoseBatch) -> Prediction:
        observed = self.observer.observe(batch)
        estimate, _ = self.active_network(observed.image, observed.conditions)
        with torch.autocast(self.device.type, enabled=False):
            smpl: Smpl = {"global_orient": estimate.root, "body_pose": estimate.body_pose, "betas": estimate.betas}
            joints = self.body.joints(**smpl, regressor=self.skeleton.name)
            root = joints[:, self.skeleton.root, None]
            prediction: Prediction = {
                "joints_3d": joints - root,
                "smpl": smpl,
                "camera_translation": full_translation(estimate.camera, observed.box, observed.camera),
            }
            if not self.training:
                prediction["vertices"] = self.body(**smpl).vertices - root
        return prediction

    @torch.no_grad()
    def joint_maps(self, batch: PoseBatch) -> JointMaps:
        observed = self.observer.observe(batch)
        maps = {"heatmaps": observed.conditions.heatmaps} if self.heatmaps else {}
        attention = self.active_network.attention(observed.image, observed.conditions)
        maps |= {f"attention_{side}": found.float() for side, found in attention.items()}
        return JointMaps(RELEASED if self.release else self.skeleton.name, observed.conditions.present, maps)

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        trains_teacher = self.in_first_stage
        observed = self.observer.observe_training(batch, not trains_teacher, self.global_step, self._seed)
        if trains_teacher:
            assert self.teacher is not None
            network, conditions = self.teacher, observed.conditions
        else:
            assert observed.noisy is not None
            network, conditions = self.network, observed.noisy
            self.student_steps += 1
        estimate, levels = network(observed.image, conditions)
        reasoning = {}
        if self.teacher is not None and not trains_teacher:
            with torch.no_grad():  # at the precision of the student
                target = self.teacher.levels(observed.image, observed.conditions)
            reasoning = self._reasoning(levels, target)
        with torch.autocast(self.device.type, enabled=False):
            terms = self._supervised(estimate, batch, observed)
            if network.balance is None:
                loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
            else:
                loss = network.balance.total(terms)
            if reasoning:
                loss = loss + self.nkr_weight * torch.stack(list(reasoning.values())).sum()
                terms |= {f"nkr_{name}": term for name, term in reasoning.items()}
        self.log_dict({f"train/loss_{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss, prog_bar=True)
        return self.with_frozen_parameters(loss)

    def stage_groups(self) -> tuple[list[Group], list[Group]]:
        of_teacher = [] if self.teacher is None else self.teacher.parameter_groups(self.weight_decay)
        return of_teacher if self.first_stage_epochs else [], self.network.parameter_groups(self.weight_decay)

    def train(self, mode: bool = True) -> "DPMesh":
        super().train(mode)
        if self.teacher is not None and not self.in_first_stage:
            self.teacher.eval()
        return self

    def check_training(self, trainer: L.Trainer, resumed: bool) -> None:
        super().check_training(trainer, resumed)
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

    def configure_model(self) -> None:
        if self.device_mesh is not None:  # of a strategy that shares out weights, configs/trainers/fsdp.yaml
            shard([self.network, self.teacher], self.trainer.world_size, self.device.type)

    def on_validation_start(self) -> None:
        super().on_validation_start()
        gather(self)

    def on_validation_end(self) -> None:
        share(self)

    @property
    def active_network(self) -> MeshNetwork:
        """The network that predicts: the student, as soon as it has been trained for a step."""
        return self.network if self.teacher is None or self.student_steps > 0 else self.teacher

    def _supervised(self, estimate: Estimate, batch: PoseBatch, observed: Observation) -> dict[str, Float[Tensor, ""]]:
        """Every term that the batch has ground truth for, not yet weighted."""
        joints = self.body.joints(estimate.root, estimate.body_pose, estimate.betas, regressor=self.skeleton.name)
        box, camera = observed.box, observed.camera
        translation = full_translation(estimate.camera, box, camera)
        pixels = project_to_image(joints + translation[:, None], camera)
        terms = supervised_losses(
            estimate, joints, pixels, observed.keypoints, box, camera, batch, self.skeleton, self.body
        )
        head = self.network.regressor.pose_head
        if isinstance(head, CodebookHead) and head.hard and "smpl" in batch:
            indices = head.codebook.encode(batch["smpl"]["body_pose"].flatten(-2))
            terms["tokens"] = token_loss(estimate.pose_code, indices, known_bodies(batch))
        return terms

    def _reasoning(self, levels: list[Tensor], target: list[Tensor]) -> dict[str, Float[Tensor, ""]]:
        """The terms of the noisy keypoint reasoning: student's levels against the teacher's, which sees true joints."""
        with torch.autocast(self.device.type, enabled=False):
            gathered = None
            if self.nkr_gather and self.trainer.world_size > 1 and self.nkr in ("contrastive", "both"):
                gathered = [torch.as_tensor(self.all_gather(x, sync_grads=True)) for x in stack_views(levels, target)]
            return reasoning_losses(levels, target, self.nkr, self.nkr_temperature, gathered)
