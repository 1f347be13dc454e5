"""The CMU motion capture archive as it is published, and its conversion to the folder that `CMUMocap` reads."""

import hashlib
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from datamodules.asf_amc import parse_amc, parse_asf
from datamodules.cmu_retarget import retarget
from noise2pose.errors import InputError
from noise2pose.files import write_npz, write_text

FPS = 50
MAX_SPEED = 14.0  # metres per second; no joint of a person is faster, so faster frames are tracking errors
MIN_FRAMES = 25
URL = "http://mocap.cs.cmu.edu/allasfamc.zip"
LICENCE = """CMU Graphics Lab Motion Capture Database (mocap.cs.cmu.edu)

"This data is free for use in research projects. You may include this data in commercially-sold products, but you may
not resell this data directly, even in converted form."

The data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF
EIA-0196217.
"""
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


class Motion(NamedTuple):
    """One AMC file of a source, with the skeleton it is for."""

    subject: str
    name: str
    read: Callable[[], tuple[bytes, bytes]]  # contents of the ASF and the AMC file


def find_motions(source: Path) -> list[Motion]:
    """Every clip of an archive or a folder, in order.

    Raises:
        InputError: if the source is missing, is not a readable archive, or holds no clip.
    """
    if source.is_dir():
        names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
        read: Callable[[str], bytes] = lambda name: (source / name).read_bytes()  # noqa: E731
    elif source.is_file():
        try:
            with zipfile.ZipFile(source) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise InputError(f"{source}: not a zip archive, or truncated ({error})") from error
        read = lambda name: zipfile.ZipFile(source).read(name)  # noqa: E731
    else:
        raise InputError(f"--source: {source} does not exist; get {URL}, or give --download")
    present = set(names)
    motions = []
    for name in names:
        match = re.search(r"(?:^|/)(\d+)_(\d+)\.amc$", name)
        if match:
            subject = match[1]
            skeleton = PurePosixPath(name).with_name(f"{subject}.asf").as_posix()
            motions.append(Motion(subject, f"{subject}_{match[2]}", _reader(read, skeleton, name, present)))
    if not motions:
        raise InputError(f"--source: {source} holds no NN_MM.amc files")
    return sorted(motions, key=lambda motion: (motion.subject, motion.name))


def _reader(
    read: Callable[[str], bytes], skeleton: str, motion: str, present: set[str]
) -> Callable[[], tuple[bytes, bytes]]:
    def read_both() -> tuple[bytes, bytes]:
        if skeleton not in present:
            raise InputError(f"{motion}: its skeleton {skeleton} is missing")
        try:
            return read(skeleton), read(motion)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise InputError(f"{motion}: cannot be read ({error})") from error

    return read_both


def convert_clip(motion: Motion, source_fps: float) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """One clip as float32 arrays, and its entry for the manifest.

    Frames in which a joint is faster than a person can be are cut out; what remains on both sides becomes segments of
    the clip, listed under `segments` as [start, stop] within the arrays.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    skeleton_bytes, motion_bytes = motion.read()
    skeleton = parse_asf(skeleton_bytes.decode("latin-1"), f"{motion.subject}.asf")
    parsed = parse_amc(motion_bytes.decode("latin-1"), skeleton, f"{motion.name}.amc")
    arrays = retarget(skeleton, parsed, source_fps, FPS)
    kept = _segments(arrays["joints_3d"])
    if not kept:
        raise InputError(f"{motion.name}.amc: fewer than {MIN_FRAMES} usable frames")
    joined = {key: np.concatenate([value[a:b] for a, b in kept]).astype(np.float32) for key, value in arrays.items()}
    ends = np.cumsum([0, *(b - a for a, b in kept)]).tolist()
    return joined, {
        "name": motion.name,
        "subject": motion.subject,
        "action": ACTIONS.get(motion.name, "unlisted"),
        "source_fps": source_fps,
        "source_frames": len(parsed["root"]),
        "frames_cut": len(arrays["joints_3d"]) - ends[-1],
        "source_sha256": _checksum(motion),
        "segments": list(map(list, zip(ends[:-1], ends[1:], strict=True))),
    }


def _segments(joints: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of the stretches without tracking errors that are long enough to be of use."""
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(axis=-1) * FPS
    borders = [0, *(np.flatnonzero(speed > MAX_SPEED) + 1).tolist(), len(joints)]
    return [(a, b) for a, b in zip(borders[:-1], borders[1:], strict=True) if b - a >= MIN_FRAMES]


