"""What all layouts of Human3.6M have in common: subjects, names of actions, joints, and rows of sequences.

Shape letters: N rows, J joints, C coordinates.
"""

from typing import Any

import numpy as np

from datamodules.preparation import Expected, Rows
from datamodules.sources.human36m.cameras import CAMERAS
from noise2pose.cameras import Intrinsics
from noise2pose.skeletons import conversion_matrix

DATASET = "human36m"
SKELETON = "h36m_17"
FPS = 50
SPLITS = {"S1": "train", "S5": "train", "S6": "train", "S7": "train", "S8": "train", "S9": "test", "S11": "test"}
JOINTS_OF_32 = tuple(conversion_matrix("h36m_32", SKELETON).argmax(dim=1).tolist())
ANNOTATED = "{}: annotated frames"  # of all cameras, before any stride
EXPECTED = [Expected(ANNOTATED.format("train"), 1_559_752), Expected(ANNOTATED.format("test"), 543_344)]
LEFT_OUT = "S11 Directions (the first of two): its recordings are incomplete, and papers leave it out"
_RENAMED = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}


def unify_action(name: str) -> str:
    """The name of an action in every file: "TakingPhoto_1" is "Photo 1"."""
    first, _, rest = name.replace("_", " ").strip().partition(" ")
    return f"{_RENAMED.get(first, first)} {rest}".strip()


def is_left_out(subject: str, action: str) -> bool:
    """Whether papers leave out an action, given by its unified name; see `LEFT_OUT`."""
    return subject == "S11" and action == "Directions"


def sequence_facts(subject: str, action: str, camera: str) -> dict[str, Any]:
    """Name, split and action; the action is the first word, which the published averages are taken over."""
    return {
        "name": f"{subject}_{action.replace(' ', '_')}_{camera}",
        "split": SPLITS[subject],
        "subject": subject,
        "action": action.split(" ")[0],
        "take": action,
        "camera": camera,
        "fps": FPS,
    }


def sort_actions(actions: list[str]) -> list[str]:
    """By name, "Walking" before "Walking 1" before "WalkingDog"."""
    return sorted(actions, key=lambda action: action.split(" "))


def sort_subjects(subjects: list[str]) -> list[str]:
    """By number."""
    return sorted(subjects, key=lambda subject: int(subject[1:]))


def sequence_rows(
    facts: dict[str, Any],
    arrays: dict[str, np.ndarray],
    where: str,
    annotated: int,
    images: list[str] | None = None,
    counts: dict[str, int] | None = None,
    skipped: list[tuple[str, str]] | None = None,
) -> Rows:
    """A sequence without the rows that have no joint, which are named.

    Args:
        facts: of `sequence_facts`.
        arrays: columns; `keypoints_3d` among them.
        where: file, or file and key, that joints come from.
        annotated: frames of the sequence before any stride.
        images: names that `arrays["picture"]` counts.
        counts: further ones.
        skipped: what else is wrong.
    """
    skipped = list(skipped or [])
    valid = arrays["keypoints_3d"][..., 3] > 0
    lost, empty = int((~valid).sum()), ~valid.any(axis=1)
    if lost:
        first = int(arrays["frame"][np.flatnonzero(~valid.all(axis=1))[0]])
        skipped.append((where, f"{lost} joints are not finite, the first in frame {first}: not valid there"))
    if empty.any():
        first = int(arrays["frame"][np.flatnonzero(empty)[0]])
        skipped.append((where, f"{int(empty.sum())} frames without any joint, the first is {first}: left out"))
        arrays = {name: array[~empty] for name, array in arrays.items()}
    split = facts["split"]
    total = {ANNOTATED.format(split): annotated, f"{split}: frames": int((~empty).sum()), **(counts or {})}
    if lost:
        total["joints that are not finite"] = lost
    return Rows(arrays, [facts], np.zeros(len(arrays["frame"]), np.int32), images or [], total, skipped)


def intrinsics_facts(cameras: dict[str, Intrinsics]) -> dict[str, Any]:
    """Intrinsics with their distortion, for the manifest."""
    keys = ("focal", "principal_point", "radial", "tangential", "size")
    return {name: {key: getattr(cameras[name], key) for key in keys} for name in CAMERAS}
