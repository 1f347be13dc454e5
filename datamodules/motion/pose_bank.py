"""Collects poses of any motion into a pose bank (`noise2pose.motion.pose_bank`), from which people are drawn."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import roma
import torch

from datamodules.motion import activities
from datamodules.motion_capture import clips_of_people, open_motion, publisher_of
from datamodules.rendered.people import UPRIGHT
from noise2pose.errors import InputError
from noise2pose.motion.pose_bank import PoseBank
from noise2pose.safe_pickle import read_object_npz

_FRAMES, _STRIDE = 100, 10  # of a synthetic clip
_SMPLH, _SMPLX = 52, 55
_HANDS = 30  # joints, which come last in both
_BODY = 22  # root and joints that the models share
_MARGIN = 0.1  # at each end of a motion of AMASS, where many people stand in the pose of the markers' calibration


def synthetic(number: int) -> PoseBank:
    """Poses of made-up activities, as many clips of each as are needed; they need no file.

    Args:
        number: of poses.
    """
    kinds = list(activities.ACTIVITIES)
    each = -(-number // (len(kinds) * (_FRAMES // _STRIDE)))
    clips = [
        (kind, f"{kind}_{clip:05d}", activities.generate(kind, _FRAMES, seed=activities.FIRST_SEED["train"] + clip))
        for clip in range(each)
        for kind in kinds
    ]
    rotations = np.concatenate([motion.rotations[::_STRIDE] for _, _, motion in clips]).astype(np.float32)
    names = [(kind, f"{name}_{frame:03d}") for kind, name, _ in clips for frame in range(0, _FRAMES, _STRIDE)]
    bank = PoseBank(rotations, [kind for kind, _ in names], ["neutral"] * len(names), [name for _, name in names])
    return thinned(bank, number)


def of_motion(roots: Sequence[Path], number: int) -> PoseBank:
    """Poses of prepared folders, of the people who are for training in every data module of these folders.

    Args:
        roots: folders written by `noise2pose prepare`, with body rotations.
        number: poses at most, evenly from all folders together.

    Raises:
        InputError: if a folder has not been prepared or is damaged, or none has anybody for training.
    """
    banks = []
    for root in roots:
        folder = open_motion(root)
        publisher = publisher_of(folder)
        for name, _, action, rotvecs in clips_of_people(folder, "train", "poses"):
            banks.append(_bank(rotvecs.numpy(), action, "neutral", f"{publisher}_{name}", np.arange(len(rotvecs))))
    if not banks:
        raise InputError(f"{', '.join(map(str, roots))}: no clips for training, expected folders of prepared motion")
    return thinned(_joined(banks), number)


def of_amass(paths: Sequence[Path], number: int) -> PoseBank:
    """Poses of AMASS's npz files, with hands, and of SMPL-X with jaw and eyes.

    Args:
        paths: files, or folders in which they are at any depth.
        number: poses at most, evenly from all files together.

    Raises:
        InputError: if there is no such file, or one has no poses of SMPL-H or SMPL-X.
    """
    banks = [_amass(path, path.relative_to(root).as_posix()) for root, path in _amass_files(paths)]
    if not banks:
        raise InputError(f"{', '.join(map(str, paths))}: found no npz file of AMASS (*_poses.npz, *_stageii.npz)")
    return thinned(_joined(banks), number)


def thinned(bank: PoseBank, number: int) -> PoseBank:
    """So many of the poses at equal distances, or all if there are fewer."""
    total = len(bank.rotations)
    chosen = np.arange(min(number, total)) * total // min(number, total)
    words = ([words[index] for index in chosen.tolist()] for words in bank[1:])
    return PoseBank(bank.rotations[chosen], *words)


def _amass_files(paths: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    for path in paths:
        if path.is_file():
            yield path.parent, path
        elif path.is_dir():
            for file in sorted(path.rglob("*.npz")):
                if file.name.endswith(("_poses.npz", "_stageii.npz")):
                    yield path, file
        else:
            raise InputError(f"{path} does not exist, expected an npz file of AMASS or a folder of them")


def _amass(path: Path, name: str) -> PoseBank:
    """The poses of one motion, without its ends."""
    arrays = read_object_npz(path, only=("poses", "gender"))
    poses = np.asarray(arrays.get("poses"))
    if poses.ndim != 2 or poses.shape[1] not in (3 * _SMPLH, 3 * _SMPLX) or poses.dtype.kind != "f":
        raise InputError(f"{path}: `poses` has shape {poses.shape}, expected (frames, 156) or (frames, 165)")
    margin = int(_MARGIN * len(poses))
    frames = np.arange(margin, len(poses) - margin)
    frames = frames[np.isfinite(poses[frames]).all(axis=1)]
    given = poses[frames].reshape(len(frames), -1, 3).astype(np.float32)
    rotvecs = np.zeros((len(frames), _SMPLX, 3), dtype=np.float32)
    rotvecs[:, -_HANDS:] = given[:, -_HANDS:]
    body = _BODY if given.shape[1] == _SMPLH else _SMPLX - _HANDS
    rotvecs[:, :body] = given[:, :body]
    gender = str(np.asarray(arrays.get("gender", "neutral"))).removeprefix("b'").removesuffix("'")
    action = Path(name).stem.removesuffix("_poses").removesuffix("_stageii")
    return _bank(rotvecs, action, gender if gender in ("male", "female") else "neutral", name, frames)


def _bank(rotvecs: np.ndarray, action: str, gender: str, name: str, frames: np.ndarray) -> PoseBank:
    """A clip of a world with z up."""
    number = len(rotvecs)
    upright = rotvecs.astype(np.float32)
    root = roma.rotvec_to_rotmat(torch.from_numpy(upright[:, 0]))
    upright[:, 0] = roma.rotmat_to_rotvec(UPRIGHT @ root).numpy()
    return PoseBank(upright, [action] * number, [gender] * number, [f"{name}_{frame:06d}" for frame in frames.tolist()])


def _joined(banks: Sequence[PoseBank]) -> PoseBank:
    words = ([word for bank in banks for word in bank[column]] for column in (1, 2, 3))
    return PoseBank(np.concatenate([bank.rotations for bank in banks]), *words)
