"""The test protocol of MPI-INF-3DHP (Mehta et al., 3DV 2017), as D3DP and P-STMO publish it.

Their numbers differ in two choices that a table does not show, so each pair of choices has a name:

- `annot3`: ground truth as annotated, and the plain mean over the six sequences (D3DP).
- `univ_annot3`: ground truth of a skeleton rescaled to universal proportions, and the mean over frames (P-STMO).

Both repositories evaluate in MATLAB; this module gives the same numbers (`tests/parity`, 1e-6).

Shape letters: F frames, J the 17 joints of `mpi_inf_3dhp_17`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.metrics import functional
from noise2pose.metrics.pose_metric import check_finite

Convention = Literal["annot3", "univ_annot3"]

SKELETON = skeletons.get("mpi_inf_3dhp_17")
# PCK and AUC count the joint groups of the official evaluation; MPJPE every joint, the root's zero included.
_PCK_JOINTS = [i for i, joint in enumerate(SKELETON.joints) if joint not in ("pelvis", "spine", "head")]
_ROOT_TOLERANCE = 1e-5  # metres, far above rounding and far below any error of interest


class Errors(NamedTuple):
    """The three numbers of the protocol.

    Attributes:
        mpjpe: mean per-joint position error over all 17 joints, mm.
        pck: joints nearer than 150 mm, of the 14 that count, per cent.
        auc: mean of PCK over the thresholds 0, 5, ..., 150 mm, per cent; 96.77 for a perfect pose.
    """

    mpjpe: float
    pck: float
    auc: float


@dataclass(frozen=True)
class Mpi3dhpResult:
    """The protocol's numbers of each sequence, and both of the averages in use.

    Attributes:
        convention: what the ground truth was and which average is published.
        sequences: errors of each sequence, by name.
        num_frames: valid frames of each sequence, by name.
        mean_over_sequences: every sequence weighs the same.
        mean_over_frames: every valid frame weighs the same.
    """

    convention: Convention
    sequences: Mapping[str, Errors]
    num_frames: Mapping[str, int]
    mean_over_sequences: Errors
    mean_over_frames: Errors

    @property
    def published(self) -> Errors:
        """The average that stands in the tables of the convention's paper."""
        return self.mean_over_sequences if self.convention == "annot3" else self.mean_over_frames


def evaluate(sequences: Mapping[str, tuple[Tensor, Tensor, Tensor | None]], convention: Convention) -> Mpi3dhpResult:
    """Evaluates predictions of the test sequences.

    Args:
        sequences: by name ("TS1" to "TS6"), the prediction (F, 17, 3) in metres relative to its pelvis, the ground
            truth (F, 17, 3) in metres in the camera frame, and (F,) 1 for valid frames, else 0, or None if all are.
        convention: which annotation the ground truth is; it cannot be told from the numbers.

    Raises:
        InputError: if the convention is unknown, there is no sequence, a shape is wrong, a sequence has no valid frame,
            or a valid frame is not finite or not relative to the pelvis; the sequence is named.
    """
    if convention not in get_args(Convention):
        raise InputError(f"unknown convention {convention}; known are {', '.join(get_args(Convention))}")
    if not sequences:
        raise InputError("MPI-INF-3DHP: there is no sequence to evaluate")
    per_frame = {name: _errors_per_frame(name, *sequence) for name, sequence in sequences.items()}
    means = {name: errors.mean(dim=0) for name, errors in per_frame.items()}
    return Mpi3dhpResult(
        convention=convention,
        sequences={name: Errors(*mean.tolist()) for name, mean in means.items()},
        num_frames={name: len(errors) for name, errors in per_frame.items()},
        mean_over_sequences=Errors(*torch.stack(list(means.values())).mean(dim=0).tolist()),
        mean_over_frames=Errors(*torch.cat(list(per_frame.values())).mean(dim=0).tolist()),
    )


def _errors_per_frame(name: str, pred: Tensor, target: Tensor, valid_frames: Tensor | None) -> Tensor:
    """The columns of `Errors` for each valid frame, float64."""
    for what, pose in (("prediction", pred), ("ground truth", target)):
        if pose.ndim != 3 or pose.shape[1:] != (SKELETON.num_joints, 3):
            raise InputError(f"{name}: the {what} has shape {tuple(pose.shape)}, expected (F, 17, 3)")
    if len(pred) != len(target):
        raise InputError(f"{name}: the prediction has {len(pred)} frames, the ground truth {len(target)}")
    if valid_frames is not None:
        if valid_frames.shape != target.shape[:1]:
            raise InputError(
                f"{name}: the mask of valid frames has shape {tuple(valid_frames.shape)}, expected ({len(target)},)"
            )
        pred, target = pred[valid_frames > 0], target[valid_frames > 0]
    if not len(target):
        raise InputError(f"{name}: no frame is valid")
    pred, target = pred.double(), target.double()
    check_finite(f"{name}: the prediction", pred, None)
    check_finite(f"{name}: the ground truth", target, None)
    # Centring it here would hide that a network's own pelvis is not zero; the papers set that to zero instead.
    offset = pred[:, SKELETON.root].abs().max()
    if offset > _ROOT_TOLERANCE:
        raise InputError(
            f"{name}: the prediction's pelvis lies up to {offset:.3g} m off; expected poses relative to it"
        )
    target = target - target[:, SKELETON.root, None]
    limbs = pred[:, _PCK_JOINTS], target[:, _PCK_JOINTS]
    columns = (1000.0 * functional.mpjpe(pred, target), 100.0 * functional.pck(*limbs), 100.0 * functional.auc(*limbs))
    return torch.stack(columns, dim=-1)
