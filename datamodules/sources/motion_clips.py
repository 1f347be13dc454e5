"""Clips of motion in one npz file: 17 joints at 50 Hz with the person, source, licence and split of each clip.

Arrays of the file, with N frames and C clips:

  pos3d_rootrel_mm (N, 17, 3)        Human3.6M-17 joints relative to the first, millimetres, z up
  root_mm (N, 3)                     the first joint, millimetres
  clip_start, clip_end (C,)          rows of each clip
  clip_name, clip_subject, clip_action, clip_source, clip_licence, clip_skeleton, clip_source_fps, clip_split (C,)

Shape letters: N frames, C clips.
"""

import argparse
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

from datamodules.preparation import Part, Plan, Rows
from datamodules.sources.common.body_fitting import FITTED, with_poses
from noise2pose.errors import InputError

SUMMARY = "clips of CMU and UI-PRMD motion in one npz file, split by person"
PAGE = "http://mocap.cs.cmu.edu"
SOURCE = "NPZ"
FPS = 50
UNKNOWN_PEOPLE = ("CMUx",)  # of clips whose subject is not recorded, and may be anyone of the data set
_SPLITS = ("train", "val", "test")
_POSES = {"pos3d_rootrel_mm": (17, 3), "root_mm": (3,)}
_FACTS_OF_CLIPS = ("name", "subject", "action", "source", "licence", "skeleton", "source_fps", "split")
_CLIPS = ("clip_start", "clip_end", *(f"clip_{fact}" for fact in _FACTS_OF_CLIPS))
_JOINTS = ("pelvis", "rhip", "rknee", "rankle", "lhip", "lknee", "lankle", "spine", "thorax")  # the first of the file
DESCRIPTION = f"""Convert motion clips in one npz file to joints at {FPS} Hz; the file's split by person is kept.

  noise2pose prepare motion_clips --source motion_h36m17_50fps.npz --output data/motion
  noise2pose prepare motion_clips --source motion_h36m17_50fps.npz --only cmu --output data/motion_cmu
  noise2pose prepare motion_clips --source motion_h36m17_50fps.npz --only uiprmd --output data/motion_uiprmd

what goes in: an npz file of C clips and N frames with
  pos3d_rootrel_mm (N, 17, 3), root_mm (N, 3)    Human3.6M-17 joints, millimetres, z up, {FPS} Hz
  clip_start, clip_end (C,)                      rows of each clip
  clip_{{{",".join(_FACTS_OF_CLIPS)}}} (C,)

what comes out, in DIR, one row a frame:
  joints_world.npy   (N, 17, 3) Human3.6M-17 joints, metres, world with z up
  poses.npy          (N, 24, 3) SMPL-24 axis-angle fitted to the joints; the first turns the body (y up) into that world
  dataset.json       clips with subject, action, source, licence, skeleton and split; counts; checksum

Clips of {", ".join(UNKNOWN_PEOPLE)} are left out: their person is not recorded, and most are takes of people who are in
the file under their own number, perhaps in another split.

A folder for each source (--only) lets a training weight the sources. Skeleton `own` are measured people; `mean CMU` are
motions that were put on one figure, whose joints are 12 to 45 mm off.

licence: that of each clip, printed when it is done. CMU: {PAGE}
"""
_FACTS = {
    "fps": FPS,
    "skeletons": {"joints_world": "h36m_17", "poses": "smpl_24"},
    "axes": {
        "world": "right-handed, z up, metres",
        "joints_world": "the first joint is 8 to 10 cm above the middle of the hips",
        "poses": FITTED,
    },
}
_CREDIT = (
    "CMU: the data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from "
    "NSF EIA-0196217.\nUI-PRMD: Vakanski et al., A Data Set of Human Body Movements for Physical Rehabilitation "
    "Exercises, Data 2018, 3(1):2."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument(
        "--only", metavar="SOURCE", help="only clips whose source begins with this, such as cmu, uiprmd"
    )


def plan(source: Path, output: Path, options: argparse.Namespace) -> Plan:
    """A part for each source of clips.

    Raises:
        InputError: if the file is not what it should be, or has no clips of the wanted source.
    """
    clips = read_clips(source)
    known = ~np.isin(clips["clip_subject"], UNKNOWN_PEOPLE)
    sources = sorted(set(clips["clip_source"][known].tolist()))
    chosen = [name for name in sources if name.startswith(options.only or "")]
    if not chosen:
        raise InputError(f"--only {options.only}: {source} has clips of {', '.join(sources) or 'unknown people alone'}")
    licences = sorted(set(clips["clip_licence"][known & np.isin(clips["clip_source"], chosen)].tolist()))
    facts = _FACTS | {"left_out": f"{int((~known).sum())} clips of unknown people"}
    parts = [Part(name, read_source, (source, name), (source,)) for name in chosen]
    return Plan("motion_clips", "\n".join([*licences, _CREDIT]), facts, None, parts, [], [])


def read_source(path: Path, source: str) -> Rows:
    """The clips of one source.

    Args:
        path: of the npz file.
        source: as in `clip_source`.

    Raises:
        InputError: if the file is not what it should be.
    """
    clips = read_clips(path)
    arrays = _read(path, tuple(_POSES))
    frames = len(arrays["root_mm"])
    for name, shape in _POSES.items():
        if arrays[name].shape != (frames, *shape):
            raise InputError(f"{path}: {name} is {arrays[name].shape}, expected {(frames, *shape)}")
    known = ~np.isin(clips["clip_subject"], UNKNOWN_PEOPLE)
    chosen = np.flatnonzero(known & (clips["clip_source"] == source))
    starts, ends = clips["clip_start"][chosen], clips["clip_end"][chosen]
    wrong = np.flatnonzero((starts < 0) | (ends <= starts) | (ends > frames))
    if len(wrong):
        clip = clips["clip_name"][chosen[wrong[0]]]
        raise InputError(f"{path}: clip {clip} has rows {starts[wrong[0]]} to {ends[wrong[0]]} of {frames}")
    rows = np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])
    relative, root = (arrays[name][rows].astype(np.float32) for name in _POSES)
    joints = (relative + root[:, None]) / 1000.0
    if not np.isfinite(joints).all():
        raise InputError(f"{path}: joints of {source} have NaN or infinity")
    facts = [{fact: clips[f"clip_{fact}"][clip].item() for fact in _FACTS_OF_CLIPS} for clip in chosen]
    counts = Counter({"clips": len(chosen)})
    for about, start, end in zip(facts, starts, ends, strict=True):
        counts[f"{about['split']}: clips"] += 1
        counts[f"{about['split']}: frames"] += int(end - start)
    rows_of_source = Rows(
        arrays={"joints_world": joints, "frame": np.concatenate([np.arange(n) for n in ends - starts])},
        sequences=facts,
        of=np.repeat(np.arange(len(chosen)), ends - starts),
        images=[],
        counts=dict(counts),
        skipped=[],
    )
    return with_poses(rows_of_source)


