"""The formats that motion is written in, and which files there are of several people and videos."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from noise2pose.errors import InputError
from noise2pose.export import extras

if TYPE_CHECKING:
    from noise2pose.export.motion import Motion


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        ending: of the name, with a dot.
        alone: whether a file holds one person, so that several people need several files.
        opens: what opens it, in words.
    """

    ending: str
    alone: bool
    opens: str


class Written(NamedTuple):
    """A file that was written.

    Attributes:
        path: where.
        opens: what opens it, in words.
        note: what the file changes, in words; empty where it changes nothing.
    """

    path: Path
    opens: str
    note: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.opens}{f'; {self.note}' if self.note else ''}"


FORMATS = {
    "npz": Format(".npz", True, "NumPy; with bodies also SMPL's add-on for Blender and whatever reads AMASS (z up)"),
    "coco": Format(".json", False, "pycocotools, FiftyOne, CVAT and whatever reads COCO's keypoints"),
    "bvh": Format(".bvh", True, "Blender (File > Import > Motion Capture, scale 0.01), MotionBuilder, Maya (y up, cm)"),
    "glb": Format(".glb", False, "Blender (File > Import > glTF 2.0), three.js, Unity, Unreal, Windows' 3D viewer"),
    "trc": Format(".trc", True, "OpenSim and Pose2Sim (markers in metres, y up)"),
    "csv": Format(".csv", True, "spreadsheets, pandas, R (a column a coordinate, metres, y up)"),
    "rrd": Format(".rrd", False, "`rerun FILE` of rerun-sdk"),
    "mp4": Format(".mp4", False, "any video player"),
    "html": Format(".html", False, "any web browser (one page about everybody; no network is needed)"),
}


def check_formats(names: str, of_inputs: Sequence[str] = ()) -> list[str]:
    """The formats of a list like `npz,bvh`.

    Args:
        names: with commas.
        of_inputs: formats of keypoint files, which people may mean.

    Raises:
        InputError: if one is unknown or a package that it needs is missing.
    """
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name in of_inputs and name not in FORMATS:
            raise InputError(
                f"--format says which files are written ({','.join(FORMATS)}); what a keypoint file is read as says "
                f"--keypoint_format {name}"
            )
        if name not in FORMATS:
            raise InputError(f"--format {name} is not known, expected some of {','.join(FORMATS)}")
        for package, extra in _PACKAGES.get(name, ()):
            extras.load(package, extra, f"writing {name}")
    return list(dict.fromkeys(chosen))


def write(
    motions: "Sequence[Motion]",
    path: Path,
    name: str,
    images: Callable[[str], Iterable[tuple[float, Any]] | None] | None = None,
) -> list[Written]:
    """Writes motions in one format.

    Args:
        motions: people of one or several videos.
        path: of the file; where several are needed, videos and people are added to its name.
        name: of the format; "coco" has its own function, because it is about poses and not about motions.
        images: gives the frames of a video of that name as `video.write_mp4` takes them, or None where there are none.

    Returns:
        The files.

    Raises:
        InputError: if there is nobody, a package is missing, or a file cannot be written.
    """
    from noise2pose.export import bvh, glb, npz, rrd, tables, video
    from noise2pose.export.motion import side_by_side
    from noise2pose.viewing import page

    if not motions:
        raise InputError(f"{path}: there is nobody to write")
    kind = FORMATS[name]
    if name == "html":
        page.write_page(path, motions, images)
        return [Written(path, kind.opens)]
    if name == "mp4":
        filmed = {motion.video for motion in motions if len(motion) > 1}
        filmed |= {motion.video for motion in motions if images is not None and images(motion.video) is not None}
        motions = [motion for motion in motions if motion.video in filmed]
        if not motions:
            raise InputError(f"{path}: nobody is in motion, so there is no film; single poses have pictures (NAME.png)")
    single: dict[str, Callable[[Path, Motion], None]] = {
        "npz": npz.write_motion_npz,
        "bvh": bvh.write_bvh,
        "trc": tables.write_trc,
        "csv": tables.write_csv,
    }
    several: dict[str, Callable[[Path, Sequence[Motion]], None]] = {"glb": glb.write_glb, "rrd": rrd.write_rrd}
    written = []
    for target, people in files_of(motions, path, kind.alone):
        placed = people if kind.alone else side_by_side(people)
        if name == "mp4":
            video.write_mp4(target, placed, None if images is None else images(people[0].video))
        elif kind.alone:
            single[name](target, people[0])
        else:
            several[name](target, placed)
        written.append(Written(target, kind.opens, _note(people) if name in _RIGGED else ""))
    return written


