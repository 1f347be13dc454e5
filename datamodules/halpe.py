"""Halpe-FullBody's people, cleansed."""

from typing import Any

import numpy as np

from datamodules.base import Split
from datamodules.prepared.folder import PreparedFolder
from datamodules.prepared.people import AnnotatedPeople
from datamodules.prepared.protocols import published
from datamodules.prepared.rows import PreparedRows
from datamodules.sources.halpe.cleansing import Cleansed, HalpeCleansing, cleanse
from noise2pose.metrics.protocols import Protocol

_RULES = HalpeCleansing()


class Halpe(AnnotatedPeople):
    """Halpe-FullBody (Fang et al., TPAMI 2022): 26 joints of the body, in 2-D only.

    DiffAnnot reports 2-D errors on a part of the training images whose selection is not published; the rules here are
    this project's. The test is on the published validation split, which shows people of COCO's val2017.

    Args:
        cleanse: take only people who are fit for use; how many were left out for which reason is printed.
        max_people, min_side, min_joints, min_limbs: see `HalpeCleansing`.
        min_visibility: joints of a lower published score do not count, neither here nor in the 2-D input.
        held_out, options: see `AnnotatedPeople`.
    """

    dataset = "halpe"
    published_splits = {"train": "train", "val": "val", "test": "val"}

    def __init__(
        self,
        cleanse: bool = True,
        max_people: int = _RULES.max_people,
        min_side: float = _RULES.min_side,
        min_joints: int = _RULES.min_joints,
        min_limbs: int = _RULES.min_limbs,
        min_visibility: float = _RULES.min_visibility,
        held_out: float = 0.05,
        **options: Any,
    ) -> None:
        super().__init__(held_out, **options)
        self.cleanse = cleanse
        self.rules = HalpeCleansing(max_people, min_side, min_joints, min_limbs, min_visibility)

    def prepare_data(self) -> None:
        super().prepare_data()
        if self.cleanse:  # in the first process only
            folder = self.folder()
            for sequence in folder.sequences:
                print(self._cleansed(folder, sequence).line(f"halpe {sequence['name']}"))

    def people(self, split: str) -> str:
        rules = ", ".join(f"{name} {value:g}" for name, value in self.rules._asdict().items())
        fit = f"fit for use by this project's rules ({rules})" if self.cleanse else "with labelled joints"
        return f"people of Halpe's {split} {fit}"

    def protocols(self, split: Split) -> list[Protocol]:
        return [published("halpe", split=self.words(split), keypoints_2d=self.sources[split])]

    def keeps(self, folder: PreparedFolder, rows: np.ndarray, split: Split) -> np.ndarray:
        kept = super().keeps(folder, rows, split)
        if not self.cleanse:
            return kept
        fit = np.zeros(folder.num_rows, bool)
        for sequence in folder.sequences:
            fit[sequence["start"] : sequence["stop"]] = self._cleansed(folder, sequence).keep
        return kept & fit[rows]

    def rows(self, split: Split) -> PreparedRows:
        rows = super().rows(split)
        seen = rows.columns["visibility"] >= self.rules.min_visibility
        rows.columns["keypoints_2d_gt"] = rows.columns["keypoints_2d_gt"] * seen[..., None]
        return rows

    def _cleansed(self, folder: PreparedFolder, sequence: dict[str, Any]) -> Cleansed:
        rows = slice(sequence["start"], sequence["stop"])
        visibility, bounds, image = (folder.column(name)[rows] for name in ("visibility", "bounds", "picture"))
        return cleanse(self.rules, visibility, bounds, image)
