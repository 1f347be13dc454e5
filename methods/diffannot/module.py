"""DiffAnnot (Lin et al., ICIPMC 2023): a diffusion model refines the body parameters that a front end regressed."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from methods.base import PoseMethod
from methods.checkpoints import describe_method
from methods.diffannot.denoiser import ReleasedDenoiser, ResidualDenoiser
from methods.diffannot.diffusion import Clip, GaussianDiffusion, Schedule, clip_mask, schedule_betas
from methods.diffannot.fitting import Guidance
from methods.diffannot.front_end import error_scale, error_step, front_end
from methods.diffannot.refinement import SELECTORS, Evidence, Refiner, Search, SelectBy, Selector
from methods.diffannot.reprojection import Keypoints, loss_2d, loss_3d
from methods.diffannot.states import STATE_SIZE, Condition, PosedBody, condition_of, condition_size, to_smpl, to_state
from methods.facing import Normalisation, towards_person, turned_back
from methods.schedules import scheduled
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch, Prediction, Smpl
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import MESH_JOINTS

_MIN_SEEN = 6  # joints that a camera is fitted to
_STATISTICS_BATCHES = 50


class DiffAnnot(PoseMethod):
    """Refines the SMPL parameters of a front end by denoising them, and chooses the number of steps.

    The front end is another method that predicts a body, for example `methods.hmr.HMR`. It is frozen, and its weights
    are stored in this method's checkpoints.

    Args:
        frontend_checkpoint: file of a trained front end, or the name of one that is shipped.
        frontend: set from `frontend_checkpoint` and stored in checkpoints; do not give it.
        selector: chooses the number of steps of a sample, or how they are made. `fixed`: always `fixed_step` steps.
            `reproj2d`: the candidate nearest to the 2-D keypoints. `consistency`: the one with the least noise left.
            `guided`: no candidates, the keypoints guide each step. `none`: no steps. With ground truth, and never
            deployable: `oracle` (the paper's), `half_joints` (by every other joint).
        select_by: error by which `oracle` and `half_joints` choose: `pa_mpjpe`, or `mpjpe` relative to the pelvis.
        search: candidates of the selector: `paper` (Algorithm 1), `trajectory` (the states of one chain), `single_step`
            (the release: one call from each time).
        max_steps: s_max of the search. Candidate i takes i calls, so the cost grows with the square.
        patience: K of the search, which ends after more than K rises in a row.
        fixed_step: of `fixed`; chosen on validation data.
        residual_step: time at which `consistency` calls the denoiser.
        sampler: `ddpm`, whose noise depends on sample, start and step only, or `ddim`.
        denoiser: `residual`, or `released` (the authors').
        width: of the denoiser (release: 226).
        num_blocks: of the residual denoiser.
        output_relu: released only: end with the ReLU that the release has.
        condition: further input of the residual denoiser: `none`, the `frontend`'s answer, the `keypoints`, or `both`.
        condition_dropout: share of training samples without their condition.
        x_start: what is diffused in training: `gt` parameters, or those of the `frontend` (release).
        noise: of the forward process: `isotropic`, or the errors of the `frontend` (see `front_end`), trained up to the
            time at which Theta1 lies, or `max_steps` and `guidance_start` reach. The latter needs `x_start: gt`,
            `sampler: ddim` and the residual denoiser.
        schedule: `linear` or `cosine`.
        num_diffusion_steps: of the schedule.
        learned_range: learn the variance as well (improved DDPM).
        clip: entries of the estimated x_0 limited to [-1, 1]: `none`, `rotations`, or `all` (release).
        project_rotations: replace each matrix by the nearest rotation before the body is posed.
        weight_3d: gamma_3D, of PA-MPJPE in metres of the estimated x_0, weighted by alpha-bar.
        weight_2d: gamma_2D, of its reprojection error with the front end's camera in box sides, weighted alike.
        guidance_start, guidance_stride, guidance_rounds: guided: first time of each round, between times, rounds.
        guidance_strength, guidance_scale: guided: weight of the keypoints; scale of their robust error, box sides.
        guidance_doubt: guided: how much less a keypoint counts that is not certain (`Keypoints.robust`).
        skeleton: joint order of the data, a name in `noise2pose.skeletons`.
        ema_decay: of the moving average of the weights, in long runs.
        learning_rate: of AdamW.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    error_scale: Tensor  # with `noise: frontend` only
    weight_files = ("frontend_checkpoint",)

    def __init__(
        self,
        frontend_checkpoint: str | None = None,
        frontend: str | None = None,
        selector: Selector = "guided",
        select_by: SelectBy = "pa_mpjpe",
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
        noise: Literal["isotropic", "frontend"] = "isotropic",
        schedule: Schedule = "linear",
        num_diffusion_steps: int = 1000,
        learned_range: bool = False,
        clip: Clip = "none",
        project_rotations: bool = True,
        weight_3d: float = 0.0,
        weight_2d: float = 0.0,
        guidance_start: int = 60,
        guidance_stride: int = 10,
        guidance_rounds: int = 1,
        guidance_strength: float = 300.0,
        guidance_scale: float = 0.1,
        guidance_doubt: float = 0.0,
        skeleton: str = "h36m_17",
        ema_decay: float = 0.9999,
        learning_rate: float = 8e-5,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.skeleton = skeletons.get(skeleton)
        self.condition: Condition = condition
        self.condition_dropout = condition_dropout
        self.x_start = x_start
        self.noise = noise
        self.weight_3d, self.weight_2d = weight_3d, weight_2d
        self.ema_decay = ema_decay
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.frontend = front_end(frontend_checkpoint, frontend)
        self.frontend.answers_mesh = False
        limbs = getattr(self.frontend, "normalisation", "") == "limbs"
        self.normalisation: Normalisation = "limbs" if limbs else "box"
        self.hparams["frontend"] = describe_method(self.frontend)
        self.body = self.frontend.body
        self.input = self.frontend.input

        self.diffusion = GaussianDiffusion(
            schedule_betas(schedule, num_diffusion_steps), learned_range, clip_mask(clip)
        )
        self.times = num_diffusion_steps
        if noise == "frontend":
            if (x_start, sampler, denoiser) != ("gt", "ddim", "residual"):
                raise InputError("model.noise frontend needs model.x_start gt, sampler ddim and denoiser residual")
            self.times = min(num_diffusion_steps, max(max_steps, guidance_start))
            self.register_buffer("error_scale", torch.ones(()))
        self.denoiser: ReleasedDenoiser | ResidualDenoiser
        if denoiser == "released":
            if condition != "none":
                raise InputError("model.condition: the released denoiser takes none; set model.denoiser to residual")
            outputs = 2 * STATE_SIZE if learned_range else STATE_SIZE
            self.denoiser = ReleasedDenoiser(STATE_SIZE, width, outputs, output_relu, num_diffusion_steps)
        else:
            conditions = condition_size(condition, self.skeleton.num_joints)
            levels = self.diffusion.alphas_cumprod
            self.denoiser = ResidualDenoiser(levels, STATE_SIZE, width, num_blocks, conditions, learned_range)
        assert self.body is not None
        self.posed_body = PosedBody(self.body, skeleton, project_rotations)
        chain = (guidance_start, guidance_stride, guidance_rounds)
        guidance = Guidance(*chain, guidance_strength, guidance_scale, guidance_doubt)
        self.refiner = Refiner(
            self.diffusion, self.posed_body, MESH_JOINTS, search, sampler == "ddim", max_steps, patience, fixed_step,
            residual_step, guidance, select_by,
        )  # fmt: skip
        self.choose(selector)

    def choose(self, selector: Selector) -> None:
        """Sets another selector, which needs no training.

        Raises:
            InputError: if the name is unknown.
        """
        if selector not in SELECTORS:
            raise InputError(f"selector `{selector}` is unknown, expected one of {', '.join(SELECTORS)}")
        self.selector: Selector = selector
        self.title = f"DiffAnnot ({selector})"
        self.num_steps = self.refiner.calls(selector)

    @property
    def body_name(self) -> str:
        return self.frontend.body_name

    @property
    def uses_keypoints(self) -> bool:
        return True  # they determine the camera of the refined body

    @property
    def needs_ground_truth(self) -> bool:
        return self.selector in ("oracle", "half_joints")

    def facing(self, batch: PoseBatch) -> tuple[PoseBatch, Tensor | None]:
        """The batch as front end and denoiser see it, and the rotation of the camera (`methods.facing`)."""
        return towards_person(batch, self.skeleton, self.normalisation)

    def forward(self, batch: PoseBatch) -> Prediction:
        batch, rotation = self.facing(batch)
        first = self.frontend(batch)
        theta = to_state(first["smpl"])
        evidence = self.evidence(batch, theta)
        refined = self.refiner.refine(self.denoiser, theta, self.selector, evidence)
        kept = (refined.step == 0)[:, None]
        answer = self.answer(torch.where(kept, theta, refined.state), refined.step, first, evidence.keypoints)
        assert self.body is not None
        return turned_back(answer, rotation, self.body.rest_joints(answer["smpl"]["betas"])[:, 0])

    def evidence(self, batch: PoseBatch, theta: Float[Tensor, "B D"]) -> Evidence:
        """The input of the selectors; the ground truth only for those that need it."""
        return Evidence(
            Keypoints.of(batch),
            batch["keypoints_3d"] if self.needs_ground_truth and "keypoints_3d" in batch else None,
            self._condition(batch, theta),
            keyed_random.keys_of(batch["sample_id"], device=theta.device),
        )

    def answer(
        self, state: Float[Tensor, "B D"], step: Int[Tensor, " B"], first: Prediction, keypoints: Keypoints
    ) -> Prediction:
        """A prediction from refined states.

        The camera is the front end's where the state is unchanged; elsewhere the body is moved to where it fits the
        keypoints best, since another pose has another root.
        """
        smpl = to_smpl(state)  # the answer has rotations, also where the search poses unprojected matrices
        joints, vertices = self._pose(smpl)
        root = joints[:, self.skeleton.root, None]
        before = keypoints.distance(keypoints.project(self._pose(first["smpl"])[0]))
        seen = (keypoints.confidence > 0).sum(dim=-1) >= _MIN_SEEN
        moved = ((step > 0) & seen)[:, None]
        return {
            "joints_3d": joints - root,
            "vertices": vertices - root,
            "smpl": smpl,
            "camera_translation": torch.where(moved, keypoints.fit(joints), first["camera_translation"]),
            "refinement": {
                "step": step,
                "reprojection_before": before,
                "reprojection_after": keypoints.distance(keypoints.project(joints)),
            },
        }

    def _pose(self, smpl: Smpl) -> tuple[Tensor, Tensor]:
        """Joints and vertices of bodies, metres, before their translation."""
        assert self.body is not None
        return self.body.joints(**smpl, regressor=self.skeleton.name), self.body(**smpl).vertices

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        batch, _ = self.facing(batch)
        with torch.no_grad():
            answers = "frontend" in (self.x_start, self.noise) or self.condition in ("frontend", "both")
            first = self.frontend(batch) if answers or self.weight_2d > 0 else None
        theta = None if first is None else to_state(first["smpl"])
        start, known = self._start(batch, theta)
        t = torch.randint(self.times, (len(start),), device=start.device)
        noise = torch.randn_like(start)
        if self.noise == "frontend" and theta is not None:
            noise = (theta - start) / self.error_scale
        state = self.diffusion.q_sample(start, t, noise)
        condition = self._condition(batch, theta)
        if condition is not None:
            condition = condition * (torch.rand_like(condition[:, :1]) >= self.condition_dropout)
        output = self.denoiser(state, t, condition)
        losses = self.diffusion.noise_losses(start, state, t, noise, output)
        terms = {name: (values * known).sum() / known.sum().clamp_min(1) for name, values in losses.items()}
        loss = torch.stack(list(terms.values())).sum()
        if self.weight_3d or self.weight_2d:
            level = self.diffusion.alphas_cumprod[t].to(start.dtype) * known
            estimate = self.diffusion.start_from_noise(state, t, self.diffusion.split(output)[0])
            if self.weight_3d and "keypoints_3d" in batch:
                terms["3d"] = loss_3d(self.posed_body, estimate, batch["keypoints_3d"], level)
                loss = loss + self.weight_3d * terms["3d"]
            if self.weight_2d and "keypoints_2d" in batch:
                assert first is not None
                camera = first["camera_translation"]
                terms["2d"] = loss_2d(self.posed_body, estimate, Keypoints.of(batch), camera, level)
                loss = loss + self.weight_2d * terms["2d"]
        self.log_dict({f"train/loss_{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss, prog_bar=True)
        return loss

    @torch.no_grad()
    def on_fit_start(self) -> None:
        super().on_fit_start()
        if isinstance(self.denoiser, ResidualDenoiser) and not self.trainer.ckpt_path:
            # Of the states in the first training batches, the same on every process.
            loader: Any = self.trainer.datamodule.training_loader()  # pyright: ignore[reportAttributeAccessIssue]
            starts, thetas = [], []
            for batch, _ in zip(loader, range(_STATISTICS_BATCHES), strict=False):
                batch, _ = self.facing(self.trainer.strategy.batch_to_device(batch, self.device))
                needed = "frontend" in (self.x_start, self.noise)
                theta = to_state(self.frontend(batch)["smpl"]) if needed else None
                start, known = self._start(batch, theta)
                starts.append(start[known])
                thetas += [] if theta is None else [theta[known]]
            states = torch.cat(starts)
            self.denoiser.set_statistics(*self.trainer.strategy.broadcast((states.mean(dim=0), states.std(dim=0))))
            if self.noise == "frontend":
                scale = error_scale(states, torch.cat(thetas))
                self.error_scale.copy_(self.trainer.strategy.broadcast(scale))
        if self.noise == "frontend":
            self.times = max(self.times, error_step(self.diffusion, self.error_scale))

    def _start(self, batch: PoseBatch, theta: Tensor | None) -> tuple[Float[Tensor, "B D"], Bool[Tensor, " B"]]:
        """x_0 of each sample, and whether it has one."""
        if self.x_start == "gt":
            return to_state(batch["smpl"]), batch["has_smpl"]
        assert theta is not None
        return theta, torch.ones(len(theta), dtype=torch.bool, device=theta.device)

    def _condition(self, batch: PoseBatch, theta: Tensor | None) -> Tensor | None:
        """The denoiser's condition; None where it takes none."""
        if not isinstance(self.denoiser, ResidualDenoiser):
            return None
        return condition_of(self.condition, theta, self.denoiser.mean, batch)

    def train(self, mode: bool = True) -> "DiffAnnot":
        super().train(mode)
        self.frontend.eval()
        return self

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.denoiser.parameters(), lr=self.learning_rate, weight_decay=0.0)
        return scheduled(optimizer, self.warmup_steps, range(int(self.trainer.estimated_stepping_batches)))
