"""What data sets of annotated images have in common: people one by one, and how images are held out of training."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from datamodules.base import Split
from datamodules.prepared.data import PreparedData
from datamodules.prepared.folder import PreparedFolder
from noise2pose.errors import InputError


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
        self._folder: PreparedFolder | None = None

    def folder(self) -> PreparedFolder:
        if self._folder is None:
            self._folder = super().folder()
        return self._folder

    @abstractmethod
    def people(self, split: str) -> str:
        """The people of a publisher's split, in words."""

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
