"""CMU Panoptic, prepared by `scripts/prepare.py panoptic`: several people who hide each other, for evaluation only."""

from dataclasses import replace
from typing import Any, Literal

from datamodules.base import Split
from datamodules.prepared.data import PreparedData
from datamodules.prepared.protocols import published
from datamodules.sources.panoptic.files import CAMERAS, PUBLISHED
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol


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
        self._has_published: bool | None = None

    @property
    def is_published(self) -> bool:
        """Whether the sequences that are taken are those of the published evaluation.

        Raises:
            InputError: if the folder has not been prepared.
        """
        if self._has_published is None:
            self._has_published = any(_is_published(sequence) for sequence in self.folder().sequences)
        return self.sequences == "published" and self._has_published

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