def prepare(source: Path, output: Path, source_fps: float) -> dict[str, Any]:
    """Converts every clip and writes the folder; see `scripts/prepare.py cmu_mocap --help`.

    Clips are converted into `output/.parts` one by one, so an interrupted run loses one clip at most. The manifest is
    written last: where it is, the folder is complete.

    Returns:
        The manifest.

    Raises:
        InputError: if nothing can be converted.
    """
    motions = find_motions(source)
    if (manifest := _complete(output, motions, source_fps)) is not None:
        return manifest
    parts = output / ".parts"
    clips, rejected = [], []
    for motion in tqdm(motions, unit="clip", desc="converting"):
        part = parts / f"{motion.name}.npz"
        try:
            entry = _finished(part, motion, source_fps)
            if entry is None:
                arrays, entry = convert_clip(motion, source_fps)
                write_npz(part, **arrays)
                write_text(part.with_suffix(".json"), json.dumps(entry))
            clips.append(entry)
        except InputError as error:
            rejected.append({"name": motion.name, "reason": str(error)})
            tqdm.write(f"left out: {error}", file=sys.stderr)
    if not clips:
        raise InputError(f"{source}: none of its {len(motions)} clips could be converted")
    manifest = _assemble(output, parts, clips, rejected)
    write_text(output / "LICENSE.txt", LICENCE)
    write_text(output / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(parts)
    return manifest


def _complete(output: Path, motions: list[Motion], source_fps: float) -> dict[str, Any] | None:
    """The manifest of a folder that holds exactly these motions already."""
    path = output / "manifest.json"
    if not path.is_file():
        return None
    manifest = json.loads(path.read_text())
    known = {clip["name"].split("#")[0]: (clip["source_sha256"], clip["source_fps"]) for clip in manifest["clips"]}
    rejected = {clip["name"] for clip in manifest["rejected"]}
    whole = all(
        (output / name).is_file() and (output / name).stat().st_size == about["bytes"]
        for name, about in manifest["files"].items()
    )
    if not whole or {motion.name for motion in motions} != known.keys() | rejected:
        return None
    same = (known[m.name] == (_checksum(m), source_fps) for m in motions if m.name not in rejected)
    return manifest if all(same) else None


def _checksum(motion: Motion) -> str:
    return hashlib.sha256(b"".join(motion.read())).hexdigest()


def _finished(part: Path, motion: Motion, source_fps: float) -> dict[str, Any] | None:
    """The entry of a clip that an earlier, interrupted run converted from the same bytes."""
    record = part.with_suffix(".json")
    if not record.is_file() or not part.is_file():
        return None
    entry = json.loads(record.read_text())
    return entry if (entry["source_sha256"], entry["source_fps"]) == (_checksum(motion), source_fps) else None


def _assemble(output: Path, parts: Path, clips: list[dict[str, Any]], rejected: list[dict[str, str]]) -> dict[str, Any]:
    """Joins the parts into memory-mappable arrays; returns the manifest."""
    shapes = {"joints_3d": (17, 3), "rotations": (24, 3), "translation": (3,)}
    total = sum(clip["segments"][-1][1] for clip in clips)
    (output / "manifest.json").unlink(missing_ok=True)  # what it describes is about to be replaced
    files = {key: parts / f"{key}.npy" for key in shapes}
    arrays = {
        key: np.lib.format.open_memmap(files[key], mode="w+", dtype=np.float32, shape=(total, *shape))
        for key, shape in shapes.items()
    }
    entries, start = [], 0
    for clip in tqdm(clips, unit="clip", desc="joining"):
        with np.load(parts / f"{clip['name']}.npz") as part:
            for key, array in arrays.items():
                array[start : start + len(part[key])] = part[key]
        about = {key: value for key, value in clip.items() if key != "segments"}
        for number, (a, b) in enumerate(clip["segments"]):
            name = clip["name"] if len(clip["segments"]) == 1 else f"{clip['name']}#{number}"
            entries.append({**about, "name": name, "start": start + a, "stop": start + b})
        start += clip["segments"][-1][1]
    checksums = {}
    for key, array in arrays.items():
        array.flush()
        os.replace(files[key], output / f"{key}.npy")
        with (output / f"{key}.npy").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        checksums[f"{key}.npy"] = {"sha256": digest, "bytes": (output / f"{key}.npy").stat().st_size}
    return {
        "format": "noise2pose cmu_mocap 1",
        "fps": FPS,
        "skeletons": {"joints_3d": "h36m_17", "rotations": "smpl_24 axis-angle"},
        "units": "metres, radians; world z up",
        "counts": {
            "clips": len(clips),
            "segments": len(entries),
            "frames": total,
            "minutes": round(total / FPS / 60, 2),
            "subjects": len({clip["subject"] for clip in clips}),
            "rejected": len(rejected),
            "frames_cut": sum(clip["frames_cut"] for clip in clips),
        },
        "files": checksums,
        "licence": LICENCE,
        "rejected": rejected,
        "clips": entries,
    }
