"""The official training set of MPI-INF-3DHP: which recordings, cameras, calibrations and videos are there."""

import sys
from pathlib import Path

import numpy as np

from datamodules.preparation import Part
from datamodules.sources.common.files import any_case
from datamodules.sources.common.video_frames import Header, check_room, read_header
from datamodules.sources.mpi_inf_3dhp.official import link, read_train
from datamodules.sources.mpi_inf_3dhp.rows import TRAIN_SIZE, Lens
from noise2pose.errors import InputError

# Frames and frame rate of each recording, as the publisher's `mpii_get_sequence_info.m` gives them.
RECORDINGS = {
    ("S1", "Seq1"): (6416, 25), ("S1", "Seq2"): (12430, 50), ("S2", "Seq1"): (6502, 25), ("S2", "Seq2"): (6081, 25),
    ("S3", "Seq1"): (12488, 50), ("S3", "Seq2"): (12283, 50), ("S4", "Seq1"): (6171, 25), ("S4", "Seq2"): (6675, 25),
    ("S5", "Seq1"): (12820, 50), ("S5", "Seq2"): (12312, 50), ("S6", "Seq1"): (6188, 25), ("S6", "Seq2"): (6145, 25),
    ("S7", "Seq1"): (6239, 25), ("S7", "Seq2"): (6320, 25), ("S8", "Seq1"): (6468, 25), ("S8", "Seq2"): (6054, 25),
}  # fmt: skip


def plan_recordings(
    source: Path,
    output: Path,
    recordings: list[Path],
    cameras: tuple[int, ...],
    stride: int | None,
    skipped: list[tuple[str, str]],
) -> tuple[list[Part], Path | None]:
    """The parts of the training set, one a camera of a recording.

    Args:
        source: folder that names of images are relative to.
        output: folder to write, where extracted images go.
        recordings: folders `S*/Seq*`.
        cameras: to read.
        stride: every so many frames have an image; None without images.
        skipped: gets what is missing.

    Returns:
        The parts, and the folder of extracted images if there will be any.

    Raises:
        InputError: if the images of the videos would not fit on the disk.
    """
    complete = [recording for recording in recordings if (recording / "annot.mat").is_file()]
    for recording in recordings:
        if recording not in complete:
            skipped.append((f"{_name(recording)}/annot.mat", "is missing; the recording is left out"))
    views = [(recording, camera) for recording in complete for camera in cameras]
    frames = {view: _extracted(*view) for view in views} if stride is not None else {}
    videos = {(recording, camera): any_case(recording / "imageSequence" / f"video_{camera}.avi")
              for (recording, camera), folder in frames.items() if folder is None}  # fmt: skip
    there = {view: video for view, video in videos.items() if video.is_file()}
    absent = [f"{_name(view[0])}/imageSequence/{video.name}" for view, video in videos.items() if view not in there]
    begun = bool(there) or any((recording / "imageSequence").is_dir() for recording in complete)
    name_missing(absent, "train: no videos", begun, skipped)
    usable = _headers(there, skipped)
    folders = {view: view[0].relative_to(source) / "imageFrames" / there[view].stem for view in usable}
    check_room([(usable[view], output / "images" / folders[view]) for view in usable], stride or 1, output)
    images = output / "images" if usable else None
    lenses = {recording: _calibration(recording, skipped) for recording in complete}
    other = [there[recording, camera].name for (recording, camera), (_, size) in usable.items()
             if lenses[recording].get(camera, (None, size))[1] != size]  # fmt: skip
    if other:
        print(
            f"warning: {len(other)} videos have another size than camera.calibration, first {other[0]}", file=sys.stderr
        )
    parts = []
    for recording, camera in views:
        view = recording, camera
        _, fps = RECORDINGS[recording.parent.name, recording.name]
        lens = lenses[recording].get(camera)
        video = there[view] if view in usable else None
        found = frames.get(view)
        if found is not None and images is not None and images.is_dir():
            link(found, source, images)  # the source may have moved since the folder was prepared
        arguments = (source, *view, lens, found, video, fps, stride or 1, images)
        files = tuple(recording / name for name in ("annot.mat", "camera.calibration") if (recording / name).is_file())
        parts.append(Part(f"{recording.parent.name}_{recording.name}_{camera}", read_train, arguments, files))
    return parts, images


def read_calibration(path: Path) -> dict[int, tuple[Lens, tuple[int, int]]]:
    """Intrinsics and image size of each camera of `camera.calibration`.

    Raises:
        InputError: if the file cannot be read, or a camera has no intrinsic matrix.
    """
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    cameras: list[dict[str, list[str]]] = []
    for word, *values in lines:
        if word == "name":
            cameras.append({})
        if cameras:
            cameras[-1][word] = values
    found = {}
    for number, camera in enumerate(cameras):
        name = " ".join(camera["name"])
        try:
            matrix = np.array([float(value) for value in camera["intrinsic"]]).reshape(4, 4)
            width, height = (int(float(value)) for value in camera.get("size", TRAIN_SIZE))
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: camera {name} has no 4 x 4 intrinsic matrix or no size ({error})") from error
        if not (np.isfinite(matrix).all() and matrix[0, 0] > 0.0 and matrix[1, 1] > 0.0):
            raise InputError(f"{path}: camera {name} has no positive focal length")
        lens = Lens((matrix[0, 0].item(), matrix[1, 1].item()), (matrix[0, 2].item(), matrix[1, 2].item()),
                    "calibration", None)  # fmt: skip
        found[int(name) if name.isdigit() else number] = (lens, (width, height))
    if not found:
        raise InputError(f"{path}: no camera in it; expected lines that begin with name, size, intrinsic, ...")
    return found


def name_missing(absent: list[str], nothing: str, begun: bool, skipped: list[tuple[str, str]]) -> None:
    """Names missing images or videos in one line of `skipped`.

    Where nothing of the kind was downloaded (not `begun`), which is no fault, `nothing` is printed.
    """
    if absent and begun:
        more = f", and {len(absent) - 1} more like it" if len(absent) > 1 else ""
        skipped.append((absent[0], f"is missing{more}; those frames have no image"))
    elif absent:
        print(f"{nothing} in the source; those frames have none", file=sys.stderr)


def _calibration(recording: Path, skipped: list[tuple[str, str]]) -> dict[int, tuple[Lens, tuple[int, int]]]:
    """The cameras of a recording; none if their file is missing or broken."""
    try:
        return read_calibration(recording / "camera.calibration")
    except InputError as error:
        skipped.append((f"{_name(recording)}/camera.calibration", f"{error}; cameras are fitted to the joints"))
        return {}


def _headers(videos: dict[tuple[Path, int], Path], skipped: list[tuple[str, str]]) -> dict[tuple[Path, int], Header]:
    """Of the videos that can be opened."""
    headers = {}
    for (recording, camera), video in videos.items():
        try:
            headers[recording, camera] = read_header(video)
        except InputError as error:
            skipped.append((f"{_name(recording)}/imageSequence/{video.name}", f"{error}; those frames have no image"))
    return headers


def _extracted(recording: Path, camera: int) -> Path | None:
    """Folder of images that were extracted before."""
    for name in ("imageFrames", "imageSequence", "."):
        folder = recording / name / f"video_{camera}"
        if folder.is_dir() and any(folder.iterdir()):
            return folder
    return None


def _name(recording: Path) -> str:
    return f"{recording.parent.name}/{recording.name}"
