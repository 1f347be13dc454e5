"""Conversion of the CMU motion capture database to the folder that `CMUMocap` reads."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datamodules.sources.cmu_mocap.archive import ACTIONS, CREDIT, LICENCE, MotionFiles, Source, open_source
from datamodules.sources.cmu_mocap.asf_amc import parse_amc, parse_asf
from datamodules.sources.cmu_mocap.retarget import retarget
from noise2pose.errors import InputError
from noise2pose.files import sha256, write_npz, write_text

FPS = 50
MAX_SPEED = 14.0  # metres per second; no joint of a person is faster, so faster steps are tracking errors
MARGIN = 3  # frames on both sides of a tracking error that are cut with it
MIN_FRAMES = 25
_VERSION = 1
_SHAPES = {"joints_3d": (17, 3), "rotations": (24, 3), "translation": (3,)}
_ABOUT = {
    "format": "noise2pose cmu_mocap",
    "version": _VERSION,
    "fps": FPS,
    "skeletons": {"joints_3d": "h36m_17", "rotations": "smpl_24"},
    "units": {"joints_3d": "metres", "rotations": "axis-angle in radians", "translation": "metres"},
    "axes": {
        "world": "right-handed, z up, ground near 0",
        "joints_3d": "in the world; the first joint is the root of the CMU skeleton, about 11 cm above the hips",
        "rotations": "relative to the parent joint; the first turns the body (T-pose, y up, facing +z) into the world",
        "translation": "pelvis joint of the mean free body in the world, its hips where those of the mocap are",
    },
    "licence": LICENCE,
    "credit": CREDIT,
}


def prepare(source: Path, output: Path, source_fps: float) -> dict[str, Any]:
    """Converts every clip and writes the folder; see `scripts/prepare.py cmu_mocap --help`.

    Clips are converted one by one into `output/.parts`, so that an interrupted run loses one clip at most. The manifest
    is written last: where it is, the folder is complete. A malformed clip is left out, and listed under `rejected`.

    Args:
        source: archive or folder, see `cmu_archive.open_source`.
        output: folder to write.
        source_fps: frame rate of the motions.

    Returns:
        The manifest. If every clip was rejected it lists no clips, and nothing has been written.

    Raises:
        InputError: if the source cannot be read; nothing has been written.
    """
    parts = output / ".parts"
    with open_source(source) as opened:
        done = _read_finished(output, opened, source_fps)
        if done is not None:
            shutil.rmtree(parts, ignore_errors=True)
            return done
        try:
            clips, rejected, keys = _convert_all(opened, parts, source_fps)
        except InputError:
            _discard(output, parts)
            raise
    manifest = {
        **_ABOUT,
        "source_key": _hash("".join(keys).encode()),
        "counts": _counts(clips, rejected),
        "rejected": rejected,
        "clips": [segment for clip in clips for segment in clip["segments"]],
    }
    if not clips:
        _discard(output, parts)
        return manifest
    (output / "manifest.json").unlink(missing_ok=True)  # what it describes is about to be replaced
    manifest["files"] = _assemble(output, parts, clips)
    write_text(output / "LICENSE.txt", f"{LICENCE}\n\n{CREDIT}\n")
    write_text(output / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(parts)
    return manifest


def _convert_all(source: Source, parts: Path, source_fps: float) -> tuple[list[Any], list[dict[str, str]], list[str]]:
    """Fills the folder of parts; returns what it holds, what was rejected, and what identifies each source clip."""
    clips, rejected, keys, start = [], [], [], 0
    for motion in tqdm(source.motions, unit="clip", desc="converting"):
        key, skeleton, amc = _read(source, motion, source_fps)
        keys.append(key)
        part = parts / f"{motion.name}.npz"
        try:
            clip = _read_part(part, key)
            if clip is None:
                arrays, clip = _convert(motion, skeleton, amc, source_fps)
                write_npz(part, entry=np.array(json.dumps({**clip, "key": key})), **arrays)
        except InputError as error:
            rejected.append({"name": motion.name, "reason": str(error)})
            continue
        for segment in clip["segments"]:
            segment["start"], segment["stop"] = start + segment["start"], start + segment["stop"]
        start += clip["frames"]
        clips.append(clip)
    return clips, rejected, keys


def _convert(
    motion: MotionFiles, skeleton_file: bytes | None, amc: bytes, source_fps: float
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """One clip as float32 arrays, and what the manifest says about it; InputError if it is malformed."""
    if skeleton_file is None:
        raise InputError(f"{motion.motion}: its skeleton {motion.subject}.asf is missing")
    skeleton = parse_asf(skeleton_file.decode("latin-1"), motion.skeleton or "")
    parsed = parse_amc(amc.decode("latin-1"), skeleton, motion.motion)
    with np.errstate(over="ignore", invalid="ignore"):
        arrays = {
            key: value.astype(np.float32)
            for key, value in retarget(skeleton, parsed, source_fps, FPS)._asdict().items()
        }
    if not all(np.isfinite(value).all() for value in arrays.values()):
        raise InputError(f"{motion.motion}: its numbers are too large for a person's motion")
    kept = usable_segments(arrays["joints_3d"])
    if not kept:
        total = len(arrays["joints_3d"])
        raise InputError(f"{motion.motion}: no {MIN_FRAMES} frames in a row are usable, of {total} at {FPS} fps")
    ends = np.cumsum([0, *(b - a for a, b in kept)]).tolist()
    segments = [
        {
            "name": motion.name if len(kept) == 1 else f"{motion.name}#{number}",
            "subject": motion.subject,
            "action": ACTIONS.get(motion.name, "unlisted"),
            "start": ends[number],
            "stop": ends[number + 1],
            "source_start": first,
            "source_fps": source_fps,
            "source_frames": len(parsed["root"]),
            "source_sha256": _hash(amc),
        }
        for number, (first, _) in enumerate(kept)
    ]
    about = {
        "name": motion.name,
        "subject": motion.subject,
        "frames": ends[-1],
        "frames_cut": len(arrays["joints_3d"]) - ends[-1],
        "segments": segments,
    }
    return {key: np.concatenate([value[a:b] for a, b in kept]) for key, value in arrays.items()}, about


def usable_segments(joints: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of the stretches of (F, J, 3) without tracking errors that are long enough to be of use.

    The two frames of a step in which a joint exceeds `MAX_SPEED` are cut with `MARGIN` frames on both sides, then
    stretches of fewer than `MIN_FRAMES`.
    """
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(axis=-1, initial=0.0) * FPS
    segments, first = [], 0
    for step in [*np.flatnonzero(speed > MAX_SPEED).tolist(), len(joints) + MARGIN]:
        last = step - MARGIN
        if last - first >= MIN_FRAMES:
            segments.append((first, last))
        first = step + MARGIN + 2
    return segments


