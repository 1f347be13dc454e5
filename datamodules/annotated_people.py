"""COCO, CrowdPose, OCHuman, Halpe-FullBody and MuCo-3DHP: annotated people in single images.

Such data sets share how images are held out of training, see `AnnotatedPeople`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from datamodules.base import Split
from datamodules.prepared.data import PreparedData
from datamodules.prepared.folder import PreparedFolder
from datamodules.prepared.protocols import published
from datamodules.prepared.rows import PreparedRows
from datamodules.sources.crowdpose import FIT_ERROR
from datamodules.sources.halpe import Cleansed, HalpeCleansing, cleanse
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol

_RULES = HalpeCleansing()


class AnnotatedPeople(PreparedData):
    """People in single images.

    Where the literature tests on the published validation split, or there is none, the best checkpoint is chosen on
    images that are held out of training: never on those of the test.

    Args:
        held_out: share of the training images for validation. Where that is less than one image, and for 0, the
            published validation split is taken.
        options: of `PreparedData`.
    """

    published_splits: Mapping[Split, str | None]  # the publisher's for each of ours; None where there is none

    def __init__(self, held_out: float = 0.05, **options: Any) -> None:
        super().__init__(**options)
        if not 0.0 <= held_out < 1.0:
            raise InputError(f"data.held_out is {held_out}, expected a share of 0 to less than 1")
        if self.num_frames != 1:
            raise InputError(f"data.num_frames is {self.num_frames}, but {self.dataset} has single images; set it to 1")
        self.held_out = held_out

    def people(self, split: str) -> str:
        """The people of a publisher's split, in words."""
        return f"people of {split} with labelled joints"

    def protocols(self, split: Split) -> list[Protocol]:
        return [published(self.dataset, split=self.words(split), keypoints_2d=self.sources[split])]

    def words(self, split: Split) -> str:
        """Which people are in a split."""
        if split != "val" or self.published_splits["val"] == self._source("val"):
            return f"{split}: {self.people(self._source(split))}{self.thinned(split)}"
        number, total = len(self._held_out(self.folder())), len(self._images(self.folder()))
        return f"val: {number} of {total} images held out of {self.people(self._source('train'))}"

    def in_split(self, sequence: dict[str, Any], split: Split) -> bool:
        return sequence["split"] == self._source(split)

    def keeps(self, folder: PreparedFolder, rows: np.ndarray, split: Split) -> np.ndarray:
        if split == "test" or self._source("val") != self.published_splits["train"]:
            return super().keeps(folder, rows, split)
        held_out = np.isin(folder.column("picture")[rows], self._held_out(folder))
        return held_out if split == "val" else ~held_out

    def _source(self, split: Split) -> str:
        """The publisher's split that one of ours is taken from."""
        published = self.published_splits[split]
        if split == "val":
            folder = self.folder()
            there = {sequence["split"] for sequence in folder.sequences}
            is_test = published == self.published_splits["test"]
            if published not in there or (is_test and len(self._held_out(folder))):
                published = self.published_splits["train"]
        if published is None:
            raise InputError(f"{self.dataset} has no {split} split: take another data set for it")
        return published

    def _held_out(self, folder: PreparedFolder) -> np.ndarray:
        """Numbers of the training images for validation, at equal distances."""
        images = self._images(folder)
        number = int(self.held_out * len(images))
        if self.published_splits["val"] is None and len(images) > 1:
            number = max(number, 1)
        return images[(2 * np.arange(number) + 1) * len(images) // (2 * max(number, 1))]

    def _images(self, folder: PreparedFolder) -> np.ndarray:
        """Numbers of all training images."""
        train = [s for s in folder.sequences if s["split"] == self.published_splits["train"]]
        none = np.empty(0, np.int32)
        return np.unique(np.concatenate([none, *(folder.column("picture")[s["start"] : s["stop"]] for s in train)]))


class COCO(AnnotatedPeople):
    """COCO keypoints (Lin et al., ECCV 2014), 2017: annotated in 2-D only.

    No joint is valid in 3-D. People with a body of NeuralAnnot have `smpl`, `has_smpl` and `camera_translation`; the
    camera is the one that the body was fitted with, and for the others one with the image's diagonal as its focal
    length. The test is on val2017; validation is on images held out of train2017.

    Args:
        held_out, options: see `AnnotatedPeople`.
    """

    dataset = "coco"
    published_splits = {"train": "train", "val": "val", "test": "val"}

    def people(self, split: str) -> str:
        return super().people(f"{split}2017")


class CrowdPose(AnnotatedPeople):
    """CrowdPose (Li et al., CVPR 2019): crowds, annotated in 2-D only; 14 joints, none of which lies at the chin.

    No joint is valid in 3-D. Bodies and cameras are as in `COCO`.

    Args:
        fits: which of NeuralAnnot's bodies are taken: those with an error `below` `fit_error`; those of `fit_error` and
            `above`, as 3DCrowdNet and JOTR do, which looks inverted; `all`; or `none`.
        fit_error: threshold on the published `fit_err`.
        held_out: see `AnnotatedPeople`; of use only where val was not prepared.
        options: of `PreparedData`.
    """

    dataset = "crowdpose"
    published_splits = {"train": "train", "val": "val", "test": "test"}

    def __init__(
        self,
        fits: Literal["below", "above", "all", "none"] = "below",
        fit_error: float = FIT_ERROR,
        held_out: float = 0.05,
        **options: Any,
    ) -> None:
        super().__init__(held_out, **options)
        self.fits = fits
        self.fit_error = fit_error

    def complete(self, batch: PoseBatch, rows: np.ndarray) -> PoseBatch:
        if "has_smpl" in batch and self.fits == "none":
            batch["has_smpl"] = torch.zeros_like(batch["has_smpl"])
        elif "has_smpl" in batch and self.fits != "all" and "score" in self.folder():
            errors = torch.from_numpy(self.folder().column("score")[rows])
            taken = errors < self.fit_error if self.fits == "below" else errors >= self.fit_error
            batch["has_smpl"] = batch["has_smpl"] & taken
        return batch


class OCHuman(AnnotatedPeople):
    """OCHuman (Zhang et al., CVPR 2019): people who hide each other, in 2-D and for tests alone."""

    dataset = "ochuman"
    published_splits = {"train": None, "val": "val", "test": "test"}

    def people(self, split: str) -> str:
        return f"people of OCHuman's {split}"


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


class MuCo(AnnotatedPeople):
    """MuCo-3DHP (Mehta et al., 3DV 2018): images composed of the people of MPI-INF-3DHP's training set.

    There is no test split; the literature tests on MuPoTS-3D or 3DPW. The people of held-out images are in other
    images too, so validation tells whether training works, and not how well it generalises.

    Args:
        held_out, options: see `AnnotatedPeople`.
    """

    dataset = "muco"
    published_splits = {"train": "train", "val": None, "test": None}

    def people(self, split: str) -> str:
        return "composed images, which show the same people"

    def protocols(self, split: Split) -> list[Protocol]:
        return [
            Protocol(
                name="muco",
                dataset="muco",
                split="none: MuCo-3DHP has no test split" if split == "test" else self.words(split),
                skeleton="h36m_17",
                keypoints_2d=self.sources[split],
                ground_truth="mocap joints of MPI-INF-3DHP",
            )
        ]
