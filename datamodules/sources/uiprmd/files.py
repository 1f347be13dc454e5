"""UI-PRMD as it is published: text files of one repetition each, and what is read of them."""

import argparse
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.preparation import Part, Plan, Rows, concatenate
from datamodules.sources.common.archives import file_names, read_file
from datamodules.sources.common.body_fitting import FITTED, with_poses
from datamodules.sources.common.motion import FPS, cut_clip
from datamodules.sources.uiprmd import PAGE, kinect
from datamodules.sources.uiprmd.markers import MARKERS, joints_of_markers
from noise2pose.errors import InputError

EXERCISES = (
    *("deep squat", "hurdle step", "inline lunge", "side lunge", "sit to stand", "standing active straight leg raise"),
    *("standing shoulder abduction", "standing shoulder extension", "standing shoulder internal-external rotation"),
    "standing shoulder scaption",
)
SPLITS = {"s04": "val", "s08": "test", "s09": "test"}  # by person; all others are for training
MAX_ERROR = 0.1  # metres; repetitions of which the two skeletons are further apart are not of the same moments
LICENCE = f"""UI-PRMD, {PAGE}
Open Data Commons Public Domain Dedication and License 1.0. Please cite Vakanski, Jun, Paul and Baker, A Data Set of
Human Body Movements for Physical Rehabilitation Exercises, Data 2018, 3(1):2."""
DESCRIPTION = f"""Convert UI-PRMD's markers to joints at {FPS} Hz, or its Kinect and Vicon files to pairs at 30 Hz.

  noise2pose prepare uiprmd --source "Segmented Movements.zip" "Incorrect Segmented Movements.zip" --output data/uiprmd
  noise2pose prepare uiprmd --kinect --source FOLDER --output data/uiprmd_kinect

what goes in: the archives of segmented movements from {PAGE}
(free, no registration; if the page is down, its authors' address is in the paper), or one folder in which they are
unpacked. Files are found by their names: .../Vicon/Positions/m01_s01_e01_positions.txt (39 Plug-in Gait markers,
mm, 100 Hz), .../Kinect/Positions/ and .../Kinect/Angles/ (22 joints, cm and degrees, 30 Hz), with _inc for incorrect
repetitions.

what comes out, in DIR, one row a frame:
  joints_world.npy    (N, 17, 3) Human3.6M-17 joints of the Vicon, metres, world with z up
  poses.npy           (N, 24, 3) SMPL-24 axis-angle fitted to them; not with --kinect
  joints_sensor.npy   with --kinect: the Kinect's joints at the same moment, put on the Vicon's clip by clip, unscaled
  dataset.json        repetitions with subject, exercise and split; counts; what was left out and why

Joint centres are estimated from markers on the skin and are good to 1 or 2 cm. Markers that are missing for half a
second or less are interpolated, what is missing for longer is cut. Vicon and Kinect have no common clock: the shift is
found for each repetition, and repetitions that are {1000 * MAX_ERROR:.0f} mm apart afterwards are left out.
--kinect also takes the npz file of such pairs (kinect_mm, vicon_mm (N, 17, 3), clip_start, clip_end, ...).

split, by person: s08 and s09 are for test, s04 for validation.

licence:
{LICENCE}
"""
_FACTS: dict[str, Any] = {
    "axes": {
        "world": "right-handed, z up, floor near 0, metres",
        "joints_world": "the first joint is the middle of the pelvis's markers, 8 to 10 cm above the hips; head_top is "
        "the middle of the head's markers",
        "poses": FITTED,
    },
}
_FILE = re.compile(r"(?:^|/)Vicon/Positions/((m\d\d)_(s\d\d)_e\d\d)_positions(_inc)?\.txt$", re.IGNORECASE)


