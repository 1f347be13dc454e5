"""What a number means: the choices that must be equal before two errors are compared.

A data module states the protocol of its numbers; it is logged with every run and printed in every table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from noise2pose.errors import InputError

# The 14 joints of h36m_17 that 3DPW and Human3.6M count for meshes: limbs, neck and head top.
MESH_JOINTS = (3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10)
# The same without neck and head top, which two-dimensional annotations place differently from bodies, or lack.
LIMB_JOINTS = MESH_JOINTS[:12]

KeypointSource = Literal["gt", "detected", "synthetic"]


@dataclass(frozen=True)
class Protocol:
    """The choices behind a number.

    Attributes:
        name: short name, unique in `docs/protocols.md`.
        dataset: the data set in metric keys (`val/<dataset>/mpjpe`); differs between the evaluation sets of a run.
        split: which clips or subjects were tested, in words.
        skeleton: name in `noise2pose.skeletons`; the joint order of predictions and targets.
        joints: indices of the joints that count, or None for all.
        root: index of the joint that both poses are centred on before comparison.
        keypoints_2d: where the 2-D input came from: `gt` annotated or projected exactly, `detected` by a detector,
            `synthetic` with simulated errors of detection.
        alignment: what is removed before MPJPE; PA-MPJPE and N-MPJPE add their own.
        units: of the reported errors.
        num_hypotheses: how many poses the method averaged for its answer.
        dimensions: 3, or 2 for a set that has 2-D annotations only: its error is that of the reprojected joints, in
            pixels of the whole image and in per cent of the side of the box.
        pck_joints: indices of the joints that count for PCK and AUC; None for those of `joints`.
        ground_truth: in words, with the gender of the bodies.
        regressor: in words, how joints are computed from meshes; empty if there are no meshes.
        groups: key of the batch that says to which group a sample belongs, for a table by `action` (the first word of
            its name) or by `sequence`; None for no table.
        group_captions: heading of the column of each group, in the order of the columns; groups that are not named
            follow under their own names.
        average: mean over poses, or unweighted mean of the means of the actions or sequences.
        smpl_joints: whether errors over SMPL's 24 joints with SMPL's pelvis as root are logged too, as `mpjpe_24` and
            `pa_mpjpe_24`; not comparable with the others.
        vertex_root: what both meshes are centred on: the root of the `skeleton`, or joint 0 of the body's own
            regressor applied to the posed mesh (`smpl`).
        train_keypoints_2d: source of the 2-D input of the training; None if it is the same.
    """

    name: str
    dataset: str
    split: str
    skeleton: str
    joints: tuple[int, ...] | None = None
    root: int = 0
    keypoints_2d: KeypointSource = "gt"
    alignment: Literal["root", "none"] = "root"
    units: Literal["mm", "px"] = "mm"
    num_hypotheses: int = 1
    dimensions: Literal[2, 3] = 3
    pck_joints: tuple[int, ...] | None = None
    ground_truth: str = ""
    regressor: str = ""
    groups: Literal["action", "sequence"] | None = None
    group_captions: Mapping[str, str] = field(default_factory=dict)
    average: Literal["poses", "actions", "sequences"] = "poses"
    smpl_joints: bool = False
    vertex_root: Literal["skeleton", "smpl"] = "skeleton"
    train_keypoints_2d: str | None = None

    def __post_init__(self) -> None:
        if self.average != "poses" and self.average != f"{self.groups}s":
            raise InputError(f"protocol {self.name}: a mean over {self.average} needs groups `{self.average[:-1]}`")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Protocol":
        """The protocol that `as_dict` gave; what is missing has its default.

        Raises:
            InputError: if an attribute is unknown, or one without a default is missing.
        """
        try:
            arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**arguments)
        except (TypeError, AttributeError) as error:  # it names the attribute
            raise InputError(f"not a protocol: {str(error).removeprefix('Protocol.__init__() ')}") from error

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for YAML, JSON and W&B."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def limb_joints(skeleton: str) -> tuple[int, ...]:
    """The twelve joints of `LIMB_JOINTS` in another skeleton.

    Raises:
        InputError: if the skeleton is unknown, or lacks one.
    """
    from noise2pose import skeletons  # with PyTorch, which commands that only compare numbers do not need

    names = skeletons.get("h36m_17").joints
    return tuple(skeletons.get(skeleton).index(names[joint]) for joint in LIMB_JOINTS)


def in_the_image(protocol: Protocol) -> Protocol:
    """The protocol by which the keypoints of a method are compared with those that a data set knows in space too."""
    return replace(protocol, dimensions=2, alignment="none", units="px")


def with_training_source(
    protocols: Sequence[Protocol], trained_on: str | None, allowed: bool, method: str
) -> list[Protocol]:
    """The protocols, with the source of the 2-D keypoints in training where it differs from that of the evaluation.

    Args:
        protocols: of the evaluation.
        trained_on: sources in training, joined by `+`; None if unknown.
        allowed: whether the two may differ.
        method: its title, for the message.

    Raises:
        InputError: if they differ and may not.
    """
    checked = []
    for protocol in protocols:
        differs = trained_on is not None and protocol.keypoints_2d not in trained_on.split("+")
        if differs and not allowed:
            raise InputError(
                f"{method} was trained on {trained_on} 2-D keypoints, and data.keypoints_2d of {protocol.dataset} is "
                f"{protocol.keypoints_2d}: set it to the same, or give --data.mixed_keypoints_2d true, which is then "
                "written beside every number"
            )
        checked.append(replace(protocol, train_keypoints_2d=trained_on) if differs else protocol)
    return checked
