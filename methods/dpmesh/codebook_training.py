"""Training of the pose codebook: a method that reconstructs the true pose of each body through the codebook.

Shape letters: B batch, T tokens, K codes.
"""

from typing import Any

import roma
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from methods.base import PoseMethod
from methods.dpmesh.regressor.pose_codebook import PoseCodebook
from methods.mesh_batches import known_bodies
from methods.schedules import scheduled
from noise2pose import skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError

_SMOOTH = 0.05  # of smooth L1, where it turns from a parabola into a line (PCT)
_BODY_JOINTS = 21  # of SMPL that move in motion capture: its last two, the hands, do not


class CodebookUsage(Metric):
    """Share of the codes that are used, and their perplexity.

    Args:
        num_codes: K.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    uses: Tensor

    def __init__(self, num_codes: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.add_state("uses", torch.zeros(num_codes, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, indices: Int[Tensor, "B T"]) -> None:
        """Counts the codes of poses."""
        self.uses += torch.bincount(indices.flatten(), minlength=len(self.uses))

    def compute(self) -> dict[str, Tensor]:
        """`usage` in per cent, and `perplexity` from 1 to K."""
        return {"usage": 100.0 * (self.uses > 0).double().mean(), "perplexity": perplexity(self.uses)}


def perplexity(uses: Float[Tensor, " K"]) -> Float[Tensor, ""]:
    """Exponential of the entropy of the uses, which is the number of codes if all are used equally often.

    Args:
        uses: how often each code was used, in any scale.
    """
    share = uses / uses.sum()
    return torch.special.entr(share).sum().exp()


class Codebook(PoseMethod):
    """Learns the codebook from poses of bodies.

    It is measured like any method: `mpjpe` is that of the reconstruction, with the true rotation of the root and the
    true shape. Beside the keys of every method it logs `codebook/usage` (per cent), `codebook/perplexity` and
    `rotation_error` (degrees, mean over 21 joints) of each evaluation set.

    Args:
        revive_below: a code that is used less than this share of the average is replaced; 0 replaces none.
        body: whose joints are compared: `free`, or the path of a body file.
        skeleton: joint order of the data, a name in `noise2pose.skeletons` that the body has a regressor for.
        rotation_weight: of the smooth L1 loss on the decoder's rotations.
        commitment_weight: of the distance of features from their codes (15 in PCT).
        joints_weight: of the L1 loss on the joints of the body, metres.
        learning_rate: of Adam, at its peak.
        warmup_steps: optimiser steps of linear warm-up before the cosine.
        codebook: arguments of `PoseCodebook`, each an option of its own on the command line.
    """

    title = "Pose codebook"
    # The codes follow the current weights of the encoder, and do not fit the features of averaged weights.
    ema_decay = 0.0
    ranges = {"revive_below": (0, 1)}

    def __init__(
        self,
        revive_below: float = 0.03,
        body: str = "free",
        skeleton: str = "h36m_17",
        rotation_weight: float = 1.0,
        commitment_weight: float = 1.0,
        joints_weight: float = 1.0,
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
        **codebook: Any,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.revive_below = revive_below
        self.weights = {"rotations": rotation_weight, "commitment": commitment_weight, "joints": joints_weight}
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.skeleton = skeletons.get(skeleton)
        self.body: BodyModel = BodyModel.load(body)
        self.codebook = PoseCodebook(**codebook)
        self.usage = nn.ModuleList()
        self.rotation_errors = nn.ModuleList()

    @property
    def uses_keypoints(self) -> bool:
        return False

    def forward(self, batch: PoseBatch) -> Prediction:
        smpl = _smpl_of(batch)
        orient, betas = smpl["global_orient"], smpl["betas"]
        indices = self.codebook.encode(smpl["body_pose"].flatten(-2))
        pose = self.codebook.decode_indices(indices)
        joints = self.body.joints(orient, pose, betas, regressor=self.skeleton.name)
        root = joints[:, self.skeleton.root, None]
        prediction: Prediction = {
            "joints_3d": joints - root,
            "smpl": {"global_orient": orient, "body_pose": pose, "betas": betas},
        }
        if "camera_translation" in batch:
            prediction["camera_translation"] = batch["camera_translation"]
        if not self.training:
            prediction["vertices"] = self.body(orient, pose, betas).vertices - root
        return prediction

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        smpl = _smpl_of(batch)
        known = known_bodies(batch)
        target, betas = smpl["body_pose"][known], smpl["betas"][known]
        if not len(target):
            raise InputError("no body of a training batch has known parameters, and the codebook is trained on them")
        flat = target.flatten(-2)
        features = self.codebook.features(flat)
        revived = self.codebook.revive(features, self.revive_below, self._seed * 1_000_003 + self.global_step)
        reconstruction = self.codebook.reconstruct(features)
        self.codebook.learn(features, reconstruction.indices)
        terms = {
            "rotations": F.smooth_l1_loss(reconstruction.values, self.codebook.values_of(flat), beta=_SMOOTH),
            "commitment": reconstruction.commitment,
        }
        if self.weights["joints"]:
            pose = self.codebook.rotations(reconstruction.values)
            terms["joints"] = (self._joints(pose, betas) - self._joints(target, betas)).abs().mean()
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        self.log_dict({f"train/loss_{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss, prog_bar=True)
        uses = self.codebook.ema_cluster_size
        alive = 100.0 * (~self.codebook.dead(self.revive_below)).float().mean()
        self.log_dict({"train/codebook_perplexity": perplexity(uses), "train/codebook_alive": alive})
        self.log("train/codebook_revived", float(revived))
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.Adam(self.codebook.parameters(), lr=self.learning_rate)
        return scheduled(optimizer, self.warmup_steps, range(int(self.trainer.estimated_stepping_batches)))

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.usage = nn.ModuleList(CodebookUsage(self.codebook.num_codes) for _ in self.protocols)
        self.rotation_errors = nn.ModuleList(MeanMetric() for _ in self.protocols)

    def _update_metrics(self, dataloader_idx: int, batch: PoseBatch, prediction: Prediction) -> None:
        super()._update_metrics(dataloader_idx, batch, prediction)
        known = known_bodies(batch)
        truth, decoded = batch["smpl"]["body_pose"][known], prediction["smpl"]["body_pose"][known]
        usage: Any = self.usage[dataloader_idx]
        errors: Any = self.rotation_errors[dataloader_idx]
        usage.update(self.codebook.encode(truth.flatten(-2)))
        angles = roma.rotmat_geodesic_distance(decoded[:, :_BODY_JOINTS], truth[:, :_BODY_JOINTS])
        errors.update(torch.rad2deg(angles))

    def _log_metrics(self, split: str) -> Tensor | None:
        sets: Any = zip(self.protocols, self.usage, self.rotation_errors, strict=True)
        for protocol, usage, errors in sets:
            values = {f"codebook/{name}": value for name, value in usage.compute().items()}
            values["rotation_error"] = errors.compute()
            usage.reset()
            errors.reset()
            prefix = f"{split}/{protocol.dataset}"
            self.log_dict({f"{prefix}/{name}": value.float() for name, value in values.items()}, sync_dist=True)
        return super()._log_metrics(split)

    def _joints(self, pose: Float[Tensor, "B 23 3 3"], betas: Float[Tensor, "B 10"]) -> Float[Tensor, "B 24 3"]:
        """Joints of the kinematic tree, with the root's rotation of the rest pose, metres."""
        upright = torch.eye(3, device=pose.device, dtype=pose.dtype).expand(len(pose), 3, 3)
        return self.body.joints(upright, pose, betas, regressor=self.body.regressors[0])


def _smpl_of(batch: PoseBatch) -> Any:
    if "smpl" not in batch:
        raise InputError(
            "a pose codebook needs data with body parameters, and this data has none; images and keypoints are for a "
            "methods.dpmesh.DPMesh with the codebook (model.codebook_checkpoint)"
        )
    return batch["smpl"]