class Repetition(NamedTuple):
    """One repetition of an exercise.

    Attributes:
        name: for example "m01_s01_e01_correct".
        subject: for example "s01".
        movement: number of the exercise, from 1.
        markers: name of the Vicon file.
    """

    name: str
    subject: str
    movement: int
    markers: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this data set needs."""
    parser.add_argument("--kinect", action="store_true", help="write pairs of Kinect and Vicon at 30 Hz")


def plan(sources: list[Path], output: Path, options: argparse.Namespace) -> Plan:
    """A part for each person.

    Raises:
        InputError: if there are no repetitions, or two sources hold the same.
    """
    dataset, rate = ("uiprmd_kinect", kinect.FPS) if options.kinect else ("uiprmd", FPS)
    other = {"joints_sensor": "h36m_17"} if options.kinect else {"poses": "smpl_24"}
    facts = {"fps": rate, "skeletons": {"joints_world": "h36m_17", **other}, **_FACTS}
    parts, found = [], {}
    for number, source in enumerate(sources):
        if options.kinect and source.suffix == ".npz":
            parts.append(Part(f"pairs-{number}", read_pairs, (source,), (source,)))
            continue
        for repetition in repetitions(source):
            if repetition.name in found:
                raise InputError(f"--source: {repetition.name} is in {found[repetition.name]} and in {source}")
            found[repetition.name] = source
        for subject in sorted({repetition.subject for repetition in repetitions(source)}):
            files = (source,) if source.is_file() else tuple(sorted(source.rglob(f"m*_{subject}_e*.txt")))
            parts.append(Part(f"{subject}-{number}", read_person, (source, subject, options.kinect), files))
    return Plan(dataset, LICENCE, facts, None, parts, [], [])


def repetitions(source: Path) -> list[Repetition]:
    """What an archive or folder holds, by name.

    Raises:
        InputError: if it holds none.
    """
    found = []
    for name in file_names(source):
        if match := _FILE.search(name):
            kind = "incorrect" if match[4] else "correct"
            found.append(Repetition(f"{match[1].lower()}_{kind}", match[3].lower(), int(match[2][1:]), name))
    if not found:
        raise InputError(
            f"{source}: holds no repetitions, expected files like Vicon/Positions/m01_s01_e01_positions.txt"
        )
    return sorted(found)


def read_person(source: Path, subject: str, with_kinect: bool) -> Rows:
    """All repetitions of one person; those that cannot be read are named.

    Args:
        source: archive or folder.
        subject: for example "s01".
        with_kinect: whether to pair them with those of the Kinect.
    """
    read: Callable[[Path, Repetition], Rows] = _read_pair if with_kinect else _read_clip
    rows, skipped = [], []
    for repetition in repetitions(source):
        if repetition.subject != subject:
            continue
        try:
            rows.append(read(source, repetition))
        except InputError as error:
            skipped.append((repetition.name, str(error)))
    if not rows:
        raise InputError(f"{subject}: no repetition can be used; {skipped[0][0]}: {skipped[0][1]}")
    return concatenate_clips(rows, skipped)


def concatenate_clips(clips: list[Rows], skipped: list[tuple[str, str]]) -> Rows:
    """Rows of clips of one or more sequences each, as one part."""
    before = np.cumsum([0, *(len(rows.sequences) for rows in clips)])
    of = np.concatenate([rows.of + first for rows, first in zip(clips, before, strict=False)])
    return concatenate(clips, skipped)._replace(of=of)


def _read_clip(source: Path, repetition: Repetition) -> Rows:
    joints = _vicon(source, repetition)[:: int(kinect.VICON_FPS) // FPS]
    about = {**_about(repetition), "source_fps": kinect.VICON_FPS}
    rows = cut_clip(repetition.name, {"joints_world": joints.astype(np.float32)}, about, repetition.markers)
    return with_poses(rows)._replace(counts={"repetitions": 1, **rows.counts})


def _read_pair(source: Path, repetition: Repetition) -> Rows:
    name = re.sub(r"Vicon(?=/Positions/)", "Kinect", repetition.markers, flags=re.IGNORECASE)
    angles = re.sub("positions", "angles", name.replace("/Positions/", "/Angles/"))
    missing = [file for file in (name, angles) if file not in file_names(source)]
    if missing:
        raise InputError(f"{missing[0]} is missing")
    places, turns = (_numbers(source, file, len(kinect.JOINTS)) for file in (name, angles))
    if len(places) != len(turns):
        raise InputError(f"{name} has {len(places)} frames and {angles} has {len(turns)}")
    pairs = kinect.pair(kinect.joints_of_kinect(places, turns), _vicon(source, repetition))
    if pairs is None:
        raise InputError("Kinect and Vicon have too few frames in common")
    return _pair_rows(repetition.name, _about(repetition), pairs)


def _pair_rows(name: str, about: dict[str, Any], pairs: kinect.Pairs) -> Rows:
    if pairs.error > MAX_ERROR:
        raise InputError(f"Kinect and Vicon are {1000 * pairs.error:.0f} mm apart, so not at the same moments")
    number = len(pairs.truth)
    arrays = {"joints_world": pairs.truth, "joints_sensor": pairs.sensor}
    return Rows(
        arrays={key: values.astype(np.float32) for key, values in arrays.items()} | {"frame": np.arange(number)},
        sequences=[
            {"name": name, **about, "shift": round(pairs.shift, 4), "distance_mm": round(1000 * pairs.error, 1)}
        ],
        of=np.zeros(number, dtype=int),
        images=[],
        counts={"repetitions": 1, f"{about['split']}: pairs": number},
        skipped=[],
    )


def read_pairs(path: Path) -> Rows:
    """Pairs that are in one npz file, as repetitions.

    Raises:
        InputError: if it is another file, or no repetition is close enough.
    """
    names = ("kinect_mm", "vicon_mm", "clip_start", "clip_end", "clip_name", "clip_movement", "clip_shift_s")
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is no npz file with {', '.join(names)} ({error})".splitlines()[0]) from error
    sensor, truth = (arrays[name].astype(np.float64) / 1000.0 for name in names[:2])
    rows, skipped = [], []
    for clip, name in enumerate(arrays["clip_name"].tolist()):
        frames = slice(int(arrays["clip_start"][clip]), int(arrays["clip_end"][clip]))
        movement, subject = int(arrays["clip_movement"][clip]), name.split("_")[1]
        pairs = kinect.Pairs(sensor[frames], truth[frames], float(arrays["clip_shift_s"][clip]), 0.0)
        pairs = pairs._replace(error=kinect.distance(pairs.sensor, pairs.truth))
        try:
            rows.append(_pair_rows(name, _about(Repetition(name, subject, movement, "")), pairs))
        except InputError as error:
            skipped.append((name, str(error)))
    if not rows:
        raise InputError(f"{path}: no repetition can be used; {skipped[0][1] if skipped else 'it has none'}")
    return concatenate(rows, skipped)


def _about(repetition: Repetition) -> dict[str, Any]:
    correct = "" if repetition.name.endswith("_correct") else " (non-optimal)"
    return {
        "subject": f"UIPRMD{repetition.subject[1:]}",
        "action": f"{EXERCISES[repetition.movement - 1]}{correct}",
        "split": SPLITS.get(repetition.subject, "train"),
    }


def _vicon(source: Path, repetition: Repetition) -> np.ndarray:
    """(F, 17, 3) joints at 100 Hz, metres."""
    markers = _numbers(source, repetition.markers, len(MARKERS)) / 1000.0
    markers[(markers == 0.0).all(axis=-1)] = np.nan  # what the file has for a marker that was not seen
    return joints_of_markers(markers)


def _numbers(source: Path, name: str, points: int) -> np.ndarray:
    """(F, points, 3) of a text file with a frame a line.

    Raises:
        InputError: naming the file, if it holds something else.
    """
    try:
        values = np.loadtxt(io.StringIO(read_file(source, name).decode("ascii")), delimiter=",", ndmin=2)
    except ValueError as error:
        raise InputError(f"{name}: holds something else than numbers ({error})".splitlines()[0]) from error
    if values.shape[1:] != (3 * points,) or not np.isfinite(values).all():
        raise InputError(f"{name}: has {values.shape[-1]} numbers a line, expected {3 * points} finite ones")
    return values.reshape(-1, points, 3)
