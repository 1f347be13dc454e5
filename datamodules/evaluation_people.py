"""The data sets of BEDLAM's and Pose++'s papers: BEDLAM itself and SSP-3D."""

from typing import Any

from datamodules.base import Split
from datamodules.prepared.bodies import BodyData
from datamodules.prepared.protocols import published
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol


class BEDLAM(BodyData):
    """BEDLAM (Black et al., CVPR 2023): rendered people in clothes, SMPL.

    Validation is on the last fifth of the sequences of each scene, which show people and places of the training. The
    labels of the published test are withheld.
    """

    dataset = "bedlam"
    box_rules = "keypoints"

    def protocols(self, split: Split) -> list[Protocol]:
        self._check(split)
        gendered = self.folder().facts["gender"] == "gendered"
        truth: dict[str, Any] = {"ground_truth": "SMPL, gendered"} if gendered else {}
        return [published("bedlam", keypoints_2d=self.sources[split], **truth)]

    def in_split(self, sequence: dict[str, Any], split: Split) -> bool:
        self._check(split)
        return sequence["split"] == split

    def _check(self, split: Split) -> None:
        if split == "test":
            raise InputError("bedlam has no test data, whose labels are withheld: test on another data set")


class SSP3D(BodyData):
    """Sports Shape and Pose 3D (Sengupta et al., BMVC 2020): the shapes of sportspeople, gendered SMPL.

    Shapes are compared in the rest pose by the mesh of the true gender (`pve_t_sc`), which asks a method for SMPL's
    betas. Poses are pseudo ground truth and seldom reported.
    """

    dataset = "ssp3d"
    box_rules = "keypoints"

    def protocols(self, split: Split) -> list[Protocol]:
        return [published("ssp3d", keypoints_2d=self.sources[split])]

    def in_split(self, sequence: dict[str, Any], split: Split) -> bool:
        if split != "test":
            raise InputError(f"ssp3d has no {split} data: train on another data set, and test on this one")
        return True

    def finish(self, batch: PoseBatch, training: bool) -> PoseBatch:
        """Adds what a shape is measured with."""
        batch = super().finish(batch, training)
        batch["rest_basis"] = self._bodies().rest_basis(batch["gender"])
        return batch
