"""AMASS (Mahmood et al., ICCV 2019): where its files are, and what is in them.

Below a folder for each data set and subject there is one npz file a motion. The SMPL+H files are called `*_poses.npz`
and hold `poses` (F, 156) and `mocap_framerate`; the SMPL-X files are called `*_stageii.npz` and hold `poses` (F, 165)
and `mocap_frame_rate`. Both are axis-angle, first the root in a world with z up, then 21 joints that SMPL has too.
`shape.npz` and `*_stagei.npz` are of a subject and have no motion.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.preparation import Part, Plan, Rows
from datamodules.sources.cmu_mocap.frame_rates import FRAME_RATES, frame_rate
from noise2pose.errors import InputError
from noise2pose.safe_pickle import read_object_npz

SUMMARY = "AMASS: poses of motion capture, for priors and codebooks"
PAGE = "https://amass.is.tue.mpg.de"
DESCRIPTION = f"""AMASS: poses of many motion capture data sets as one body model, for priors and codebooks of poses.

  noise2pose prepare amass --source AMASS --output data/amass

what goes in: a folder with the unpacked archives of one or more data sets, SMPL+H G or SMPL-X, at any depth:
  .../ACCAD/Female1General_c3d/A1_-_Stand_poses.npz
  .../HumanEva/S1/Box_1_stageii.npz
Take one of the two kinds, or poses come twice.

what comes out: one row for each pose that is kept: every so many frames that there are about --fps a second, of the
middle 80 % of each motion (at its ends many people stand in the pose that the markers are calibrated in). The rotations
of SMPL's joints alone: hands in the rest pose, no shape, no place in the room.

split, as VPoser's: HumanEva, HDM05, SFU and MoSh are for validation, Transitions and SSM for test, all others for
training; subjects of CMU whose number ends in 2 are for test, as in this project's own conversion of CMU.

licence: non-commercial research; each data set has its own terms too. Ask for the data at {PAGE}
"""
_LICENCE = (
    f"AMASS (Mahmood et al., ICCV 2019): non-commercial research, no redistribution; {PAGE}; the "
    "data sets in it ask for a citation each"
)
_ROTATIONS = 22  # root and 21 joints that SMPL, SMPL-H and SMPL-X share
_MARGIN = 0.1  # of a motion, at each end
_RATES = ("mocap_framerate", "mocap_frame_rate")
# Names of the archives, old and new, without case and signs.
_SPLITS = {
    "val": ("humaneva", "mpihdm05", "hdm05", "sfu", "mpimosh", "mosh"),
    "test": ("transitionsmocap", "transitions", "ssmsynced", "ssm"),
    "train": (
        *("accad", "bmlhandball", "bmlmovi", "bmlrub", "biomotionlabntroje", "cmu", "cnrs", "dancedb", "dfaust"),
        *("dfaust67", "ekut", "eyesjapandataset", "grab", "human4d", "kit", "mpilimits", "poseprior", "soma"),
        *("tcdhands", "tcdhandmocap", "totalcapture", "weizmann"),
    ),
}
_SPLIT_OF = {name: split for split, names in _SPLITS.items() for name in names}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument("--fps", type=float, default=10.0, help="poses kept of a second (default: %(default)s)")


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """A part for each motion.

    Raises:
        InputError: if this is not AMASS, or the rate is impossible.
    """
    if not 0.0 < options.fps < float("inf"):
        raise InputError(f"--fps is {options.fps}, expected more than 0")
    parts = []
    for path in sorted(source.rglob("*.npz")):
        if not path.name.endswith(("_poses.npz", "_stageii.npz")) or output in path.parents:
            continue
        name = path.relative_to(source).as_posix()
        unlike_others = f"{path.stem}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        parts.append(Part(unlike_others, read_motion, (path, name, options.fps), (path,)))
    if not parts:
        raise InputError(f"{source} is not AMASS: found no *_poses.npz and no *_stageii.npz in it")
    facts = {
        "fps": options.fps,
        "margin": f"the first and the last {_MARGIN:.0%} of each motion are left out",
        "axes": "poses: the root's turns the body (y up, facing +z) into a world with z up; there is no camera",
        "skeletons": {"poses": "smpl_24"},
    }
    return Plan("amass", _LICENCE, facts, None, parts, [], [])


def read_motion(path: Path, name: str, fps: float) -> Rows:
    """Reads one motion.

    Args:
        path: its file.
        name: the same relative to the source.
        fps: poses to keep of a second.

    Raises:
        InputError: if the file cannot be read, or is no motion.
    """
    arrays = read_object_npz(path, only=("poses", *_RATES))
    if "poses" not in arrays:
        raise InputError(f"{name}: has no `poses`")
    poses = np.asarray(arrays["poses"])
    if poses.ndim != 2 or poses.shape[1] % 3 or poses.shape[1] < 3 * _ROTATIONS or poses.dtype.kind != "f":
        raise InputError(f"{name}: `poses` is {poses.shape} of {poses.dtype}, expected (frames, 156) or (frames, 165)")
    dataset, subject = _dataset(name), Path(name).parent.name
    action = Path(name).stem.removesuffix("_poses").removesuffix("_stageii")
    rate = _rate(arrays, name)
    if _plain(dataset) == "cmu" and _RATES[1] in arrays and {subject, action} & FRAME_RATES.keys():
        rate = frame_rate(subject, action)  # the SMPL-X files have 120 for all of CMU
    frames = np.arange(int(_MARGIN * len(poses)), len(poses) - int(_MARGIN * len(poses)), max(1, round(rate / fps)))
    kept = poses[frames, : 3 * _ROTATIONS]
    whole = np.isfinite(kept).all(axis=1)
    frames, kept = frames[whole], kept[whole]
    rotations = np.zeros((len(frames), 24, 3), dtype=np.float32)
    rotations[:, :_ROTATIONS] = kept.reshape(-1, _ROTATIONS, 3)
    split = _SPLIT_OF.get(_plain(dataset), "train")
    if _plain(dataset) == "cmu" and subject.endswith("2"):
        split = "test"
    sequence = {"name": name, "split": split, "dataset": dataset, "subject": subject, "action": action, "rate": rate}
    skipped = [] if whole.all() else [(name, f"{int((~whole).sum())} poses have NaN or infinity: they are left out")]
    counts = {f"{split}: motions": 1, f"{split}: poses": len(frames)}
    return Rows(
        {"frame": frames, "poses": rotations},
        [sequence],
        np.zeros(len(frames), dtype=np.int32),
        [],
        counts,
        skipped,
    )


def _rate(arrays: dict[str, Any], name: str) -> float:
    """Frames per second."""
    try:
        rate = float(next(arrays[key] for key in _RATES if key in arrays))
    except (StopIteration, TypeError, ValueError):
        rate = 0.0
    if not (np.isfinite(rate) and rate > 0.0):
        raise InputError(f"{name}: `mocap_framerate` is missing, or no number above 0")
    return rate


def _dataset(name: str) -> str:
    """The folder whose name is that of one of AMASS's data sets, the innermost; else the first."""
    folders = name.split("/")[:-1]
    known = [folder for folder in folders if _plain(folder) in _SPLIT_OF]
    return (known or folders or ["unknown"])[-1 if known else 0]


def _plain(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())
