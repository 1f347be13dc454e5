"""DPMesh (Zhu et al., CVPR 2024): a diffusion model's U-Net as a one-step backbone for people who are partly hidden."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from methods.base import PoseMethod, warmup_cosine
from methods.dpmesh import conditions as told
from methods.dpmesh.camera import full_translation, intrinsics, project_to_picture
from methods.dpmesh.conditions import Conditions
from methods.dpmesh.losses import WEIGHTS, known_bodies, supervised_losses, token_loss
from methods.dpmesh.networks import MeshNetwork, make_network, make_teacher
from methods.dpmesh.pose_head_choice import PoseHeadName, make_pose_head
from methods.dpmesh.pose_heads import CodebookHead
from methods.dpmesh.reasoning import Reasoning, reasoning_losses, stack_views
from methods.dpmesh.regressor import Estimate
from methods.dpmesh.sizes import SIZES, BackboneName, Size
from methods.dpmesh.teacher import check_stages, check_teacher, read_teacher
from noise2pose import skeletons
from noise2pose.batch import PoseBatch, Prediction, Smpl
from noise2pose.bodies import BodyModel

_TITLES = {"diffusion": "DPMesh", "resnet50": "DPMesh (ResNet-50)", "transformer": "DPMesh (transformer)"}


class DPMesh(PoseMethod):
    """Regresses a body from a picture and noisy 2-D joints, with one step of a diffusion model as the backbone.

    With `nkr`, training has two stages: a teacher is trained on true joints, or taken from a checkpoint; then it is
    frozen, and the student is trained on noisy ones. The checkpoint holds both, so a run is resumed in either stage.

    Args:
        backbone: `diffusion`, or a baseline of the paper: `resnet50`, or `transformer` (ViT).
        size: `tiny` for processors without an accelerator, or `sd15`: Stable Diffusion 1.5, or ViT-L/16.
        image_size: what pictures are resized to, pixels; the diffusion backbone takes 256.
        pretrained: weights that training starts from. `diffusion`: a folder in diffusers' layout or a single file of
            Stable Diffusion 1.5, or the checkpoint of a `methods.dpmesh.Prior`; baselines: a file of ImageNet weights.
        heatmaps: show the backbone the heat-maps of the joints.
        context: how the joints become tokens of the cross-attention: `mlp2_visible` (paper), `linear30` (release), or
            `none`, which makes all of them absent.
        maps: sides of the cross-attention maps that join the features: `8_16` (release) or `8_16_32` (paper).
        lora_scope: which linear layers get low-rank updates: `attn2` (paper), `attn`, `attn_ff` (release), or `off`
            to train the whole U-Net instead.
        lora_rank: of the updates.
        train_controlnet: as in the paper; the release never does.
        latent: what the U-Net is given: `release` for encoded pixels in [0, 1], `sd` for what it was trained on.
        timestep: that the U-Net is told.
        gradient_checkpointing: compute activations of the backbone twice instead of keeping them.
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
        body: `free`, or the path of a body file.
        skeleton: joint order of the data, a name in `noise2pose.skeletons` that the body has a regressor for.
        image_weight, fitted_image_weight, pose_weight, betas_weight, joints_2d_weight, joints_3d_weight: of the terms
            of `methods.dpmesh.losses`.
        token_weight: of the cross-entropy of `vq_ce`.
        uncertainty: learn the weights of the terms instead (release).
        image_noise: each colour channel is multiplied by up to 1 more or less than this while training.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    input = "image"

    def __init__(
        self,
        backbone: BackboneName = "diffusion",
        size: Size = "tiny",
        image_size: int = 256,
        pretrained: str | None = None,
        heatmaps: bool = True,
        context: Literal["mlp2_visible", "linear30", "none"] = "mlp2_visible",
        maps: Literal["8_16", "8_16_32"] = "8_16",
        lora_scope: Literal["attn2", "attn", "attn_ff", "off"] = "attn2",
        lora_rank: int = 64,
        train_controlnet: bool = True,
        latent: Literal["release", "sd"] = "sd",
        timestep: int = 1,
        gradient_checkpointing: bool = False,
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
        self.title = _TITLES[backbone] + ("" if nkr == "off" else f" + NKR ({nkr})")
        self.num_steps = 1 if backbone == "diffusion" else 0
        self.pretrained = pretrained
        self.heatmaps, self.context = heatmaps, context
        self.nkr, self.nkr_weight, self.nkr_temperature = nkr, nkr_weight, nkr_temperature
        self.nkr_gather = nkr_gather
        self.teacher_epochs, self.teacher_checkpoint = teacher_epochs, teacher_checkpoint
        self.train_keypoints, self.joint_dropout = train_keypoints, joint_dropout
        self.token_weight = token_weight if pose_head == "vq_ce" else 0.0
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
        self.skeleton = skeletons.get(skeleton)
        self.body: BodyModel = BodyModel.load(body)
        sizes = SIZES[size]
        head, self.hparams["codebook"] = make_pose_head(
            pose_head, sizes.width, sizes.num_decoder_layers, codebook_checkpoint, codebook, vposer_file
        )
        self.network = make_network(
            backbone, size, head, self.skeleton.num_joints, image_size, uncertainty,
            {
                "context": "mlp2_visible" if context == "none" else context,
                "maps": maps, "lora_scope": lora_scope, "lora_rank": lora_rank, "train_controlnet": train_controlnet,
                "latent": latent, "timestep": timestep, "gradient_checkpointing": gradient_checkpointing,
            },
        )  # fmt: skip
        check_teacher(nkr, teacher_epochs, teacher_checkpoint)
        self.teacher = None if nkr == "off" else make_teacher(self.network)
        self.register_buffer("student_steps", torch.zeros((), dtype=torch.int64))
        self.train()  # the Trainer keeps the modes that it finds, and frozen parts are at rest from the start

    @property
    def teaching(self) -> bool:
        """Whether this epoch trains the teacher."""
        return self._trainer is not None and self.current_epoch < self.teacher_epochs

    @property
    def starts_anew(self) -> bool:
        """Whether this is the student's first epoch, after those of the teacher."""
        return 0 < self.teacher_epochs == self.current_epoch

    @property
    def selectable(self) -> bool:
        return not self.teaching  # the teacher may be better than the student, but it is not the answer

    @property
    def uses_keypoints(self) -> bool:
        return self.heatmaps or self.context != "none"

    def forward(self, batch: PoseBatch) -> Prediction:
        untrained = self.teacher is not None and self.student_steps == 0
        network = self.teacher if self.teacher is not None and untrained else self.network
        box = told.checked_box(batch)
        estimate, _ = network(told.picture(batch), self._conditions(batch["keypoints_2d"], box, batch))
        with torch.autocast(box.device.type, enabled=False):
            smpl: Smpl = {"global_orient": estimate.root, "body_pose": estimate.body_pose, "betas": estimate.betas}
            assert self.body is not None
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

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        box, image, true = told.checked_box(batch), self._varied(told.picture(batch)), told.clean_keypoints(batch)
        clean = self._conditions(true, box, batch)
        if self.teaching:
            assert self.teacher is not None
            network, seen = self.teacher, clean
        else:
            network, seen = self.network, self._conditions(self._noisy(batch, true), box, batch)
            self.student_steps += 1
        estimate, levels = network(image, seen)
        with torch.autocast(box.device.type, enabled=False):
            terms = self._supervised(estimate, batch, true, box)
            scales = self.weights if network.balance is None else dict.fromkeys(self.weights, 1.0)
            weighted = terms if network.balance is None else network.balance(terms)
            loss = torch.stack([scales[name] * term for name, term in weighted.items()]).sum()
            if self.teacher is not None and not self.teaching:
                taught = self._reasoning(levels, self.teacher, image, clean)
                loss = loss + self.nkr_weight * torch.stack(list(taught.values())).sum()
                terms |= {f"nkr_{name}": term for name, term in taught.items()}
        self.log_dict({f"train/loss_{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss, prog_bar=True)
        if self.teacher is not None and self.trainer.world_size > 1:
            # Data-parallel training waits for a gradient of every parameter; those at rest get zeros here and none in
            # `on_before_optimizer_step`.
            loss = loss + 0.0 * torch.stack([parameter.sum() for parameter in self._resting()]).sum()
        return loss

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
            indices, _ = head.codebook.encode(batch["smpl"]["body_pose"].flatten(-2))
            terms["tokens"] = token_loss(estimate.pose_code, indices, known_bodies(batch))
        return terms

    def _reasoning(
        self, levels: list[Tensor], teacher: MeshNetwork, image: Tensor, clean: Conditions
    ) -> dict[str, Float[Tensor, ""]]:
        """What the student still has to learn from the teacher, which sees the true joints."""
        with torch.no_grad():
            target = teacher.levels(image, clean)
        gathered = None
        if self.nkr_gather and self.trainer.world_size > 1 and self.nkr in ("contrastive", "both"):
            gathered = [self.all_gather(views, sync_grads=True) for views in stack_views(levels, target)]
        return reasoning_losses(levels, target, self.nkr, self.nkr_temperature, gathered)  # pyright: ignore

    def _conditions(self, keypoints: Tensor, box: Tensor, batch: PoseBatch) -> Conditions:
        """What the network is told of the joints, without what this model is not to know."""
        told.check_joints(keypoints, self.skeleton)
        found = told.conditions(keypoints, box, batch.get("camera", {}).get("image_size"))
        nothing = told.no_conditions(found)
        joints = found if self.context != "none" else nothing
        return Conditions(joints.joints, joints.present, (found if self.heatmaps else nothing).heatmaps)

    def _noisy(self, batch: PoseBatch, true: Tensor) -> Tensor:
        """The joints that the student is trained on."""
        keypoints = {"clean": true, "batch": batch["keypoints_2d"]}.get(self.train_keypoints)
        if keypoints is None:
            keypoints = told.noisy_keypoints(batch, self.skeleton.name, self.global_step, self._seed)
        return told.drop_joints(keypoints, self.joint_dropout)

    def _varied(self, image: Tensor) -> Tensor:
        gain = 1.0 + self.image_noise * (2.0 * torch.rand_like(image[..., :1, :1]) - 1.0)
        return (image * gain).clamp(0.0, 1.0)

    def _resting(self) -> Iterator[Parameter]:
        """Parameters that are trained, but not in this epoch."""
        resting = self.network if self.teaching else self.teacher
        return (parameter for parameter in (resting.parameters() if resting else ()) if parameter.requires_grad)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        for parameter in self._resting():
            parameter.grad = None

    def train(self, mode: bool = True) -> "DPMesh":
        super().train(mode)
        if self.teacher is not None and not self.teaching:
            self.teacher.eval()
        return self

    def on_train_epoch_start(self) -> None:
        self.train()  # the teacher's mode changes with the epoch that ends its training

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit":
            return
        check_stages(self.trainer, self.nkr, self.teacher_epochs, self.teacher_checkpoint)
        if self.trainer.ckpt_path:  # a resumed run restores everything from its own checkpoint
            return
        if self.pretrained is not None:
            self.network.features.load_pretrained(self.pretrained)
        if self.teacher is not None:
            self.teacher.load_state_dict(self.network.state_dict())
            if self.teacher_checkpoint is not None:
                read_teacher(self.teacher_checkpoint, self.teacher)

    def configure_optimizers(self) -> dict[str, Any]:
        num_steps = int(self.trainer.estimated_stepping_batches)
        first = round(num_steps * self.teacher_epochs / (self.trainer.max_epochs or 1)) if self.teacher_epochs else 0
        groups: list[dict[str, Any]] = []
        factors = []
        for network, start, steps in ((self.teacher, 0, first), (self.network, first, num_steps - first)):
            if network is None or not steps:
                continue
            for weight_decay, parameters in network.parameter_groups(self.weight_decay):
                groups.append({"params": parameters, "weight_decay": weight_decay})
                factors.append(warmup_cosine(steps, min(self.warmup_steps, steps // 2), start))
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factors), "interval": "step"},
        }
