"""What a number means: the choices without which two errors must not be compared.

A data module states the protocol of its numbers; it is logged with every run and printed in every table.
"""

from dataclasses import asdict, dataclass
from typing import Literal

# The 14 joints of h36m_17 that 3DPW and Human3.6M count for meshes: limbs, neck and head top.
MESH_JOINTS = (3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10)


@dataclass(frozen=True)
class Protocol:
    """The choices behind a number.

    Attributes:
        name: short name, unique in `docs/protocols.md`.
        dataset: the data set in metric keys (`val/<dataset>/mpjpe`).
        split: which clips or subjects were tested, in words.
        skeleton: name in `noise2pose.skeletons`; the joint order of predictions and targets.
        joints: indices of the joints that count, or None for all.
        root: index of the joint that both poses are centred on before comparison.
        keypoints_2d: where the 2-D input came from.
        alignment: what is removed before MPJPE; PA-MPJPE and N-MPJPE add their own.
        units: of the reported errors.
        num_hypotheses: how many poses the method averaged for its answer.
    """

    name: str
    dataset: str
    split: str
    skeleton: str
    joints: tuple[int, ...] | None = None
    root: int = 0
    keypoints_2d: Literal["gt", "detected", "synthetic"] = "gt"
    alignment: Literal["root"] = "root"
    units: Literal["mm"] = "mm"
    num_hypotheses: int = 1

    def as_dict(self) -> dict[str, str | int | list[int] | None]:
        """Plain values, for YAML, JSON and W&B."""
        values = asdict(self)
        values["joints"] = None if self.joints is None else list(self.joints)
        return values
