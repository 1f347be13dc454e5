"""Human3.6M in the JSON files of 3DMPPE, I2L-MeshNet, 3DCrowdNet and JOTR, with fitted SMPL parameters.

Human36M_subject{S}_data.json        images (subject, action_idx, subaction_idx, cam_idx, frame_idx, ...), annotations
Human36M_subject{S}_camera.json      cam_idx -> R, t (X_camera = R X + t, millimetres), f, c (pixels)
Human36M_subject{S}_joint_3d.json    action -> subaction -> frame -> (17, 3) millimetres in the world
Human36M_subject{S}_smpl_param.json  action -> subaction -> frame -> pose (72), shape (10), trans (metres, world)

Shape letters: N frames.
"""

from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from datamodules.preparation import Part, Rows, concatenate
from datamodules.sources.common.files import Faults, finite_numbers, folder_with, missing_files, numbers, read_json
from datamodules.sources.common.joints import bounds_of, with_validity
from datamodules.sources.human36m.cameras import CAMERAS, project_pinhole, to_camera
from datamodules.sources.human36m.sequences import (
    SKELETON,
    SPLITS,
    sequence_facts,
    sequence_rows,
    sort_subjects,
)
from noise2pose.errors import InputError

_LEFT_OUT = ("S11", 2, 2)  # what papers call S11's first "Directions" is called its second here: a camera is missing
_FILES = "Human36M_subject*_data.json"
_SMPL = ("smpl_param", "SMPL_NeuralAnnot")
# Actions 2 to 16.
_ACTIONS = (
    *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases", "Sitting", "SittingDown"),
    *("Smoking", "Photo", "Waiting", "Walking", "WalkDog", "WalkTogether"),
)
_ENLARGED = (1.15, 1.25)  # the publishers' script makes boxes of joints 1.2 times as large, which is undone


def find(source: Path) -> Path | None:
    """The folder of the JSON files: `source`, its `annotations`, or those of a folder in it."""
    folder, above = folder_with(source, [_FILES]), folder_with(source, [f"annotations/{_FILES}"])
    return folder if folder is not None or above is None else above / "annotations"


def plan_parts(
    annotations: Path, stride: int, images: bool
) -> tuple[list[Part], dict[str, Any], list[tuple[str, str]], Path | None]:
    """A part for each subject, facts, what is missing, and the folder of the images.

    Args:
        annotations: folder of the JSON files.
        stride: frames whose number it divides are kept.
        images: whether images are wanted.
    """
    skipped: list[tuple[str, str]] = []
    beside = (annotations / "images", annotations.parent / "images")
    root = next((folder for folder in beside if folder.is_dir()), None) if images else None
    names = {f"S{path.name.removeprefix('Human36M_subject').split('_')[0]}" for path in annotations.glob(_FILES)}
    given = {name: [annotations / f"Human36M_subject{name[1:]}_{what}.json" for what in _SMPL] for name in names}
    smpl = {name: next((path for path in paths if path.is_file()), None) for name, paths in given.items()}
    parts = []
    for subject in sort_subjects([name for name in names if name in SPLITS]):
        files = [annotations / f"Human36M_subject{subject[1:]}_{what}.json" for what in ("data", "camera", "joint_3d")]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            skipped.append((f"Human36M_subject{subject[1:]}", f"{', '.join(missing)} is not there: left out"))
            continue
        if smpl[subject] is None and any(smpl.values()):
            skipped.append((f"Human36M_subject{subject[1:]}_smpl_param.json", "is not there: no SMPL of this subject"))
        arguments = (*files, smpl[subject], subject, root, stride)
        parts.append(Part(f"human36m_{subject}", read_subject, arguments, tuple(filter(None, (*files, smpl[subject])))))
    skipped += [
        (f"{name}: all files", "not a subject of the published splits") for name in sorted(names - SPLITS.keys())
    ]
    facts = {
        "skeletons": {"keypoints_3d": SKELETON, "keypoints_2d_gt": SKELETON},
        "stride": stride,
        "box_rule": "keypoints",
        "boxes": "of the annotation; if those are 1.2 times the joints' as in the published files, of the joints",
        "keypoints_2d_gt": "projected without distortion, as the files' users do it",
        "intrinsics": "of the files",
        "smpl": "pose with the root in the camera frame; translation_world and extrinsics: R (trans + J0) + t - J0",
    }
    return parts, facts, skipped, root


