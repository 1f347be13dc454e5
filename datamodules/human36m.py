"""Human3.6M, prepared by `scripts/prepare.py human36m`."""

from functools import cached_property
from typing import Any, Literal

from datamodules.base import Split
from datamodules.prepared.data import PreparedData
from datamodules.prepared.protocols import published
from datamodules.prepared.rows import PreparedRows
from datamodules.sources.human36m.cameras import FRONTAL
from datamodules.sources.human36m.sequences import SPLITS, sort_actions, sort_subjects
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol

_SHARE = 6  # one of so many takes of each training subject is for validation


class Human36M(PreparedData):
    """Subjects 1, 5, 6, 7, 8 for training and 9, 11 for test, as every paper has it; single frames, clips or images.

    Papers choose their checkpoints on the test set. Here validation is every sixth take of the training subjects, from
    all cameras, another one of each subject; these takes are not trained on. A folder that is too small for that
    validates on what it trains on.

    Args:
        root: folder written by `scripts/prepare.py human36m`.
        protocol: what is counted. `lifting`: 17 joints from all cameras (papers call MPJPE protocol 1 and PA-MPJPE
            protocol 2). `hmr_p1`: 14 joints from all cameras. `hmr_p2`: 14 joints from the frontal camera, 60457274.
            Training is the same for all.
        options: see `PreparedData`.
    """

    dataset = "human36m"
    names_training = False

    def __init__(
        self,
        root: str | None = None,
        protocol: Literal["lifting", "hmr_p1", "hmr_p2"] = "lifting",
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self._box_rule_given = options.get("box_rule") is not None
        if protocol not in ("lifting", "hmr_p1", "hmr_p2"):
            raise InputError(f"data.protocol is {protocol}, expected lifting, hmr_p1 or hmr_p2")
        self.protocol = protocol

    def in_split(self, sequence: dict[str, Any], split: Split) -> bool:
        if split != "train" and self.protocol == "hmr_p2" and sequence["camera"] != FRONTAL:
            return False
        if sequence["split"] == "test" or split == "test":
            return sequence["split"] == split
        held_out = self._validation_takes
        return not held_out or ((sequence["subject"], sequence["take"]) in held_out) == (split == "val")

    def rows(self, split: Split) -> PreparedRows:
        if not self._box_rule_given:  # boxes of masks are looser than those of joints, and not every copy has masks
            self.box_rule = self.folder().facts["box_rule"]
        return super().rows(split)

    def protocols(self, split: Split) -> list[Protocol]:
        folder = self.folder()
        clips = self.num_frames > 1
        step = int(folder.facts.get("stride", 1)) * (1 if clips else self.strides[split])
        frames = "all frames" if step == 1 else f"every {step} frames"
        frames += f", in clips of {self.num_frames}," if clips else ""
        cameras = f"camera {FRONTAL}" if self.protocol == "hmr_p2" else "all cameras"
        subjects = sort_subjects(list({s["subject"] for s in folder.sequences if self.in_split(s, split)}))
        whose = {"train": "", "val": ", every sixth take" if self._validation_takes else ", which are trained on"}
        words = f"{split}: {', '.join(subjects)}{whose.get(split, '')}, {frames} of 50 Hz, {cameras}"
        if self.sources[split] == "detected":
            words += f", detector {folder.facts['detector']}"
        return [published(f"human36m_{self.protocol}", split=words, keypoints_2d=self.sources[split])]

    @cached_property
    def _validation_takes(self) -> set[tuple[str, str]]:
        """(subject, take) of validation; none if there are too few to spare any."""
        takes: dict[str, set[str]] = {}
        for sequence in self.folder().sequences:
            if sequence["split"] == "train":
                takes.setdefault(sequence["subject"], set()).add(sequence["take"])
        training = [subject for subject, split in SPLITS.items() if split == "train"]
        held_out = {
            (subject, take)
            for subject, names in takes.items()
            for number, take in enumerate(sort_actions(list(names)))
            if (number + training.index(subject)) % _SHARE == 1
        }
        return held_out if len(held_out) < sum(map(len, takes.values())) else set()
