"""CMU motion capture, prepared by `scripts/prepare.py cmu_mocap`, seen by virtual cameras."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.motion.cameras import Clip, VirtualCameraMotion
from noise2pose.errors import InputError

_PREPARE = "prepare it with `python scripts/prepare.py cmu_mocap --source allasfamc.zip --output {root}`"


class CMUMocap(VirtualCameraMotion):
    """Real motion under a free licence, split by clip.

    Test clips are those of subjects whose number ends in 2, none of whom is in training (subject 02 walks, runs, jumps,
    punches and washes). Every sixth clip of the other subjects is for validation, the rest for training; no two splits
    share a frame.

    Args:
        root: folder written by `scripts/prepare.py cmu_mocap`.
        keypoints_2d, train_stride, eval_stride, noise_seed, num_frames: see `VirtualCameraMotion`.
        batch_size, eval_batch_size, mixed_keypoints_2d: see `PoseDataModule`.
    """

    dataset = "cmu_mocap"

    def __init__(
        self,
        root: str = "data/cmu_mocap",
        keypoints_2d: Literal["gt", "synthetic", "detected"] = "synthetic",
        train_stride: int = 5,
        eval_stride: int = 10,
        noise_seed: int = 0,
        num_frames: int = 1,
        batch_size: int = 256,
        eval_batch_size: int = 1024,
        mixed_keypoints_2d: bool = False,
    ) -> None:
        super().__init__(
            keypoints_2d,
            train_stride,
            eval_stride,
            noise_seed,
            num_frames,
            batch_size,
            eval_batch_size,
            mixed_keypoints_2d,
        )
        self.root = Path(root)

    def prepare_data(self) -> None:
        check_prepared(self.root)  # fail before any process starts, not in each of them

    def split_in_words(self, split: Split) -> str:
        return {
            "train": "subjects whose number does not end in 2, five of six clips",
            "val": "subjects whose number does not end in 2, every sixth clip",
            "test": "subjects whose number ends in 2",
        }[split]

    def clips(self, split: Split) -> list[Clip]:
        return [Clip(*clip) for clip in read_clips(self.root, split, "joints_3d", (17, 3))]


def read_clips(root: Path, split: Split, array: str, shape: tuple[int, int]) -> list[tuple[str, str, str, Tensor]]:
    """The clips of a split of a prepared folder, with one of its arrays.

    Args:
        root: folder written by `scripts/prepare.py cmu_mocap`.
        split: which clips.
        array: `joints_3d`, or `rotations` (axis-angle, the first of which turns the body into a world with z up).
        shape: of one frame of the array.

    Returns:
        Name, subject, action and (F, *shape) float32 of each clip.

    Raises:
        InputError: if the folder has not been prepared, or is damaged.
    """
    manifest = _read_manifest(root)
    values = _open(root, array, shape, max(clip["stop"] for clip in manifest["clips"]))
    chosen = assign_splits([(clip["name"], clip["subject"]) for clip in manifest["clips"]])
    return [
        (
            clip["name"],
            clip["subject"],
            clip["action"],
            torch.from_numpy(np.array(values[clip["start"] : clip["stop"]])),
        )
        for clip in manifest["clips"]
        if chosen[clip["name"]] == split
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


def check_prepared(root: Path) -> None:
    """Fails early where `read_clips` would.

    Raises:
        InputError: if the folder has not been prepared.
    """
    _read_manifest(root)


def _read_manifest(root: Path) -> dict[str, Any]:
    path = root / "manifest.json"
    if not path.is_file():
        raise InputError(f"data.root: {path} does not exist; " + _PREPARE.format(root=root))
    try:
        manifest = json.loads(path.read_text())
        if not manifest["clips"]:
            raise InputError(f"{path}: lists no clips")
        for clip in manifest["clips"]:
            if clip["stop"] <= clip["start"]:
                raise InputError(f"{path}: clip {clip['name']} is empty")
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a manifest of `scripts/prepare.py cmu_mocap` ({error!r})") from error
    return manifest


def _open(root: Path, array: str, shape: tuple[int, int], frames: int) -> np.ndarray:
    path = root / f"{array}.npy"
    try:
        values = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: missing or truncated ({error}); " + _PREPARE.format(root=root)) from error
    if values.ndim != 3 or values.shape[1:] != shape or len(values) < frames:
        raise InputError(f"{path}: shape {values.shape}, expected ({frames}, {shape[0]}, {shape[1]})")
    return values
