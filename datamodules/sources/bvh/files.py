"""Folders and archives of BVH files, and what is read of each.

Shape letters: F frames.
"""

import argparse
import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from datamodules.preparation import Part, Plan, Rows
from datamodules.sources.bvh import PAGE, skeletons
from datamodules.sources.bvh.format import parse
from datamodules.sources.bvh.person import UNITS, joints_of_motion
from datamodules.sources.cmu_mocap.frame_rates import MAX_FALL, fastest_fall, frame_rate, plain_number, stated_rates
from datamodules.sources.common.archives import file_names, read_file
from datamodules.sources.common.body_fitting import FITTED, with_poses
from datamodules.sources.common.motion import FPS, MAX_SPEED, cut_clip
from noise2pose.errors import InputError

DESCRIPTION = f"""Convert BVH files to joints at {FPS} Hz.

  noise2pose prepare bvh --source FOLDER_OR_ZIP --output data/bvh
  noise2pose prepare bvh --source FOLDER --joint_map map.json --unit cm --up y --output data/bvh

what goes in: folders or archives of .bvh files at any depth ({PAGE}).

skeletons that are recognised by the names of their joints: {", ".join(skeletons.FAMILIES)}
(motionbuilder: Mixamo, LAFAN1, ACCAD, SFU, Truebones and others). For any other give a JSON object of the joints of
Human3.6M-17 and the names in the files, NAME.end for the End Site of NAME; only head_top may be left out:
  {{"pelvis": "Hips", "right_hip": "RThigh", "right_knee": "RShin", ..., "head_top": "Head.end"}}

what comes out, in DIR, one row a frame:
  joints_world.npy   (N, 17, 3) Human3.6M-17 joints, metres, world with z up
  poses.npy          (N, 24, 3) SMPL-24 axis-angle fitted to the joints; the first turns the body (y up) into that world
  dataset.json       clips with subject, action, skeleton, unit and up axis of their files, what was left out and why

A BVH file says neither its unit nor which way is up. The unit is that in which the legs are as long as a person's
({", ".join(UNITS)}), up is where the head is above the feet; --unit and --up say otherwise. Files whose knees bend
backwards have exchanged sides and are refused. A first frame from which all joints jump, the T-pose that some exporters
add, is left out, and so are frames in which a joint is faster than {MAX_SPEED:.0f} m/s.

subject: what the name says (CMU's NN_MM, subjectN), else the folder of the file. CMU: headers lie about the frame rate
of some subjects, so the rates of `prepare cmu_mocap` are used; a body that falls faster than anything can is named. The
common conversion lost the thorax bone, which is put back.

licence: that of the files, which you know; write it beside the data with --licence.
"""
_AXES = {
    "world": "right-handed, z up, metres",
    "joints_world": "joints of the file's own skeleton; where its hips, shoulders and head lie differs",
    "poses": FITTED,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument("--joint_map", type=Path, metavar="FILE.json", help="which joint is which, see above")
    parser.add_argument("--unit", choices=list(UNITS), help="of lengths (default: told from the legs)")
    parser.add_argument("--up", choices=["x", "y", "z"], help="axis (default: told from head and feet)")
    parser.add_argument(
        "--source_fps",
        metavar="RATES",
        help="one number for all, or of subjects and clips as in `prepare cmu_mocap` (default: what the files say)",
    )
    parser.add_argument(
        "--licence", default="not stated", metavar="TEXT", help="terms of the files (default: %(default)s)"
    )


def plan(sources: list[Path], output: Path, options: argparse.Namespace) -> Plan:
    """A part for each file.

    Raises:
        InputError: if there are no files, the joint map is wrong or the frame rate is impossible.
    """
    joint_map = skeletons.read_map(options.joint_map) if options.joint_map else None
    found: dict[str, tuple[Path, str]] = {}
    for source in sources:
        for file in file_names(source):
            if not file.casefold().endswith(".bvh") or PurePosixPath(file).name.startswith("._"):
                continue
            name = file[: -len(".bvh")]
            if name in found:
                raise InputError(f"--source: {file} is in {found[name][0]} and in {source}")
            found[name] = (source, file)
    if not found:
        raise InputError(f"--source: found no .bvh files in {', '.join(map(str, sources))}")
    stated = stated_rates(options.source_fps)
    used, parts = {""}, []
    for name, (source, file) in sorted(found.items()):
        clip, subject = PurePosixPath(name).name, subject_of(name)
        key = next((key for key in (plain_number(clip), plain_number(subject), "") if key in stated), "")
        used.add(key)
        unlike_others = f"{clip}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        arguments = (source, file, subject, stated.get(key), joint_map, options.unit, options.up)
        parts.append(Part(unlike_others, read_clip, arguments, (source if source.is_file() else source / file,)))
    if missing := sorted(stated.keys() - used):
        raise InputError(f"--source_fps: {', '.join(missing)} is neither a subject nor a clip of the source")
    facts = {"fps": FPS, "skeletons": {"joints_world": "h36m_17", "poses": "smpl_24"}, "axes": _AXES}
    return Plan("bvh", f"licence of the BVH files: {options.licence}", facts, None, parts, [], [])


def subject_of(name: str) -> str:
    """Who moves: of `02_01` 02, of `walk1_subject5` subject5, else the folder of the file, `unknown` without one."""
    path = PurePosixPath(name)
    if match := re.search(r"subject_?\d+", path.name, re.IGNORECASE):
        return match[0].lower()
    if match := re.fullmatch(r"(\d+)_\d+", path.name):
        return match[1]
    return path.parent.name or "unknown"


def read_clip(
    source: Path,
    file: str,
    subject: str,
    stated_fps: float | None,
    joint_map: dict[str, str] | None,
    unit: str | None,
    up: str | None,
) -> Rows:
    """One file.

    Args:
        source: archive or folder.
        file: name in it.
        subject: who moves.
        stated_fps: frame rate of the user; None for the file's.
        joint_map, unit, up: see `joints_of_motion`.

    Raises:
        InputError: if the file is malformed or cannot be mapped, or too little of it can be used.
    """
    content = read_file(source, file)
    motion = parse(content.decode("utf-8", errors="replace"), file)
    clip = PurePosixPath(file).stem
    fps = stated_fps or _rate(motion.fps, subject, clip)
    person = joints_of_motion(motion, file, fps, joint_map, unit, up)
    about: dict[str, Any] = {
        "subject": subject,
        "action": re.sub(r"[\W\d_]+", " ", re.sub(r"subject_?\d+", "", clip, flags=re.IGNORECASE)).strip()
        or "unlisted",
        "source_sha256": hashlib.sha256(content).hexdigest(),
        **person.facts,
    }
    joints = person.joints.astype(np.float32)
    rows = with_poses(cut_clip(file[: -len(".bvh")], {"joints_world": joints}, about, file))
    for number, sequence in enumerate(rows.sequences):
        fall = fastest_fall(rows.arrays["joints_world"][rows.of == number], FPS)
        if fall > MAX_FALL:
            sequence["warning"] = (
                f"the body falls with {fall:.0f} m/s^2, and gravity is 9.8: its frame rate is lower than {fps:g}; "
                "prepare again with --source_fps"
            )
    return rows._replace(counts={"clips": 1, f"clips of {person.facts['skeleton']}": 1, **rows.counts})


def _rate(header: float, subject: str, clip: str) -> float:
    """What the file says, except where CMU's are known to be wrong."""
    is_cmu = re.fullmatch(r"\d+_\d+", clip) is not None and abs(header - 120.0) < 1.0
    return frame_rate(subject, clip) if is_cmu else header
