"""The CMU motion capture database as it is published: its archive, its clips, and what is read of each.

Shape letters: F frames, J joints.
"""

import argparse
import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from datamodules.preparation import Part, Plan, Rows
from datamodules.sources.cmu_mocap import DOWNLOAD, PAGE
from datamodules.sources.cmu_mocap.asf_amc import parse_amc, parse_asf
from datamodules.sources.cmu_mocap.frame_rates import FRAME_RATE, MAX_FALL, fastest_fall, frame_rates, stated_rates
from datamodules.sources.cmu_mocap.retarget import retarget
from datamodules.sources.common.archives import file_names, read_file
from datamodules.sources.common.motion import FPS, MAX_SPEED, cut_clip
from noise2pose.errors import InputError

LICENCE = f"""CMU Graphics Lab Motion Capture Database, {PAGE}
This data is free for use in research projects. You may include this data in commercially-sold products, but you may not
resell this data directly, even in converted form. The data used in this project was obtained from mocap.cs.cmu.edu. The
database was created with funding from NSF EIA-0196217."""
DESCRIPTION = f"""Convert the CMU motion capture database from ASF/AMC to joints and body rotations at {FPS} Hz.

  noise2pose prepare cmu_mocap --source allasfamc.zip --output data/cmu_mocap
  noise2pose prepare cmu_mocap --source 01-03.zip more_subjects.zip --output data/cmu_mocap
  noise2pose prepare cmu_mocap --download --output data/cmu_mocap      (fetches the archive first, about 1 GB)

what goes in: the official archive ({DOWNLOAD}), the same unpacked, or any archives and
folders of NN/NN.asf with NN/NN_MM.amc. Each clip is in one of them.

what comes out, in DIR, one row a frame:
  joints_world.npy       (N, 17, 3) Human3.6M-17 joints, metres, world with z up
  poses.npy              (N, 24, 3) SMPL-24 axis-angle; the first turns the body (y up, facing +z) into that world
  translation_world.npy  (N, 3) the body's pelvis, metres
  dataset.json           clips and their rows, counts, checksums, licence, what was left out and why

Where a joint is faster than {MAX_SPEED:.0f} m/s the tracking is wrong: those frames are cut, and the rest of the
clip becomes segments such as 01_06#0 and 01_06#1. Malformed files are named with the line and left out.

An AMC file does not say its frame rate: it is 120, or 60 for the subjects and clips that are known to have that. Where
a body falls faster than anything can, the rate must be wrong: such clips are named.

licence:
{LICENCE}
"""
_FACTS = {
    "fps": FPS,
    "skeletons": {"joints_world": "h36m_17", "poses": "smpl_24"},
    "axes": {
        "world": "right-handed, z up, ground near 0, metres",
        "joints_world": "the first joint is the root of the CMU skeleton, about 11 cm above the hips",
        "poses": "relative to the parent joint; the first turns the body (T-pose, y up, facing +z) into the world",
        "translation_world": "pelvis joint of the mean free body, whose hips are where those of the mocap are",
    },
}
# What the site's index calls the clips; the archive itself has no names.
ACTIONS = {
    **{f"01_{number:02d}": "playground climb" for number in (2, 4, 5, 7, 8, 10, 11, 12, 13, 14)},
    "01_01": "forward jumps, turn",
    "01_03": "climb, hang, swing",
    "01_06": "climb, sit, dangle legs",
    "01_09": "climb, hang, swing",
    "02_01": "walk",
    "02_02": "walk",
    "02_03": "run/jog",
    "02_04": "jump, balance",
    "02_05": "punch/strike",
    "02_06": "bend, scoop, lift",
    "02_07": "swordplay",
    "02_08": "swordplay",
    "02_09": "swordplay",
    "02_10": "wash self",
    **{f"03_{number:02d}": "walk uneven terrain" for number in (1, 2, 3, 4)},
}


class MotionFiles(NamedTuple):
    """The files of one clip.

    Attributes:
        name: for example "01_05".
        subject: for example "01".
        skeleton: name of the ASF file within the source, None if it is missing.
        motion: name of the AMC file within the source.
    """

    name: str
    subject: str
    skeleton: str | None
    motion: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument(
        "--source_fps",
        metavar="RATES",
        help="frame rate of the AMC files: one number for all, or of subjects and clips: 60=60,90_08=60 (default: 120, "
        "and 60 for those known to have that)",
    )


