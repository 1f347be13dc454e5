"""CrowdPose's people with annotated joints, and NeuralAnnot's bodies for training."""

from typing import Any, Literal

import numpy as np
import torch

from datamodules.base import Split
from datamodules.prepared.people import AnnotatedPeople
from datamodules.prepared.protocols import published
from datamodules.sources.crowdpose import FIT_ERROR
from noise2pose.batch import PoseBatch
from noise2pose.metrics.protocols import Protocol


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

    def people(self, split: str) -> str:
        return f"people of {split} with labelled joints"

    def protocols(self, split: Split) -> list[Protocol]:
        return [published("crowdpose", split=self.words(split), keypoints_2d=self.sources[split])]

    def complete(self, batch: PoseBatch, rows: np.ndarray) -> PoseBatch:
        if "has_smpl" in batch and self.fits != "all":
            batch["has_smpl"] = batch["has_smpl"] & torch.from_numpy(self._fits(rows))
        return batch

    def _fits(self, rows: np.ndarray) -> np.ndarray:
        """Whether the body of each row is taken."""
        folder = self.folder()
        if self.fits == "none" or "score" not in folder:
            return np.full(len(rows), self.fits != "none")
        errors = np.asarray(folder.column("score")[rows])
        return errors < self.fit_error if self.fits == "below" else errors >= self.fit_error
