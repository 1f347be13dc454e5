"""3DPW, its splits and its occlusion subsets."""

from typing import Any, Literal

import numpy as np

from datamodules.base import Split
from datamodules.prepared.bodies import BodyData
from datamodules.prepared.folder import PreparedFolder
from datamodules.prepared.protocols import published
from datamodules.sources.threedpw.subsets import members, splits_of
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol

_SPLITS: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}
_WORDS = {
    "oc": "3DPW-OC: object occlusion, 17 recordings of all three splits",
    "pc": "3DPW-PC: person occlusion, ranges of frames of six sequences of all three splits",
    "crowd": "3DPW-Crowd: courtyard_hug_00 and courtyard_dancing_00 of validation",
}


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
        changes: dict[str, Any] = {"keypoints_2d": self.sources[split]}
        if self.subset != "all":
            changes["split"] = f"test: {_WORDS[self.subset]}{self.thinned(split)}"
            return [published(f"threedpw_{self.subset}", **changes)]
        words = f"3DPW's own {_SPLITS[split]} sequences, frames with a valid camera{self.thinned(split)}"
        changes["split"] = f"{split}: {words}"
        return [published(self.protocol, **changes)]

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