def read_subject(
    data: Path, camera: Path, joints: Path, smpl: Path | None, subject: str, images: Path | None, stride: int
) -> Rows:
    """All sequences of a subject; see `preparation.Rows`.

    Args:
        data, camera, joints, smpl: its files.
        subject: as in `SPLITS`.
        images: their folder, if they are wanted.
        stride: frames whose number it divides are kept.
    """
    skipped: list[tuple[str, str]] = []
    faults = Faults(data.name)
    cameras, positions = _read(camera), _read(joints)
    try:
        parameters = _read(smpl) if smpl is not None else {}
    except InputError as error:
        skipped.append((str(smpl), str(error)))
        parameters = {}
    frames = _read_frames(_read(data), subject, faults)
    sequences = []
    for key in sorted(frames):
        action, take, number = key
        world = _frames_of_take(positions, action, take)
        fitted = _frames_of_take(parameters, action, take)
        try:
            sequence = _sequence(key, frames[key], cameras, world, fitted, subject, stride, images, faults)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"camera {number} is missing" if str(number) not in cameras else f"cannot be read ({error!r})"
            skipped.append((f"{camera.name}: action {action}, take {take}", f"{reason}: left out"))
            continue
        if sequence is not None:
            sequences.append(sequence)
    return concatenate(sequences, skipped + faults.lines())


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, expected a dictionary")
    return content


def _read_frames(
    content: dict[str, Any], subject: str, faults: Faults
) -> dict[tuple[int, int, int], dict[int, tuple[dict, dict]]]:
    """Image and annotation by (action, take, camera) and frame."""
    images: dict[Any, dict] = {}
    for image in content.get("images", []):
        if image.get("id") in images:
            faults.add(
                f"image {image.get('file_name', image.get('id'))}", "an image of this id was there before; left out"
            )
        else:
            images[image.get("id")] = image
    frames: dict[tuple[int, int, int], dict[int, tuple[dict, dict]]] = defaultdict(dict)
    seen = set()
    for annotation in content.get("annotations", []):
        name = f"annotation {annotation.get('id')}"
        image = images.get(annotation.get("image_id"))
        if annotation.get("id") in seen:
            faults.add(name, "an annotation of this id was there before; left out")
        elif image is None:
            faults.add(name, "its image_id is not among the images; left out")
        else:
            seen.add(annotation.get("id"))
            try:
                key = (int(image["action_idx"]), int(image["subaction_idx"]), int(image["cam_idx"]))
                frame = int(image["frame_idx"])
            except (KeyError, TypeError, ValueError):
                faults.add(f"image {image.get('file_name', name)}", "it has no action, take, camera or frame; left out")
                continue
            if frame in frames[key]:
                faults.add(name, "its image has an annotation already; left out")
            elif (subject, *key[:2]) != _LEFT_OUT:
                frames[key][frame] = (image, annotation)
    return {key: found for key, found in frames.items() if found}


def _frames_of_take(content: dict[str, Any], action: int, take: int) -> dict[str, Any]:
    """What belongs to a take of an action; nothing if it is not there."""
    takes = content.get(str(action))
    frames = takes.get(str(take)) if isinstance(takes, dict) else None
    return frames if isinstance(frames, dict) else {}


