"""A diffusion prior of body poses: trained on poses alone, used for completion, denoising and fitting to 2-D joints."""

import math
from dataclasses import replace
from typing import Any, Literal

import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torchmetrics import MeanMetric

from methods.base import PoseMethod
from methods.mesh_batches import check_single_frames, known_bodies
from methods.pose_prior import sampling
from methods.pose_prior.denoiser import NUM_JOINTS, Denoiser, to_pose, to_state
from methods.pose_prior.fitting import Fitted, Guidance, fit_to_views
from methods.pose_prior.views import Views, first_orientations
from methods.schedules import scheduled
from noise2pose import keyed_random, skeletons
from noise2pose.batch import PoseBatch, Prediction, Smpl
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.images.mirroring import mirror_smpl

Answer = Literal["guided", "linear"]
_STATISTICS_BATCHES = 50
_STREAM = 390  # of keyed_random: this and the next
# SMPL's joints, without the root and from 0, of what may be hidden from the prior.
LIMBS = {
    "left leg": (0, 3, 6, 9),
    "right leg": (1, 4, 7, 10),
    "left arm": (12, 15, 17, 19, 21),
    "right arm": (13, 16, 18, 20, 22),
}
_NOISE = 0.2  # radians about each axis, of poses to be denoised in validation


class PosePrior(PoseMethod):
    """Learns which poses people take, and answers with the body that agrees with 2-D keypoints and is likely.

    It is measured like any method by its `guided` answer to the keypoints of each data set. Three further errors of
    each set say how good the prior is by itself, MPJPE of SMPL's joints in mm with the root given: `completion/mpjpe`
    of one hidden limb (mean of the draws), `completion/mpjpe_null` of the mean pose in its place, and
    `denoising/mpjpe` of poses whose joints were turned by about 11 degrees about each axis, with
    `denoising/mpjpe_null` of those poses as they are.

    Args:
        width: of the denoiser.
        num_blocks: of the denoiser.
        answer: `guided`, or `linear` for the same without the network: a control that knows mean and spread of the
            poses alone.
        mirror: train on mirrored poses as well, as often as on the poses themselves.
        num_starts: orientations that a fit starts from; the answer is the one of the least cost.
        guidance_iterations: of Adam in a fit, one call of the denoiser each.
        guidance_rate: of Adam at first.
        guidance_strength: of the keypoints against the prior.
        guidance_scale: of their robust error, box sides.
        largest_level: blur of the prior at the first step of a fit, radians.
        least_level: at its last step.
        restart_level: at the first step where a fit starts from another method's answer.
        num_draws: completions of a pose whose mean is measured.
        body: whose parameters are answered: `free`, or the path of a body file.
        skeleton: joint order of the data, a name in `noise2pose.skeletons` that the body has a regressor for.
        learning_rate: of AdamW, at its peak.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
    """

    title = "Pose prior"
    ranges = {
        **dict.fromkeys(("largest_level", "least_level", "restart_level"), (1e-3, 10.0)),
        "guidance_iterations": (1, math.inf),
    }

    def __init__(
        self,
        width: int = 512,
        num_blocks: int = 4,
        answer: Answer = "guided",
        mirror: bool = True,
        num_starts: int = 2,
        guidance_iterations: int = 60,
        guidance_rate: float = 0.05,
        guidance_strength: float = 500.0,
        guidance_scale: float = 0.1,
        largest_level: float = 0.5,
        least_level: float = 0.1,
        restart_level: float = 0.2,
        num_draws: int = 4,
        body: str = "free",
        skeleton: str = "h36m_17",
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.skeleton = skeletons.get(skeleton)
        self.body: BodyModel = BodyModel.load(body)
        self.denoiser = Denoiser(width, num_blocks)
        self.mirror = mirror
        self.num_steps = guidance_iterations
        self.guidance = Guidance(
            guidance_strength, guidance_scale, guidance_iterations, guidance_rate, largest_level, least_level
        )
        self.num_starts, self.restart_level = num_starts, restart_level
        self.num_draws = num_draws
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps
        self.measured = nn.ModuleList()
        self.choose(answer)

    def choose(self, selector: Answer) -> None:
        """Sets another answer, which needs no training.

        Raises:
            InputError: if the name is unknown.
        """
        if selector not in ("guided", "linear"):
            raise InputError(f"model.answer is {selector}, expected guided or linear")
        self.answer: Answer = selector
        self.title = f"Pose prior ({selector})"

    def forward(self, batch: PoseBatch) -> Prediction:
        check_single_frames(batch["keypoints_2d"], self.skeleton, "the pose prior")
        fitted = self.fit(Views.of(batch))
        root = fitted.joints[:, self.skeleton.root, None]
        prediction: Prediction = {
            "joints_3d": fitted.joints - root,
            "smpl": fitted.smpl,
            "camera_translation": fitted.translation,
        }
        if not self.training:
            prediction["vertices"] = self.body(**fitted.smpl).vertices - root
        return prediction

    @torch.no_grad()
    def fit(self, views: Views, start: Smpl | None = None) -> Fitted:
        """Fits bodies to one or several views; no ground truth is needed.

        Args:
            views: 2-D keypoints.
            start: rotations to start from, such as another method's answer; by default the mean pose, in the
                orientations in which it fits the keypoints best, and the answer is the fit of the least cost.
        """
        denoiser = self.denoiser if self.answer == "guided" else self.denoiser.linear()
        name, number = self.skeleton.name, len(views.points)
        if start is not None:
            guidance = replace(self.guidance, largest=max(self.restart_level, self.guidance.least))
            state, orient = to_state(start["body_pose"]), start["global_orient"]
            return fit_to_views(denoiser, views, self.body, name, state, orient, guidance)
        mean = to_pose(self.denoiser.mean)[None]
        rest = self.body.joints(torch.eye(3).to(mean)[None], mean, mean.new_zeros(1, 10), regressor=name)[0]
        orients = first_orientations(views, rest, self.guidance.scale, self.num_starts)
        fits = [
            fit_to_views(denoiser, views, self.body, name, self.denoiser.mean.expand(number, -1), orient, self.guidance)
            for orient in orients
        ]
        best = torch.stack([fit.cost for fit in fits]).argmin(dim=0)
        rows = torch.arange(number, device=best.device)

        def chosen(parts: list[Tensor]) -> Tensor:
            return torch.stack(parts)[best, rows]

        smpl: Any = {key: chosen([fit.smpl[key] for fit in fits]) for key in fits[0].smpl}
        return Fitted(smpl, *(chosen(list(parts)) for parts in list(zip(*fits, strict=True))[1:]))

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        state = to_state(self._poses(batch))
        low, high = torch.tensor((sampling.LEAST, sampling.LARGEST)).log().tolist()
        sigma = (low + (high - low) * torch.rand(len(state), device=state.device)).exp()
        estimate = self.denoiser(state + sigma[:, None] * torch.randn_like(state), sigma)
        # In units of the error of the linear estimate, so that every level and every joint counts alike.
        loss = ((estimate - state) / self.denoiser.error(sigma)).square().mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def _poses(self, batch: PoseBatch) -> Float[Tensor, "B J 3 3"]:
        """The true poses of a training batch, half of them mirrored."""
        smpl = _smpl_of(batch)
        pose = smpl["body_pose"][known_bodies(batch)]
        if not len(pose):
            raise InputError("no body of a training batch has known parameters, and the pose prior is trained on them")
        if not self.mirror:
            return pose
        mirrored = mirror_smpl({"global_orient": pose[:, 0], "body_pose": pose})["body_pose"]
        return torch.where(torch.rand_like(pose[:, :1, :1, :1]) < 0.5, mirrored, pose)

    @torch.no_grad()
    def on_fit_start(self) -> None:
        super().on_fit_start()
        if not self.trainer.ckpt_path:
            # Of the poses in the first training batches, the same on every process.
            loader: Any = self.trainer.datamodule.training_loader()  # pyright: ignore[reportAttributeAccessIssue]
            poses = []
            for batch, _ in zip(loader, range(_STATISTICS_BATCHES), strict=False):
                batch = self.trainer.strategy.batch_to_device(batch, self.device)
                poses.append(to_state(self._poses(batch)))
            states = torch.cat(poses)
            self.denoiser.set_statistics(*self.trainer.strategy.broadcast((states.mean(dim=0), states.std(dim=0))))

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.denoiser.parameters(), lr=self.learning_rate, weight_decay=0.0)
        return scheduled(optimizer, self.warmup_steps, range(int(self.trainer.estimated_stepping_batches)))

    def setup(self, stage: str) -> None:
        super().setup(stage)
        names = [f"{use}_{end}" for use in ("completion", "denoising") for end in ("mpjpe", "mpjpe_null")]
        self.measured = nn.ModuleList(nn.ModuleDict({name: MeanMetric() for name in names}) for _ in self.protocols)

    def _update_metrics(self, dataloader_idx: int, batch: PoseBatch, prediction: Prediction) -> None:
        super()._update_metrics(dataloader_idx, batch, prediction)
        if "smpl" not in batch:
            return
        known = known_bodies(batch)
        truth, betas = batch["smpl"]["body_pose"][known], batch["smpl"]["betas"][known]
        keys = keyed_random.keys_of(batch["sample_id"], device=known.device)[known]
        if not len(keys):
            return
        seen = hidden_limb(keyed_random.uniform(keys, (1,), stream=_STREAM)[:, 0])
        draws = sampling.complete(self.denoiser, truth, seen, keys, self.num_draws)
        mean = torch.where(seen[..., None, None], truth, to_pose(self.denoiser.mean))
        turns = _NOISE * keyed_random.normal(keys, (NUM_JOINTS, 3), stream=_STREAM + 1)
        noisy = truth @ roma.rotvec_to_rotmat(turns)
        joints = self._joints(draws.flatten(0, 1), betas.repeat(len(draws), 1)).unflatten(0, draws.shape[:2])
        answers = {
            "completion_mpjpe": joints.mean(dim=0),
            "completion_mpjpe_null": self._joints(mean, betas),
            "denoising_mpjpe": self._joints(sampling.denoise(self.denoiser, noisy, _NOISE), betas),
            "denoising_mpjpe_null": self._joints(noisy, betas),
        }
        target = self._joints(truth, betas)
        moved = {"completion": ~seen, "denoising": torch.ones_like(seen)}
        measured: Any = self.measured[dataloader_idx]
        for name, joints in answers.items():
            error = 1000.0 * torch.linalg.vector_norm(joints - target, dim=-1)[:, 1:]
            measured[name].update(error[moved[name.split("_")[0]]])

    def _log_metrics(self, split: str) -> Tensor | None:
        sets: Any = zip(self.protocols, self.measured, strict=True)
        for protocol, measured in sets:
            for name, metric in measured.items():
                if metric.update_called:
                    key = f"{split}/{protocol.dataset}/{name.replace('_', '/', 1)}"
                    self.log(key, metric.compute().float(), sync_dist=True)
                metric.reset()
        return super()._log_metrics(split)

    def _joints(self, pose: Float[Tensor, "B J 3 3"], betas: Float[Tensor, "B 10"]) -> Float[Tensor, "B 24 3"]:
        """SMPL's joints, with the root's rotation of the rest pose, metres."""
        upright = torch.eye(3, device=pose.device, dtype=pose.dtype).expand(len(pose), 3, 3)
        return self.body.joints(upright, pose, betas, regressor=self.body.regressors[0])


def hidden_limb(chosen: Float[Tensor, " B"]) -> Bool[Tensor, "B J"]:
    """Which joints are known when one limb is hidden.

    Args:
        chosen: in [0, 1): which limb of `LIMBS`.
    """
    known = torch.ones(len(LIMBS), NUM_JOINTS, dtype=torch.bool, device=chosen.device)
    for row, joints in zip(known, LIMBS.values(), strict=True):
        row[list(joints)] = False
    return known[(chosen * len(LIMBS)).long()]


def _smpl_of(batch: PoseBatch) -> Any:
    if "smpl" not in batch:
        raise InputError("the pose prior needs data with body parameters, and this data has none")
    return batch["smpl"]
