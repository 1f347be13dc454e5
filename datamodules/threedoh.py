"""3DOH50K: people behind objects."""

from typing import Any

import numpy as np

from datamodules.base import Split
from datamodules.prepared.bodies import BodyData
from datamodules.prepared.protocols import published
from datamodules.prepared.rows import PreparedRows
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol


class ThreeDOH(BodyData):
    """3DOH50K (Zhang et al., CVPR 2020): ground truth of neutral SMPL; its test split is a benchmark of occlusion.

    There is no validation split: a training on `trainset` is validated on another data set or not at all.

    Args:
        bodies: see `BodyData`.
        options: of `PreparedData`.
    """

    dataset = "threedoh"
    box_rules = "dpmesh"

    def __init__(self, bodies: str = "data/bodies", **options: Any) -> None:
        super().__init__(bodies, **options)

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
