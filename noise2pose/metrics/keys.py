"""The metric keys: every number that is logged as `<split>/<dataset>/<key>`, one line each.

Evaluation, run records and reports read this list, so a new metric is one line here and, if no class of
`noise2pose.metrics.pose_errors` computes it yet, one class there. `docs/protocols.md` defines every key.
"""

from dataclasses import dataclass
from typing import Literal

ORACLE = "oracle/"  # prefix of every key whose answer was chosen with the ground truth
FIRST_STAGE = "first_stage/"  # prefix in epochs in which another part of the method answers than the trained method


@dataclass(frozen=True)
class MetricKey:
    """A number that is logged.

    Attributes:
        name: the key after `<split>/<dataset>/`.
        caption: heading of its column in tables.
        unit: of the logged number.
        best: whether the smallest or the largest value is best; None if neither is.
        decimals: of the number in tables.
    """

    name: str
    caption: str
    unit: Literal["mm", "mm/frame", "%", "px"]
    best: Literal["min", "max"] | None
    decimals: int = 1

    def text(self, value: float) -> str:
        """The number as tables show it."""
        return f"{value:.{self.decimals}f}"


@dataclass(frozen=True, kw_only=True)
class PoseErrorKey(MetricKey):
    """An error (or rate) of poses.

    Attributes:
        metric: class of `noise2pose.metrics.pose_errors` that computes it.
        compares: what of a pose is compared with the ground truth: `joints` in metres, also of clips; `clips`, the same
            of clips only; `vertices`; `smpl_joints`, SMPL's 24 kinematic joints; `shape`, meshes in the rest pose;
            joints projected into the image, in `pixels` or in sides of the `box`; of methods that find keypoints, the
            same as `keypoints`, in sides of the box, and in the distances of COCO's `similarity`.
        over: which joints count: those of the `protocol`, its joints for `pck`, the 12 `limbs`, or `all`.
        column: when tables have a column for it: `always`; if a run has `measured` it; if the protocol names its joints
            for `pck`; or `never`.
    """

    metric: str
    compares: Literal["joints", "clips", "vertices", "smpl_joints", "shape", "pixels", "box", "keypoints", "similarity"]
    over: Literal["protocol", "pck", "limbs", "all"] = "protocol"
    column: Literal["always", "measured", "pck", "never"] = "measured"

    @property
    def dimensions(self) -> int:
        """Of the ground truth: 2 or 3."""
        return 2 if self.compares in ("pixels", "box", "keypoints", "similarity") else 3


POSE_ERRORS = (
    PoseErrorKey("mpjpe", "MPJPE", "mm", "min", metric="MPJPE", compares="joints", column="always"),
    PoseErrorKey("pa_mpjpe", "PA-MPJPE", "mm", "min", metric="PAMPJPE", compares="joints", column="always"),
    PoseErrorKey("n_mpjpe", "N-MPJPE", "mm", "min", metric="NMPJPE", compares="joints", column="never"),
    PoseErrorKey("mpjve", "MPJVE", "mm/frame", "min", metric="MPJVE", compares="clips", column="never"),
    PoseErrorKey("pve", "PVE", "mm", "min", metric="MPJPE", compares="vertices", over="all"),
    PoseErrorKey("pck", "PCK", "%", "max", metric="PCK", compares="joints", over="pck", column="pck"),
    PoseErrorKey("auc", "AUC", "%", "max", metric="AUC", compares="joints", over="pck", column="pck"),
    PoseErrorKey("mpjpe_24", "MPJPE-24", "mm", "min", metric="MPJPE", compares="smpl_joints", over="all"),
    PoseErrorKey("pa_mpjpe_24", "PA-MPJPE-24", "mm", "min", metric="PAMPJPE", compares="smpl_joints", over="all"),
    PoseErrorKey("pve_t_sc", "PVE-T-SC", "mm", "min", metric="PVESC", compares="shape", over="all"),
    PoseErrorKey("mpjpe_2d", "2-D px", "px", "min", metric="MPJPE2D", compares="pixels", column="always"),
    PoseErrorKey("mpjpe_2d_box", "2-D % of box", "%", "min", metric="MPJPE2DOfBox", compares="box"),
    PoseErrorKey("mpjpe_2d_12", "2-D px, 12 joints", "px", "min", metric="MPJPE2D", compares="pixels", over="limbs"),
    PoseErrorKey("oks", "OKS", "%", "max", metric="OKS", compares="similarity"),
    PoseErrorKey("oks_ap", "AP of OKS", "%", "max", metric="OKSPrecision", compares="similarity"),
    PoseErrorKey("pck_2d", "2-D PCK", "%", "max", metric="PCK2D", compares="keypoints"),
)
# Of `noise2pose.metrics.calibration.Calibration`; coverage is best at its level.
CALIBRATION = (
    MetricKey("calibration/coverage_50", "in 50 %", "%", None),
    MetricKey("calibration/coverage_90", "in 90 %", "%", None),
    MetricKey("calibration/crps", "CRPS", "mm", "min"),
    MetricKey("calibration/ause", "AUSE", "mm", "min"),
)


def main_error(dimensions: int) -> PoseErrorKey:
    """The error by which checkpoints are chosen and runs are ranked.

    Args:
        dimensions: of the ground truth, 2 or 3.
    """
    return next(key for key in POSE_ERRORS if key.dimensions == dimensions)


def named(*names: str) -> list[PoseErrorKey]:
    """The errors of these names, for a table that shows no others.

    Raises:
        KeyError: if there is none of a name.
    """
    known = {key.name: key for key in POSE_ERRORS}
    return [known[name] for name in names]


def oracle_key(choice: str, name: str, null: bool = False) -> str:
    """The key of an error after a choice with the ground truth.

    Args:
        choice: what was chosen, for example `best_of_5`.
        name: of the error.
        null: the same choice among poses that know nothing (the null control).
    """
    return f"{ORACLE}{choice}{'_null' if null else ''}/{name}"
