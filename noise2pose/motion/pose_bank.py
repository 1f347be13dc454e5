"""A file of poses that bodies are put into: what motion capture and whatever draws people agree on.

A pose bank is an npz file with `poses` (P, 3 K) axis-angle of the root and the joints after it in SMPL's order, in a
world with y up where a body in the rest pose faces +z; K is 24 for SMPL, or 55 for SMPL-X with jaw, eyes and hands.
`actions`, `genders` ("male", "female" or "neutral") and `sources` (P,) say where each pose comes from.

Shape letters: P poses, K joints of the kinematic tree.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from noise2pose.errors import InputError
from noise2pose.files import write_bytes
from noise2pose.safe_pickle import read_object_npz
from noise2pose.shards import npz_bytes

JOINTS = (24, 55)  # of SMPL, and of SMPL-X
_KEYS = ("poses", "actions", "genders", "sources")


class PoseBank(NamedTuple):
    """Poses with what is known of them.

    Attributes:
        rotations: (P, K, 3) axis-angle, radians; the root's first.
        actions: P words for what is done.
        genders: P.
        sources: P different names.
    """

    rotations: Float32[np.ndarray, "P K 3"]
    actions: list[str]
    genders: list[str]
    sources: list[str]


def write_poses(path: Path, bank: PoseBank) -> None:
    """Writes a pose bank, whole or not at all; equal poses give equal bytes.

    Raises:
        InputError: if the disk is full or may not be written to.
    """
    poses = bank.rotations.reshape(len(bank.rotations), -1).astype(np.float32)
    words = {key: np.array(getattr(bank, key)) for key in _KEYS[1:]}
    write_bytes(path, npz_bytes(poses=poses, **words))


def read_poses(path: Path) -> PoseBank:
    """Reads a pose bank.

    Raises:
        InputError: if the file cannot be read, lacks a key, or holds another number of joints or values that are not
            finite.
    """
    arrays = read_object_npz(path, only=_KEYS)
    if missing := [key for key in _KEYS if key not in arrays]:
        raise InputError(f"{path}: found no {' and no '.join(missing)}, expected a file of poses")
    poses = np.asarray(arrays["poses"])
    if poses.ndim != 2 or not len(poses) or poses.shape[1] not in [3 * joints for joints in JOINTS]:
        raise InputError(f"{path}: `poses` has shape {poses.shape}, expected (poses, 72) or (poses, 165)")
    if poses.dtype.kind != "f" or not np.isfinite(poses).all():
        raise InputError(f"{path}: `poses` holds values that are not finite numbers")
    words = {key: np.asarray(arrays[key]).astype(str).tolist() for key in _KEYS[1:]}
    if short := [key for key, of in words.items() if len(of) != len(poses)]:
        raise InputError(f"{path}: `{short[0]}` has {len(words[short[0]])} entries, expected {len(poses)}")
    return PoseBank(poses.astype(np.float32).reshape(len(poses), -1, 3), **words)