def lines_of(written: Sequence[Written]) -> list[str]:
    """A line for each file; of many files of a format for the first ones."""
    lines: list[str] = []
    for opens in dict.fromkeys(file.opens for file in written):
        files = [file for file in written if file.opens == opens]
        lines += [str(file) for file in files[:_NAMED]]
        if len(files) > _NAMED:
            lines.append(f"and {len(files) - _NAMED} more {files[0].path.suffix} files")
    return lines


def left_from_before(newest: Path) -> list[str]:
    """A line about pictures and motion beside a file that are older than it, and so of another command; none if none.

    Args:
        newest: the file that a command writes first.
    """
    since, beside = newest.stat().st_mtime_ns, sorted(newest.parent.iterdir())
    ours = [file for file in beside if file.suffix in (".png", ".gif") or file.name.startswith(STEM)]
    older = [file.name for file in ours if file.is_file() and file.stat().st_mtime_ns < since]
    more = f" and {len(older) - _NAMED} more" if len(older) > _NAMED else ""
    return (
        [f"{newest.parent}: left from before, not of this command: {', '.join(older[:_NAMED])}{more}"] if older else []
    )


def _note(people: "Sequence[Motion]") -> str:
    """How far the joints of skeletons are moved."""
    from noise2pose.export.rig import moved

    metres = [moved(motion) for motion in people if motion.body is None]
    return f"bones of constant length end {1000.0 * max(metres):.0f} mm beside the joints on average" if metres else ""


def files_of(motions: "Sequence[Motion]", path: Path, alone: bool) -> "list[tuple[Path, list[Motion]]]":
    """Which people go to which file: `motion.bvh`, or `motion_VIDEO_PERSON.bvh` where there are several.

    Args:
        motions: people of one or several videos.
        path: of a single file.
        alone: whether each person needs a file.
    """
    videos: dict[str, list[Motion]] = {}
    for motion in motions:
        videos.setdefault(motion.video, []).append(motion)
    files: list[tuple[Path, list[Motion]]] = []
    used: set[str] = set()
    for video, people in videos.items():
        of_video = _plain(_ENDING.sub("", video)) if len(videos) > 1 else ""
        for group in [[person] for person in people] if alone else [people]:
            whose = _plain(group[0].name) if alone and len(people) > 1 else ""
            parts = [path.stem, whose] if whose.startswith(of_video) else [path.stem, of_video, whose]
            stem = "_".join(part for part in (parts if whose else [path.stem, of_video]) if part)
            while stem.lower() in used:  # of names that differ only in what was replaced, or in upper case
                stem += "_"
            used.add(stem.lower())
            files.append((path.with_name(stem + path.suffix), group))
    return files


_ENDING = re.compile(r"\.[A-Za-z]\w{1,4}$")  # of an image or a video
_RIGGED = ("bvh", "glb")
STEM = "motion"  # of the files that results are exported to
_NAMED = 3  # files of a format that are told one by one
_PACKAGES = {"bvh": [("pybvh", "export")], "glb": [("pygltflib", "export")], "rrd": [("rerun", "rerun")]}


def _plain(name: str) -> str:
    """A part of a file name that any file system takes."""
    return re.sub(r"[^\w.#-]+", "_", name)[:80].strip("_.")
