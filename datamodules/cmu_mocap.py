"""CMU motion capture, prepared by `scripts/prepare.py cmu_mocap`, seen by virtual cameras."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.motion.cameras import Clip, VirtualCameraMotion
from datamodules.prepared.folder import PreparedFolder

DATASET = "cmu_mocap"


class CMUMocap(VirtualCameraMotion):
    """Real motion under a free licence, split by clip.

    Test clips are those of subjects whose number ends in 2, none of whom is in training (subject 02 walks, runs, jumps,
    punches and washes). Every sixth clip of the other subjects is for validation, the rest for training; no two splits
    share a frame.

    Args:
        root: folder written by `scripts/prepare.py cmu_mocap`.
        options: of `VirtualCameraMotion`.
    """

    dataset = DATASET

    def __init__(self, root: str = "data/cmu_mocap", **options: Any) -> None:
        super().__init__(**options)
        self.root = Path(root)

    def prepare_data(self) -> None:
        PreparedFolder(self.root, DATASET)  # fail before any process starts, not in each of them

    def split_in_words(self, split: Split) -> str:
        return {
            "train": "subjects whose number does not end in 2, five of six clips",
            "val": "subjects whose number does not end in 2, every sixth clip",
            "test": "subjects whose number ends in 2",
        }[split]

    def clips(self, split: Split) -> list[Clip]:
        return [Clip(*clip) for clip in read_clips(self.root, split, "joints_world")]


def read_clips(root: Path, split: Split, column: str) -> list[tuple[str, str, str, Tensor]]:
    """The clips of a split of a prepared folder, with one of its columns.

    Args:
        root: folder written by `scripts/prepare.py cmu_mocap`.
        split: which clips.
        column: `joints_world`, or `poses` (axis-angle, the first of which turns the body into a world with z up).

    Returns:
        Name, subject, action and (F, ...) float32 of each clip.

    Raises:
        InputError: if the folder has not been prepared, or is damaged.
    """
    folder = PreparedFolder(root, DATASET)
    chosen = assign_splits([(clip["name"], clip["subject"]) for clip in folder.sequences])
    return clips_of(folder, column, [clip for clip in folder.sequences if chosen[clip["name"]] == split])


def clips_of(
    folder: PreparedFolder, column: str, sequences: list[dict[str, Any]]
) -> list[tuple[str, str, str, Tensor]]:
    """Name, subject, action and (F, ...) values of a column of some sequences of a folder."""
    values = folder.column(column)
    return [
        (clip["name"], clip["subject"], clip["action"], torch.from_numpy(values[clip["start"] : clip["stop"]].copy()))
        for clip in sequences
    ]


def assign_splits(clips: list[tuple[str, str]]) -> dict[str, Split]:
    """The split of each clip; adding subjects to a prepared folder never moves a clip of another subject.

    Args:
        clips: (name, subject number) of every clip.
    """
    splits: dict[str, Split] = {}
    takes: dict[str, list[str]] = {}  # of each subject, in order; what a cut left of a take stays together
    for name, subject in sorted(clips):
        take = name.split("#")[0]
        seen = takes.setdefault(subject, [])
        if take not in seen:
            seen.append(take)
        if subject.endswith("2"):
            splits[name] = "test"
        else:
            splits[name] = "val" if seen.index(take) % 6 == 3 else "train"
    return splits