def _assemble(output: Path, parts: Path, clips: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Joins the parts into memory-mappable arrays; returns their checksums and sizes."""
    total = sum(clip["frames"] for clip in clips)
    arrays = {
        key: np.lib.format.open_memmap(parts / f"{key}.npy", mode="w+", dtype=np.float32, shape=(total, *shape))
        for key, shape in _SHAPES.items()
    }
    start = 0
    for clip in tqdm(clips, unit="clip", desc="joining"):
        stop = start + clip["frames"]
        with np.load(parts / f"{clip['name']}.npz") as part:
            for key, array in arrays.items():
                array[start:stop] = part[key]
        start = stop
    about = {}
    for key, array in arrays.items():
        array.flush()
        path = output / f"{key}.npy"
        os.replace(parts / path.name, path)
        about[path.name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    return about


def _counts(clips: list[dict[str, Any]], rejected: list[dict[str, str]]) -> dict[str, float]:
    frames = sum(clip["frames"] for clip in clips)
    return {
        "clips": len(clips),
        "segments": sum(len(clip["segments"]) for clip in clips),
        "frames": frames,
        "seconds": frames / FPS,
        "subjects": len({clip["subject"] for clip in clips}),
        "rejected": len(rejected),
        "frames_cut": sum(clip["frames_cut"] for clip in clips),
    }


def _read(source: Source, motion: MotionFiles, source_fps: float) -> tuple[str, bytes | None, bytes]:
    """What identifies the result of a clip, and its files."""
    skeleton = source.read(motion.skeleton) if motion.skeleton is not None else None
    amc = source.read(motion.motion)
    inputs = (_VERSION, source_fps, motion.name, skeleton and _hash(skeleton), _hash(amc))
    return _hash(repr(inputs).encode()), skeleton, amc


def _read_part(part: Path, key: str) -> dict[str, Any] | None:
    """What an interrupted run wrote about a clip, if it was made from the same files."""
    if not part.is_file():
        return None
    with np.load(part) as arrays:
        clip = json.loads(str(arrays["entry"]))
    return clip if clip.pop("key") == key else None


def _read_finished(output: Path, source: Source, source_fps: float) -> dict[str, Any] | None:
    """The manifest of a folder that was made from exactly these files and is whole."""
    try:
        manifest = json.loads((output / "manifest.json").read_text())
        sizes = {name: about["bytes"] for name, about in manifest["files"].items()}
        if any((output / name).stat().st_size != size for name, size in sizes.items()):
            return None
        known = manifest["source_key"]
    except (OSError, ValueError, KeyError):
        return None
    keys = [_read(source, motion, source_fps)[0] for motion in source.motions]
    return manifest if known == _hash("".join(keys).encode()) else None


def _discard(output: Path, parts: Path) -> None:
    """Removes what was begun."""
    shutil.rmtree(parts, ignore_errors=True)
    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
