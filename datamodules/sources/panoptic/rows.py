"""What the calibrated cameras of the CMU Panoptic Studio saw in one sequence, as rows of a prepared folder.

The world is in centimetres. X_camera = R X_world + t, x right, y down, z forward.

Shape letters: N rows, J the 19 joints.
"""

import re
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.preparation import Rows, concatenate
from datamodules.sources.common.files import finite_numbers, read_json
from datamodules.sources.common.joints import bounds_of, camera_columns
from datamodules.sources.panoptic.frames import SKELETON, Body, annotation, name_images, read_frames
from noise2pose import safe_pickle, skeletons
from noise2pose.errors import InputError

# Broken images, all green, that ROMP's and BEV's evaluation leaves out: sequence, camera and frames.
GREEN_FRAMES = (
    ("160422_haggling1", "00_16", range(2945, 2955)),
    ("160422_haggling1", "00_30", range(1402, 1413)),
    ("160422_haggling1", "00_30", range(1414, 1415)),
)
_KIND = re.compile(r"^\d*_?([A-Za-z]+)")  # 160422_haggling1, 170407_haggling_a2
_ROOT = skeletons.get(SKELETON).root


class Camera(NamedTuple):
    """One camera of a calibration file, float64.

    Attributes:
        name: panel and node, such as 00_16.
        size: width and height, pixels.
        matrix: (3, 3) intrinsics.
        distortion: k1, k2, p1, p2, k3 of OpenCV's model.
        rotation: (3, 3) world to camera.
        translation: (3,) centimetres.
    """

    name: str
    size: tuple[int, int]
    matrix: np.ndarray
    distortion: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray


class _Person(NamedTuple):
    frame: int
    person: int
    joints: np.ndarray  # (J, 4) metres in the camera frame, validity
    keypoints: np.ndarray  # (J, 3) pixels, confidence


def read(
    folder: Path,
    name: str,
    views: tuple[tuple[str, str | None], ...],
    root: Path | None,
    listed: Path | None,
    every: int,
    digest: str,
) -> Rows:
    """The people that the cameras of a sequence saw, one camera after the other.

    Args:
        folder: of the sequence.
        name: of the sequence.
        views: name of each camera, with the folder or video of its images within `folder` (None for joints alone).
        root: folder that names of images are relative to.
        listed: file of the frames to take, see `listed_frames`, or None for all.
        every: take every N-th of them.
        digest: of the extracted annotations, for the record; empty where there are none.

    Raises:
        InputError: if nothing of it can be read.
    """
    skipped: list[tuple[str, str]] = []
    counts: Counter[str] = Counter()
    frames = list(read_frames(annotation(folder), skipped))
    sequences: list[Rows] = []
    about = _about(name, folder, digest)
    for camera_name, place in views:
        try:
            camera = read_camera(folder / f"calibration_{name}.json", camera_name)
            chosen = frames
            if listed is not None:
                wanted = listed_frames(listed, camera_name)
                chosen = [(frame, bodies) for frame, bodies in frames if frame in wanted]
                if len(chosen) < len(wanted):
                    lacking = f"{len(wanted) - len(chosen)} listed frames of camera {camera_name} are not annotated"
                    skipped.append((str(listed), lacking))
            people = [
                person
                for frame, bodies in chosen[::every]
                for body in bodies
                if (person := _look(frame, body, camera, counts)) is not None
            ]
            if not people:
                raise InputError(f"camera {camera_name} sees no person in {len(chosen[::every])} annotated frames")
            names: dict[int, str] = {}
            if place is not None and root is not None:
                wanted = {person.frame for person in people}
                names = name_images(folder / place, root, name, camera_name, wanted, camera.size, skipped)
                people = [person for person in people if person.frame in names]
        except InputError as error:
            skipped.append((f"{name} {camera_name}", str(error)))
            continue
        green = [frames for *view, frames in GREEN_FRAMES if view == [name, camera_name]]
        columns = _columns(people, names, camera, list(chain(*green)))
        facts = {**about, "name": f"{name}.{camera_name}", "camera": camera_name}
        number = {"frames of a camera": len(np.unique(columns["frame"]))}
        of = np.zeros(len(people), np.int32)
        sequences.append(Rows(columns, [facts], of, list(names.values()), number, []))
    if not sequences:
        raise InputError("; ".join(f"{what}: {reason}" if what not in reason else reason for what, reason in skipped))
    rows = concatenate(sequences, _gather(skipped))
    counts.update(rows.counts)
    counts["people"] = len(rows.of)
    counts["not counted: green image, or no body centre"] = int((~rows.arrays["valid"]).sum())
    return rows._replace(counts={what: number for what, number in sorted(counts.items()) if number})


def read_camera(path: Path, name: str) -> Camera:
    """A camera of `calibration_<sequence>.json`.

    Raises:
        InputError: if the file cannot be read, has no such camera, or says impossible things of it.
    """
    try:
        cameras = {str(c["name"]) if "name" in c else f"{c['panel']:02d}_{c['node']:02d}": c
                   for c in read_json(path)["cameras"]}  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a calibration of the Panoptic Studio ({type(error).__name__}: {error})"
        ) from error
    if name not in cameras:
        raise InputError(f"{path}: has no camera {name} among its {len(cameras)}")
    camera = cameras[name]
    try:
        width, height = finite_numbers(camera, "resolution", (2,)).astype(int).tolist()
        shapes = {"K": (3, 3), "distCoef": (5,), "R": (3, 3), "t": (3,)}
        return Camera(name, (width, height), *(finite_numbers(camera, key, shape) for key, shape in shapes.items()))
    except InputError as error:
        raise InputError(f"{path}: camera {name} {error}") from error