def read_clips(path: Path) -> dict[str, np.ndarray]:
    """What the file says of its clips, an array (C,) each.

    Raises:
        InputError: if it is no such file, its joints are others, or two clips have the same name.
    """
    clips = _read(path, _CLIPS)
    number = len(clips["clip_name"])
    for name, values in clips.items():
        if values.shape != (number,):
            raise InputError(f"{path}: {name} is {values.shape}, expected {(number,)} as clip_name")
    names = Counter(clips["clip_name"].tolist())
    if twice := [name for name, times in names.items() if times > 1]:
        raise InputError(f"{path}: {len(twice)} clips have the same name as another, such as {twice[0]}")
    if wrong := sorted(set(clips["clip_split"].tolist()) - set(_SPLITS)):
        raise InputError(f"{path}: clip_split has {wrong[0]!r}, expected {', '.join(_SPLITS)}")
    return clips


def _read(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            missing = [name for name in names if name not in file]
            arrays = {name: file[name] for name in names if name in file}
            joints = tuple(file["joint_names"][: len(_JOINTS)].tolist()) if "joint_names" in file else _JOINTS
            fps = float(file["fps"]) if "fps" in file else FPS
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: is no npz file of arrays ({error})".splitlines()[0]) from error
    if missing:
        raise InputError(
            f"{path}: has no {', '.join(missing)}; `noise2pose prepare motion_clips --help` lists the arrays"
        )
    if joints != _JOINTS or fps != FPS:
        raise InputError(
            f"{path}: joints {', '.join(joints[:3])} at {fps:g} Hz, expected {', '.join(_JOINTS[:3])} at {FPS}"
        )
    return arrays
