"""MPI-INF-3DHP, prepared by `scripts/prepare.py mpi_inf_3dhp`."""

from functools import cached_property
from typing import Any, Literal

import numpy as np

from datamodules.base import Split
from datamodules.prepared.data import PreparedData
from datamodules.prepared.folder import PreparedFolder
from datamodules.prepared.protocols import published
from datamodules.prepared.rows import PreparedRows
from noise2pose import skeletons
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.metrics.protocols import Protocol

Annotation = Literal["annot3", "univ_annot3"]

_PELVIS = skeletons.get("mpi_inf_3dhp_17").root
_COLUMNS: dict[Annotation, str] = {"annot3": "keypoints_3d", "univ_annot3": "keypoints_3d_univ"}


class MpiInf3DHP(PreparedData):
    """Eight people seen by eight cameras for training, six sequences of other people for tests.

    The last recording of the training set (S8/Seq2 of the whole set) is for validation: the papers choose their
    checkpoints on the test set, this does not. Of a folder with a single recording it is the last camera.

    Tests count valid frames. With `annot3` the published number is the mean over the six sequences (D3DP), with
    `univ_annot3` the mean over frames (P-STMO); neither is comparable with the other. Training is on `annot3` for
    both, as in the field, unless the folder has nothing but `univ_annot3` for it (P-STMO's files).

    Args:
        root: folder written by `scripts/prepare.py mpi_inf_3dhp`.
        annotation: ground truth of the test set. None for `annot3` where the folder has it, else what it has. Needed
            for npz files that were prepared without --annotation and do not say what they hold.
        all_joints_inside: leave out people of whom a joint lies outside the image, as mesh methods do (SPIN), whose
            numbers are on `univ_annot3`; single frames only.
        options: see `PreparedData`.
    """

    dataset = "mpi_inf_3dhp"
    names_training = False

    def __init__(
        self,
        root: str | None = None,
        annotation: Annotation | None = None,
        all_joints_inside: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        self.annotation: Annotation | None = annotation
        self.all_joints_inside = all_joints_inside
        if all_joints_inside and self.num_frames > 1:
            raise InputError("data.all_joints_inside is for single frames, since clips need all frames")

    def in_split(self, sequence: dict[str, Any], split: Split) -> bool:
        if sequence["split"] == "test" or split == "test":
            return sequence["split"] == split
        held_out = all(sequence[key] == value for key, value in self._validation.items())
        # A folder with a single view trains and validates on that.
        return held_out if split == "val" else not held_out or len(self._training) < 2

    def keeps(self, folder: PreparedFolder, rows: np.ndarray, split: Split) -> np.ndarray:
        kept = np.asarray(folder.column(self.keypoints_3d)[rows, _PELVIS, 3] > 0)
        if self.all_joints_inside:
            bounds, size = folder.column("bounds")[rows], folder.column("image_size")[rows]
            kept &= (folder.column("keypoints_2d_gt")[rows, :, 2] > 0).all(axis=1)
            kept &= (bounds[:, :2] >= 0).all(axis=1) & (bounds[:, 2:] < size).all(axis=1)
        return kept

    def complete(self, batch: PoseBatch, rows: np.ndarray) -> PoseBatch:
        # Poses are compared relative to the pelvis: without it no joint of a frame counts.
        validity = batch["keypoints_3d"][..., 3]
        batch["keypoints_3d"][..., 3] = validity * validity[:, :1]
        return batch

    def rows(self, split: Split) -> PreparedRows:
        annotation, self.keypoints_3d = self._ground_truth(split)
        rows = super().rows(split)
        known = rows.columns[self.keypoints_3d]
        for sequence in rows.folder.sequences:
            # A file has an annotation for all of its frames or for none.
            if self.in_split(sequence, split) and not known[sequence["start"] : sequence["stop"], :, 3].any():
                raise InputError(f"{rows.folder.root}: {sequence['name']} has no {annotation}")
        return rows

    def protocols(self, split: Split) -> list[Protocol]:
        annotation, _ = self._ground_truth(split)
        training, _ = self._ground_truth("train") if self._names("train") else (None, None)
        words = "valid frames of " + ", ".join(self._names(split)) + self.thinned(split)
        if training is not None and training != annotation:
            words += f"; trained on {training}"
        if self.all_joints_inside:
            words += "; all joints inside the image"
        mesh = self.all_joints_inside and annotation == "univ_annot3"
        name = "mpi_inf_3dhp_mesh" if mesh else f"mpi_inf_3dhp_{annotation}"
        return [published(name, split=f"{split}: {words}", keypoints_2d=self.sources[split])]

    @cached_property
    def _training(self) -> list[dict[str, Any]]:
        return [sequence for sequence in self.folder().sequences if sequence["split"] == "train"]

    @cached_property
    def _validation(self) -> dict[str, str]:
        """What the sequences of the validation set have in common."""
        views = [{key: sequence[key] for key in ("subject", "action", "camera")} for sequence in self._training]
        if not views:
            return {"split": "val"}  # which no sequence has
        last = max(views, key=lambda view: (view["subject"], view["action"], int(view["camera"])))
        single = all((view["subject"], view["action"]) == (last["subject"], last["action"]) for view in views)
        return last if single else {key: last[key] for key in ("subject", "action")}

    def _names(self, split: Split) -> list[str]:
        """Test sequences, or recordings with their number of cameras."""
        chosen = [sequence for sequence in self.folder().sequences if self.in_split(sequence, split)]
        if split == "test":
            return [sequence["name"] for sequence in chosen]
        recordings = [f"{sequence['subject']}/{sequence['action']}" for sequence in chosen]
        return [f"{name} ({recordings.count(name)} cameras)" for name in dict.fromkeys(recordings)]

    def _ground_truth(self, split: Split) -> tuple[Annotation, str]:
        """Which annotation a split is measured against, and its column.

        Raises:
            InputError: if the folder lacks the annotation asked for, or does not say which one it has.
        """
        folder = self.folder()
        found = [s["annotations"] for s in folder.sequences if self.in_split(s, split)]
        if not found:
            raise InputError(f"{folder.root}: {self.dataset} has no sequence for {split} here")
        has = [name for name in (*_COLUMNS, "unknown") if all(name in annotations for annotations in found)]
        if has == ["unknown"]:
            if self.annotation is None:
                raise InputError(
                    f"{folder.root}: whether the 3-D joints for {split} are annot3 or univ_annot3 cannot be told from "
                    "their file; say it with data.annotation"
                )
            return self.annotation, _COLUMNS["annot3"]
        wanted = self.annotation if split == "test" and self.annotation else None
        for name, column in _COLUMNS.items():
            if name in has and wanted in (None, name):
                return name, column
        there = " and ".join(has) or "nothing"
        raise InputError(f"{folder.root}: all sequences for {split} have {there}, data.annotation is {wanted}")