def see(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of the world in a camera and in its image.

    The projection is OpenCV's with k1, k2, p1, p2, k3 (`cv2.projectPoints`), as in the toolbox of the data set. The
    toolbox's Python version, and that of Jiang et al. (2020), puts the distorted x where the formula for y has the
    undistorted one; with p1, p2 of 0.001 that moves a point by less than a tenth of a pixel.

    Args:
        camera: that looks.
        points: (..., 3) centimetres.

    Returns:
        (..., 3) metres in the camera frame; (..., 2) pixels; (...,) bool: whether the point lies before the camera and
        where its lens is calibrated (beyond, the polynomial folds back into the image).
    """
    placed = points @ camera.rotation.T + camera.translation
    depth = placed[..., 2]
    seen = depth > 0.0
    x, y = np.moveaxis(placed[..., :2] / np.where(seen, depth, 1.0)[..., None], -1, 0)
    k1, k2, p1, p2, k3 = camera.distortion
    square = x * x + y * y
    seen = seen & (1.0 + square * (3.0 * k1 + square * (5.0 * k2 + square * 7.0 * k3)) > 0.0)
    stretch = 1.0 + square * (k1 + square * (k2 + square * k3))
    bent = np.stack(
        (
            x * stretch + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x),
            y * stretch + p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y,
            np.ones_like(x),
        ),
        axis=-1,
    )
    return placed / 100.0, (bent @ camera.matrix.T)[..., :2], seen


def listed_frames(path: Path, camera: str) -> set[int]:
    """Frames of a camera that a list names.

    Args:
        path: the annotations that Jiang et al. (2020) give out, a pickle of one dictionary per image whose `filename`
            ends in 00_16/00_16_00000123.png; or a text of frame numbers, for all cameras.
        camera: such as 00_16.

    Raises:
        InputError: if the file is missing or something else.
    """
    if path.suffix == ".txt":
        try:
            return {int(float(number)) for number in path.read_text().split()}
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not a list of frame numbers ({error})") from error
    found = set()
    try:
        for image in safe_pickle.load(path):
            match = re.search(r"(\d+_\d+)_(\d+)\.\w+$", str(image["filename"]))
            if match and match[1] == camera:
                found.add(int(match[2]))
    except (TypeError, KeyError) as error:
        raise InputError(f"{path}: not annotations of Jiang et al. ({type(error).__name__}: {error})") from error
    if not found:
        raise InputError(f"{path}: names no image of camera {camera}")
    return found


def _look(frame: int, body: Body, camera: Camera, counts: Counter[str]) -> _Person | None:
    """A person as the camera sees them, or None with the reason counted."""
    valid = body.joints[:, 3] > 0
    placed, pixels, seen = see(camera, body.joints[:, :3])
    inside = seen & valid & (pixels >= 0.0).all(axis=1) & (pixels < camera.size).all(axis=1)
    counts["people with joints that are not numbers"] += body.has_nan
    if body.person < 0:
        counts["left out: outlier, negative id"] += 1
    elif not valid.any():
        counts["left out: without a joint that counts"] += 1
    elif not inside.any():
        counts["left out: outside the image"] += 1
    else:
        shown = (valid & seen)[:, None]
        joints = np.concatenate((np.where(valid[:, None], placed, 0.0), valid[:, None]), axis=1)
        keypoints = np.concatenate((np.where(shown, pixels, 0.0), shown), axis=1)
        return _Person(frame, body.person, joints.astype(np.float32), keypoints.astype(np.float32))
    return None


def _about(name: str, folder: Path, digest: str) -> dict[str, Any]:
    found = _KIND.match(name)
    kind = found[1].lower() if found else name
    annotations = [path.name for path in annotation(folder)]
    about = {"split": "test", "subject": name, "action": kind, "group": kind, "annotations": annotations}
    return {**about, "annotations_sha256": digest} if digest else about


def _columns(people: list[_Person], names: dict[int, str], camera: Camera, green: list[int]) -> dict[str, np.ndarray]:
    """Columns of one camera."""
    number_of = {frame: number for number, frame in enumerate(names)}
    joints = np.stack([person.joints for person in people])
    keypoints = np.stack([person.keypoints for person in people])
    frames = np.array([person.frame for person in people], dtype=np.int32)
    # Errors are measured from the body centre, so a person without it cannot be counted.
    valid = (joints[:, _ROOT, 3] > 0) & ~np.isin(frames, green)
    return {
        "frame": frames,
        "person": np.array([person.person for person in people], dtype=np.int64),
        "picture": np.array([number_of.get(person.frame, -1) for person in people], dtype=np.int32),
        "keypoints_2d_gt": keypoints,
        "keypoints_3d": joints,
        **camera_columns(camera.matrix[[0, 1], [0, 1]], camera.matrix[:2, 2], camera.size, len(people)),
        "bounds": bounds_of(keypoints[..., :2], keypoints[..., 2] > 0),
        "valid": valid,
    }


def _gather(skipped: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Many faults of one kind as one line: their number and the first of them."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for name, reason in skipped:
        kinds.setdefault(re.sub(r"\d+", "N", reason), []).append((name, reason))
    return [
        same[0] if len(same) == 1 else (same[0][0], f"{same[0][1]}; {len(same) - 1} more like it")
        for same in kinds.values()
    ]
