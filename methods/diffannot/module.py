"""DiffAnnot (Lin et al., ICIPMC 2023): a diffusion model refines the body parameters that a front end regressed."""

import json
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from methods.base import PoseMethod, warmup_cosine
from methods.checkpoints import describe_method, load_method, make_method
from methods.diffannot.conditions import Condition, condition_of, condition_size
from methods.diffannot.denoiser import ReleasedDenoiser, ResidualDenoiser
from methods.diffannot.diffusion import GaussianDiffusion
from methods.diffannot.guidance import Guidance
from methods.diffannot.losses import joint_losses
from methods.diffannot.refinement import Refiner, Search, Selector
from methods.diffannot.reprojection import Keypoints
from methods.diffannot.schedules import Clip, Schedule, clip_mask, schedule_betas
from methods.diffannot.selection import Posed
from methods.diffannot.states import STATE_SIZE, to_smpl, to_state
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError


class DiffAnnot(PoseMethod):
    """Refines the SMPL parameters of a front end by denoising them, and chooses how far.

    The front end is another method that answers with a body, for example `methods.hmr.HMR`. It is frozen, and becomes a
    part of this method's checkpoints.

    Args:
        frontend_checkpoint: file of a trained front end, or the name of one that is shipped.
        frontend: written into checkpoints, which hold the front end's weights; not to be given.
        selector: what decides how far a sample is denoised, or how. `fixed`: always `fixed_step` steps. `reproj2d`: the
            candidate nearest to the 2-D keypoints. `consistency`: the one with the least noise left. `guided`: no
            candidates, the keypoints pull at each step. `none`: not at all. With ground truth, and never deployable:
            `oracle` (the paper's), `half_joints` (by every other joint).
        search: candidates of the selector: `paper` (Algorithm 1), `trajectory` (the states of one chain), `single_step`
            (the release: one call from each time).
        max_steps: s_max of the search.
        patience: K of the search, of how many rises in a row one more ends it.
        fixed_step: of `fixed`; chosen on validation data.
        residual_step: time at which `consistency` asks the denoiser.
        sampler: `ddpm`, whose noise depends on sample, start and step alone, or `ddim`.
        denoiser: `residual`, or `released` (the authors').
        width: of the denoiser (release: 226).
        num_blocks: of the residual denoiser.
        output_relu: released only: end with the ReLU that the release has.
        condition: what the residual denoiser is told beside the state: `none`, the `frontend`'s answer, the
            `keypoints`, or `both`.
        condition_dropout: share of training samples without their condition.
        x_start: what is diffused in training: `gt` parameters, or those of the `frontend` (release).
        schedule: `linear` or `cosine`.
        num_diffusion_steps: of the schedule.
        learned_range: learn the variance as well (improved DDPM).
        clip: entries of the estimated x_0 limited to [-1, 1]: `none`, `rotations`, or `all` (release).
        project_rotations: make rotations of the matrices before a body sees them.
        weight_3d: gamma_3D, of PA-MPJPE in metres of the estimated x_0, weighted by alpha-bar.
        weight_2d: gamma_2D, of its reprojection error with the front end's camera in box sides, weighted alike.
        guidance_start: guided: first time of each round.
        guidance_stride: guided: between times.
        guidance_rounds: guided: how often the chain is run.
        guidance_strength: guided: of the keypoints against the prior.
        guidance_scale: guided: of the robust error, in box sides.
        skeleton: joint order of the data, a name in `noise2pose.skeletons`.
        learning_rate: of AdamW.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    def __init__(
        self,
        frontend_checkpoint: str | None = None,
        frontend: str | None = None,
        selector: Selector = "guided",
        search: Search = "paper",
        max_steps: int = 100,
        patience: int = 10,
        fixed_step: int = 20,
        residual_step: int = 10,
        sampler: Literal["ddpm", "ddim"] = "ddpm",
        denoiser: Literal["residual", "released"] = "residual",
        width: int = 512,
        num_blocks: int = 3,
        output_relu: bool = False,
        condition: Condition = "none",
        condition_dropout: float = 0.1,
        x_start: Literal["gt", "frontend"] = "gt",
        schedule: Schedule = "linear",
        num_diffusion_steps: int = 1000,
        learned_range: bool = False,
        clip: Clip = "none",
        project_rotations: bool = True,
        weight_3d: float = 0.0,
        weight_2d: float = 0.0,
        guidance_start: int = 60,
        guidance_stride: int = 10,
        guidance_rounds: int = 3,
        guidance_strength: float = 10.0,
        guidance_scale: float = 0.05,
        skeleton: str = "h36m_17",
        learning_rate: float = 8e-5,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.title = f"DiffAnnot ({selector})"
        self.skeleton = skeletons.get(skeleton)
        self.selector: Selector = selector
        self.condition: Condition = condition
        self.condition_dropout = condition_dropout
        self.x_start = x_start
        self.weight_3d, self.weight_2d = weight_3d, weight_2d
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        if frontend is None and frontend_checkpoint is None:
            raise InputError(
                "DiffAnnot needs a front end: give model.frontend_checkpoint, the file of a trained method that answers "
                "with a body (runs/NAME/checkpoints/best.ckpt), or the name of one that is shipped"
            )
        self.frontend = load_method(frontend_checkpoint) if frontend_checkpoint else make_method(frontend)
        if self.frontend.body is None:
            raise InputError(f"{frontend_checkpoint}: {self.frontend.title} answers with joints, not with a body")
        self.hparams["frontend"] = json.dumps(describe_method(self.frontend))
        self.frontend.requires_grad_(False)
        self.body = self.frontend.body

        self.diffusion = GaussianDiffusion(
            schedule_betas(schedule, num_diffusion_steps),
            "learned_range" if learned_range else "fixed_large",
            clip_mask(clip),
        )
        outputs = 2 * STATE_SIZE if learned_range else STATE_SIZE
        self.denoiser: ReleasedDenoiser | ResidualDenoiser
        if denoiser == "released":
            if condition != "none":
                raise InputError("model.condition: the released denoiser takes none; choose denoiser `residual`")
            self.denoiser = ReleasedDenoiser(STATE_SIZE, width, outputs, output_relu, num_diffusion_steps)
        else:
            self.denoiser = ResidualDenoiser(
                self.diffusion.alphas_cumprod,
                STATE_SIZE,
                width,
                num_blocks,
                condition_size(condition, self.skeleton.num_joints),
                learned_range,
            )
        self.posed = Posed(self.body, skeleton, project_rotations)
        guidance = Guidance(guidance_start, guidance_stride, guidance_rounds, guidance_strength, guidance_scale)
        self.refiner = Refiner(
            self.diffusion, self.posed, search, sampler, max_steps, patience, fixed_step, residual_step, guidance
        )
        self.num_steps = self.refiner.calls(selector)

    @property
    def needs_ground_truth(self) -> bool:
        return self.selector in ("oracle", "half_joints")