def plan(sources: list[Path], output: Path, options: argparse.Namespace) -> Plan:
    """A part for each clip, in the order of their names.

    Raises:
        InputError: if a source is no archive and no folder of motions, two hold the same clip, or the frame rate is
            impossible.
    """
    stated = stated_rates(options.source_fps)
    found: dict[str, tuple[Path, MotionFiles]] = {}
    for source in sources:
        for motion in list_motions(source):
            if motion.name in found:
                raise InputError(f"--source: clip {motion.name} is in {found[motion.name][0]} and in {source}")
            found[motion.name] = (source, motion)
    motions = [found[name] for name in sorted(found)]
    rates = frame_rates(stated, [(motion.subject, motion.name) for _, motion in motions])
    parts = []
    for source, motion in motions:
        names = (motion.skeleton, motion.motion)
        files = tuple(source / name for name in names if name) if source.is_dir() else (source,)
        parts.append(Part(motion.name, read_clip, (source, motion, rates[motion.name]), files))
    return Plan("cmu_mocap", LICENCE, _FACTS, None, parts, [], [])


def read_clip(source: Path, files: MotionFiles, source_fps: float) -> Rows:
    """One clip, cut into segments where its tracking fails.

    Args:
        source: archive or folder.
        files: of the clip.
        source_fps: frame rate of the clip.

    Raises:
        InputError: if the clip is malformed, or too little of it can be used.
    """
    if files.skeleton is None:
        raise InputError(f"{files.motion}: its skeleton {files.subject}.asf is missing")
    skeleton = parse_asf(read_file(source, files.skeleton).decode("latin-1"), files.skeleton)
    content = read_file(source, files.motion)
    motion = parse_amc(content.decode("latin-1"), skeleton, files.motion)
    with np.errstate(over="ignore", invalid="ignore"):
        joints, rotations, translation = (
            values.astype(np.float32) for values in retarget(skeleton, motion, source_fps, FPS)
        )
    arrays = {"joints_world": joints, "poses": rotations, "translation_world": translation}
    if not all(np.isfinite(values).all() for values in arrays.values()):
        raise InputError(f"{files.motion}: its numbers are too large for a person's motion")
    about: dict[str, Any] = {
        "subject": files.subject,
        "action": ACTIONS.get(files.name, "unlisted"),
        "source_fps": source_fps,
        "source_frames": len(motion["root"]),
        "source_sha256": hashlib.sha256(content).hexdigest(),
    }
    rows = cut_clip(files.name, arrays, about, files.motion)
    for sequence, number in zip(rows.sequences, range(len(rows.sequences)), strict=True):
        sequence |= _doubt(fastest_fall(rows.arrays["joints_world"][rows.of == number], FPS), files)
    other_rate = {} if source_fps == FRAME_RATE else {f"clips at {source_fps:g} frames a second": 1}
    return rows._replace(counts={"clips": 1, **other_rate, **rows.counts})


def _doubt(fall: float, files: MotionFiles) -> dict[str, str]:
    if fall <= MAX_FALL:
        return {}
    return {
        "warning": f"the body falls with {fall:.0f} m/s^2, and gravity is 9.8: its frame rate is lower than assumed; "
        f"prepare again with --source_fps {files.subject}=60, or {files.name}=60"
    }


def list_motions(source: Path) -> list[MotionFiles]:
    """Every clip, by name.

    Args:
        source: the official archive, the same unpacked, or any folder of NN/NN.asf with NN/NN_MM.amc.

    Raises:
        InputError: if it does not exist, is a damaged archive, holds no motions, or two of the same name.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist; expected the archive {DOWNLOAD}, or a folder of its files")
    return _motions(file_names(source), source)


def _motions(names: list[str], path: Path) -> list[MotionFiles]:
    present, found = set(names), {}
    for name in sorted(names):
        match = re.search(r"(?:^|/)(\d+)_(\d+)\.amc$", name)
        if match is None:
            continue
        subject, clip = match[1], f"{match[1]}_{match[2]}"
        if clip in found:
            raise InputError(f"{path}: holds clip {clip} twice, as {found[clip].motion} and {name}")
        skeleton = PurePosixPath(name).with_name(f"{subject}.asf").as_posix()
        found[clip] = MotionFiles(clip, subject, skeleton if skeleton in present else None, name)
    if not found:
        raise InputError(f"{path}: holds no motions, expected files like 01/01.asf and 01/01_01.amc")
    return [found[clip] for clip in sorted(found)]