def _sequence(
    key: tuple[int, int, int],
    found: dict[int, tuple[dict, dict]],
    cameras: dict[str, Any],
    positions: dict[str, Any],
    parameters: dict[str, Any],
    subject: str,
    stride: int,
    images: Path | None,
    faults: Faults,
) -> Rows | None:
    """One action from one camera; None if no frame has joints."""
    action, take, number = key
    name = _ACTIONS[action - 2] if 2 <= action < 2 + len(_ACTIONS) else f"Action{action}"
    facts = sequence_facts(subject, f"{name} take{take}", CAMERAS[number - 1] if 0 < number < 5 else f"camera{number}")
    given = cameras[str(number)]
    rotation, shift = np.array(given["R"], float).reshape(3, 3), np.array(given["t"], float).reshape(3) / 1000.0
    focal, centre = np.array(given["f"], float).reshape(2), np.array(given["c"], float).reshape(2)
    frames, joints = [], []
    for frame in sorted(frame for frame in found if frame % stride == 0):
        try:
            joints.append(numbers(positions, str(frame), (17, 3)))
            frames.append(frame)
        except InputError:
            faults.add(f"image {found[frame][0].get('file_name', frame)}", "it has no 17 joints in joint_3d; left out")
    if not frames:
        return None
    metres = to_camera(np.stack(joints) / 1000.0, rotation, shift)
    if np.nanmedian(metres[..., 2]) <= 0:
        faults.add(facts["name"], "the person is behind the camera (is t its position?); left out")
        return None
    exact = with_validity(project_pinhole(metres, focal, centre))
    size = [(found[frame][0].get("width", np.nan), found[frame][0].get("height", np.nan)) for frame in frames]
    files = [str(found[frame][0].get("file_name", "")) for frame in frames]
    missing = set(files) if images is None else missing_files(images, files)
    have = np.array([file not in missing for file in files])
    arrays = {
        "frame": np.array(frames, np.int32),
        "keypoints_3d": with_validity(metres),
        "keypoints_2d_gt": exact,
        "focal": np.tile(focal, (len(frames), 1)),
        "principal_point": np.tile(centre, (len(frames), 1)),
        "image_size": np.array(size, np.float32),
        "bounds": _bounds([found[frame][1] for frame in frames], bounds_of(exact[..., :2], exact[..., 2] > 0)),
        "extrinsics": np.tile(np.concatenate((rotation, shift[:, None]), axis=1), (len(frames), 1, 1)),
        **_smpl([parameters.get(str(frame)) for frame in frames], rotation, faults, facts["name"]),
    }
    kept: list[str] = []
    counts = {"rows with SMPL": int(arrays["has_smpl"].sum())}
    if images is not None:
        for file in sorted(missing):
            faults.add(f"image {file}", "the file is missing; joints are kept")
        arrays["picture"] = np.where(have, np.cumsum(have) - 1, -1).astype(np.int32)
        kept = [file for file, there in zip(files, have, strict=True) if there]
        counts["frames without an image"] = int((~have).sum())
    return sequence_rows(facts, arrays, f"{subject}: {facts['name']}", len(found), kept, counts)


def _smpl(entries: list[Any], rotation: np.ndarray, faults: Faults, where: str) -> dict[str, np.ndarray]:
    """Columns of SMPL; zeros where it was not fitted."""
    number = len(entries)
    poses, betas = np.zeros((number, 24, 3)), np.zeros((number, 10))
    translation, known = np.zeros((number, 3)), np.zeros(number, bool)
    for row, entry in enumerate(entries):
        if entry is None:
            continue
        try:
            poses[row], betas[row] = finite_numbers(entry, "pose", (24, 3)), finite_numbers(entry, "shape", (10,))
            translation[row], known[row] = finite_numbers(entry, "trans", (3,)), True
        except InputError:
            poses[row], betas[row] = 0.0, 0.0
            faults.add(where, "SMPL parameters are not 72, 10 and 3 numbers; not used")
    turned = Rotation.from_matrix(rotation) * Rotation.from_rotvec(poses[known, 0])
    poses[known, 0] = turned.as_rotvec()
    return {"poses": poses, "betas": betas, "translation_world": translation, "has_smpl": known}


def _bounds(annotations: list[dict[str, Any]], joints: np.ndarray) -> np.ndarray:
    """(N, 4) boxes of the annotations, before any scale."""
    xywh = np.full((len(annotations), 4), np.nan)
    for row, annotation in zip(xywh, annotations, strict=True):
        with suppress(InputError):
            row[:] = finite_numbers(annotation, "bbox", (4,))
    known = (xywh[:, 2:] > 0).all(axis=1)
    if not known.any():
        return joints
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nanmedian(xywh[known, 2:] / (joints[known, 2:] - joints[known, :2]))
    if _ENLARGED[0] < ratio < _ENLARGED[1]:
        return joints
    boxes_given = np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1)
    return np.where(np.expand_dims(known, 1), boxes_given, joints).astype(np.float32)
