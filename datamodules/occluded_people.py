"""3DPW, 3DOH50K and CMU Panoptic: people outdoors, behind objects and behind each other."""

from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from datamodules.base import Split
from datamodules.prepared.bodies import BodyData
from datamodules.prepared.data import PreparedData
from datamodules.prepared.folder import PreparedFolder
from datamodules.prepared.protocols import published
from datamodules.prepared.rows import PreparedRows
from datamodules.sources.panoptic.files import CAMERAS, PUBLISHED
from datamodules.sources.threedpw.community import members, splits_of
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol

_SPLITS: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}


class ThreeDPW(BodyData):
    """3D Poses in the Wild (von Marcard et al., ECCV 2018): people outdoors, ground truth of gendered SMPL.

    Args:
        subset: `all` for the published splits. `oc`, `pc` and `crowd` are for tests alone: they hold people of the
            training and validation splits, on which a method that is to be tested there must not be trained.
        protocol: of `all`: `threedpw` for 14 joints, `threedpw_24` for SMPL's 24 joints too, `threedpw_dpmesh` for
            vertices about SMPL's pelvis.
        bodies: see `BodyData`.
        options: of `PreparedData`.
    """

    dataset = "threedpw"
    box_rules = "keypoints"

    def __init__(
        self,
        subset: Literal["all", "oc", "pc", "crowd"] = "all",
        protocol: Literal["threedpw", "threedpw_24", "threedpw_dpmesh"] = "threedpw",
        bodies: str = "data/bodies",
        **options: Any,
    ) -> None:
        super().__init__(bodies, **options)
        self.subset = subset
        self.protocol = protocol

    def protocols(self, split: Split) -> list[Protocol]:
        self._check(split)
        name = self.protocol if self.subset == "all" else f"threedpw_{self.subset}"
        words = f"3DPW's own {_SPLITS[split]} sequences, frames with a valid camera"
        words = words if self.subset == "all" else published(name).split
        return [published(name, split=f"{split}: {words}{self.thinned(split)}", keypoints_2d=self.sources[split])]

    def in_split(self, sequence: dict[str, Any], split: Split) -> bool:
        self._check(split)
        if self.subset == "all":
            return sequence["split"] == _SPLITS[split]
        if self._has_file():
            return sequence["split"] == self.subset
        return sequence["split"] in splits_of(self.subset)

    def keeps(self, folder: PreparedFolder, rows: np.ndarray, split: Split) -> np.ndarray:
        kept = super().keeps(folder, rows, split)
        detected = folder.column("keypoints_2d_detected")[rows][..., 2].max(axis=1) > 0
        if split == "train" and self.sources[split] == "detected":
            return kept & detected  # there is nothing to learn from
        if self.subset == "all" or self._has_file():
            return kept
        there = {sequence["split"] for sequence in folder.sequences}
        if missing := [name for name in splits_of(self.subset) if name not in there]:
            raise InputError(
                f"{folder.root}: 3DPW-{self.subset.upper()} takes people of {', '.join(splits_of(self.subset))}, and "
                f"{' and '.join(missing)} are not here: prepare them too, or add the file of the subset"
            )
        of, frames = folder.column("sequence")[rows], folder.column("frame")[rows]
        for number in np.unique(of):
            here = of == number
            kept[here] &= members(self.subset, folder.sequences[number]["video"], frames[here], detected[here])
        return kept

    def _has_file(self) -> bool:
        """Whether the subset was prepared from its own file, with the joints that published numbers were made with."""
        return self.folder().facts["subsets"][self.subset] == "file"

    def _check(self, split: Split) -> None:
        if self.subset != "all" and split != "test":
            raise InputError(
                f"data.subset is {self.subset}, which is for tests alone and holds people of 3DPW's training and "
                f"validation splits: for {split}, take all or another data set"
            )


class ThreeDOH(BodyData):
    """3DOH50K (Zhang et al., CVPR 2020): ground truth of neutral SMPL; its test split is a benchmark of occlusion.

    There is no validation split: a training on `trainset` is validated on another data set or not at all.
    """

    dataset = "threedoh"
    box_rules = "dpmesh"

    def protocols(self, split: Split) -> list[Protocol]:
        changes: dict[str, Any] = {} if split == "test" else {"split": f"{split}: not a published evaluation"}
        return [published("threedoh", keypoints_2d=self.sources[split], **changes)]

    def in_split(self, sequence: dict[str, Any], split: Split) -> bool:
        return sequence["split"] == split

    def rows(self, split: Split) -> PreparedRows:
        rows = super().rows(split)
        focal = rows.columns.get("focal")
        if self.sources[split] == "detected" and not rows.columns["keypoints_2d_detected"][rows.rows].any():
            raise InputError(f"data.keypoints_2d is detected, but {rows.folder.root} has no detections for {split}")
        if self.sources[split] != "detected" and (focal is None or np.isnan(focal[rows.rows]).any()):
            raise InputError(
                f"data.keypoints_2d is {self.sources[split]}, but {rows.folder.root} has no cameras to project with: "
                "take detected, or prepare the publisher's annots.json"
            )
        return rows


class Panoptic(PreparedData):
    """Sequences of the Panoptic Studio as Jiang et al. (CVPR 2020) chose them; there is nothing to train on.

    The columns of the tables are the kinds of sequences: haggling, mafia, ultimatum and pizza, seen by the HD cameras
    16 and 30. Errors of limbs and neck are measured from the body centre. Green images are left out, as in ROMP.

    Numbers of papers are made otherwise, and differently from each other. Jiang et al. divide the errors of these 13
    joints by 17, since joints that are not annotated count as exact: theirs are 13/17 of ours. BEV divides them by 14,
    moves the ground truth by a few centimetres and counts a person who is not found as 150 mm.

    Args:
        sequences: `published` for those four and the two cameras, or for all that was prepared if none of them was;
            `all` for all that was prepared.
        options: see `PreparedData`.
    """

    dataset = "panoptic"

    def __init__(self, sequences: Literal["published", "all"] = "published", **options: Any) -> None:
        super().__init__(**options)
        if self.num_frames != 1:
            raise InputError(f"data.num_frames is {self.num_frames}, but panoptic has single frames only (1)")
        self.sequences = sequences

    @cached_property
    def is_published(self) -> bool:
        """Whether the sequences that are taken are those of the published evaluation."""
        return self.sequences == "published" and any(map(_is_published, self.folder().sequences))

    def in_split(self, sequence: dict[str, Any], split: Split) -> bool:
        if split != "test":
            raise InputError(f"panoptic has no {split} data: train on another data set, and test on this one")
        return _is_published(sequence) or not self.is_published

    def protocols(self, split: Split) -> list[Protocol]:
        folder = self.folder()
        taken = [sequence["name"] for sequence in folder.sequences if self.in_split(sequence, split)]
        whole = set(taken) == {f"{name}.{camera}" for name in PUBLISHED for camera in CAMERAS}
        words = "the four published sequences, HD cameras 16 and 30" if whole else ", ".join(taken)
        words = f"test: {words}; {folder.facts['frames']} frames{self.thinned(split)}"
        protocol = published("panoptic", split=words, keypoints_2d=self.sources[split])
        return [protocol if whole else replace(protocol, name="panoptic_other")]


def _is_published(sequence: dict[str, Any]) -> bool:
    return sequence["subject"] in PUBLISHED and sequence["camera"] in CAMERAS
