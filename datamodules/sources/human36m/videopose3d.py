"""Human3.6M in the npz files of VideoPose3D, as every lifting method uses it.

data_3d_h36m.npz           positions_3d: subject -> action -> (T, 32, 3) metres in the world
data_2d_h36m_gt.npz        positions_2d: subject -> action -> four cameras of (T', 17, 2) pixels, T' >= T
data_2d_h36m_DETECTOR.npz  the same of a detector; DiffPose's *_gmm.npz have (T', 17, M, 5) mixtures

Shape letters: T frames, J joints, M components.
"""

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.preparation import Part, Rows, concatenate
from datamodules.sources.common.joints import bounds_of, camera_columns, with_validity
from datamodules.sources.human36m.cameras import CAMERAS, INTRINSICS, extrinsics, project, to_camera
from datamodules.sources.human36m.sequences import (
    JOINTS_OF_32,
    SKELETON,
    SPLITS,
    is_left_out,
    sequence_facts,
    sequence_rows,
    sort_actions,
    sort_subjects,
    unify_action,
)
from noise2pose.errors import InputError
from noise2pose.safe_pickle import read_object_npz
from noise2pose.skeletons import convert

POSITIONS, KEYPOINTS = "data_3d_h36m.npz", "data_2d_h36m_{}.npz"
_PREFERRED = "cpn_ft_h36m_dbb"
_FARTHEST = 30.0  # metres; the laboratory is smaller
_FARTHEST_2D = 50.0  # pixels, median; no detector is so bad, and joints in another order are about 170 off
_COMPARED = 100  # frames
_SAME_PLACE = 25.0  # pixels, about 6 cm: components that are closer are of one peak and differ by chance
_COCO_LEFT = [1, 3, 5, 7, 9, 11, 13, 15]  # keypoints_symmetry of files in COCO's order
_H36M_LEFT = [4, 5, 6, 11, 12, 13]


def detectors(folder: Path) -> list[str]:
    """Names of the detectors whose files are there, the one that papers use first."""
    prefix, suffix = KEYPOINTS.split("{}")
    names = [path.name.removeprefix(prefix).removesuffix(suffix) for path in sorted(folder.glob(KEYPOINTS.format("*")))]
    names = [name for name in names if name not in ("gt", "gt_gmm")]
    return sorted(names, key=lambda name: (name != _PREFERRED, name.endswith("_gmm"), name))


def plan_parts(folder: Path, detector: str | None) -> tuple[list[Part], dict[str, Any], list[tuple[str, str]]]:
    """A part for each subject, facts, and what is wrong with the files.

    Args:
        folder: where `data_3d_h36m.npz` is.
        detector: whose detections are wanted; None for the first of `detectors`, if there is one.

    Raises:
        InputError: if the 3-D file cannot be read or the detector's is not there.
    """
    skipped: list[tuple[str, str]] = []
    positions = _read(folder / POSITIONS, "positions_3d")
    known = detectors(folder)
    if detector is not None and not (folder / KEYPOINTS.format(detector)).is_file():
        raise InputError(f"--detector {detector}: {folder} has no such file; it has {', '.join(known) or 'none'}")
    detector = detector or (known[0] if known else None)
    sources = {"gt": folder / KEYPOINTS.format("gt")}
    skeletons = {"keypoints_3d": SKELETON, "keypoints_2d_gt": SKELETON}
    if detector is not None:
        sources["detected"] = folder / KEYPOINTS.format(detector)
    for kind, path in list(sources.items()):
        try:
            if path.is_file():
                skeleton = _skeleton(path, positions)
                skeletons[f"keypoints_2d_{kind}"] = skeleton
                if kind == "gt" and skeleton != SKELETON:
                    raise InputError(f"{path}: it is {skeleton}, expected {SKELETON}")
                continue
        except InputError as error:
            skipped.append((path.name, str(error)))
            detector = None if kind == "detected" else detector
        del sources[kind]
    files = (folder / POSITIONS, *sources.values())
    parts = []
    for subject in sort_subjects([name for name in positions if name in SPLITS]):
        arguments = (folder / POSITIONS, subject, sources.get("gt"), sources.get("detected"))
        parts.append(Part(f"human36m_{subject}", read_subject, arguments, files))
    skipped += [
        (f"{POSITIONS}: {name}", "no pose of its cameras is published") for name in positions if name not in SPLITS
    ]
    facts = {
        "skeletons": {name: skeleton for name, skeleton in skeletons.items() if detector or "detected" not in name},
        "detector": detector,
        "other_detectors": [name for name in known if name != detector],
        "box_rule": "keypoints",
        "keypoints_2d_gt": f"as in {sources['gt'].name}" if "gt" in sources else "projected with the whole distortion",
    }
    return parts, facts, skipped


def read_subject(positions: Path, subject: str, gt: Path | None, detected: Path | None) -> Rows:
    """All actions of a subject from all cameras; see `preparation.Rows`.

    Args:
        positions: the 3-D file.
        subject: whose.
        gt: file of exact 2-D joints; without, they are projected.
        detected: file of detected ones, or none.
    """
    skipped: list[tuple[str, str]] = []
    joints = _actions(_read(positions, "positions_3d")[subject], f"{positions.name}: {subject}", skipped)
    sources: dict[str, tuple[Path, dict[str, Any]]] = {}
    for kind, path in (("gt", gt), ("detected", detected)):
        if path is not None:
            found = _read(path, "positions_2d").get(subject, {})
            sources[kind] = path, _actions(found, f"{path.name}: {subject}", skipped)
    sequences = []
    for action in sort_actions([name for name in joints if not is_left_out(subject, name)]):
        where = f"{positions.name}: {subject}/{action}"
        world = np.asarray(joints[action])
        if world.ndim != 3 or world.shape[1:] not in ((32, 3), (17, 3)) or world.dtype.kind != "f":
            skipped.append((where, f"found {world.dtype} {world.shape}, expected (T, 32, 3) numbers"))
            continue
        if float(np.nanmedian(np.abs(world))) > _FARTHEST:
            skipped.append(
                (where, "coordinates of tens of metres and more; expected metres, these look like millimetres")
            )
            continue
        if world.shape[1] == 32:
            world = world[:, JOINTS_OF_32]
        given = {
            kind: _cameras(f"{path.name}: {subject}/{action}", actions.get(action), len(world), skipped)
            for kind, (path, actions) in sources.items()
        }
        for number, camera in enumerate(CAMERAS):
            views = {kind: None if found is None else found[number] for kind, found in given.items()}
            sequences.append(_view(subject, action, camera, world, views, where))
    return concatenate(sequences, skipped)


def _view(
    subject: str, action: str, camera: str, world: np.ndarray, given: dict[str, np.ndarray | None], where: str
) -> Rows:
    """One camera of an action. Where the exact 2-D joints are not given they are projected."""
    in_camera, lens = to_camera(world, *extrinsics(subject, camera)), INTRINSICS[camera]
    exact = given.get("gt")
    if exact is None:
        exact = with_validity(project(in_camera, lens))
    arrays = {
        "frame": np.arange(len(world), dtype=np.int32),
        "keypoints_3d": with_validity(in_camera),
        "keypoints_2d_gt": exact,
        "bounds": bounds_of(exact[..., :2], exact[..., 2] > 0),
        **camera_columns(lens.focal, lens.principal_point, lens.size, len(world)),
    }
    if "detected" in given:
        found = given["detected"]
        arrays["keypoints_2d_detected"] = np.zeros((len(world), 17, 3), np.float32) if found is None else found
    return sequence_rows(sequence_facts(subject, action, camera), arrays, where, annotated=len(world))


def _cameras(where: str, found: Any, length: int, skipped: list[tuple[str, str]]) -> list[np.ndarray] | None:
    """(T, 17, 3) pixels and confidence of each camera, cut to the length of the motion; None if they are not there."""
    if not isinstance(found, list | tuple | np.ndarray) or len(found) != len(CAMERAS):
        number = f"{len(found)} cameras" if isinstance(found, list | tuple | np.ndarray) else "nothing"
        skipped.append((where, f"found {number}, expected {len(CAMERAS)} cameras: 2-D joints are missing"))
        return None
    views = []
    for camera, values in zip(CAMERAS, found, strict=True):
        pixels = np.asarray(values)
        if pixels.ndim == 4 and pixels.shape[-1] == 5:
            pixels = _places(pixels)
        if pixels.ndim != 3 or pixels.shape[1] != 17 or pixels.shape[2] not in (2, 3) or pixels.dtype.kind not in "fiu":
            skipped.append((where, f"camera {camera}: found {pixels.shape}, expected (T, 17, 2): it is missing"))
            pixels = np.zeros((length, 17, 3), np.float32)
        lost = ~np.isfinite(pixels[:length]).all(axis=-1)
        if lost.any():
            first = int(np.argwhere(lost)[0, 0])
            reason = (
                f"camera {camera}: {int(lost.sum())} joints are not finite, the first in frame {first}: not seen there"
            )
            skipped.append((where, reason))
        if len(pixels) < length:
            skipped.append((where, f"camera {camera}: {len(pixels)} frames of {length}: the others have none"))
            pixels = np.concatenate((pixels, np.full((length - len(pixels), *pixels.shape[1:]), np.nan)))
        seen = with_validity(pixels[:length])
        views.append(np.delete(seen, 3, axis=-1) if seen.shape[-1] == 4 else seen)
    return views


def _places(mixtures: np.ndarray) -> np.ndarray:
    """(T, J, 2) pixels of (T, J, M, 5) mixtures: the mean of the components at the place of the heaviest."""
    weights, means = mixtures[..., 0], mixtures[..., 1:3]
    heaviest = np.take_along_axis(means, weights.argmax(axis=-1)[..., None, None], axis=2)
    weights = np.where(np.linalg.norm(means - heaviest, axis=-1) <= _SAME_PLACE, weights, 0.0)[..., None]
    with np.errstate(invalid="ignore"):  # joints that are not finite are named elsewhere
        return (weights * means).sum(axis=2) / weights.sum(axis=2)


def _actions(found: Any, where: str, skipped: list[tuple[str, str]]) -> dict[str, Any]:
    """Actions by their unified names."""
    if not isinstance(found, dict):
        skipped.append((where, "no actions"))
        return {}
    unified: dict[str, Any] = {}
    for name, value in found.items():
        if unify_action(name) in unified:
            skipped.append((f"{where}/{name}", f"a second {unify_action(name)}"))
        else:
            unified[unify_action(name)] = value
    return unified


def _skeleton(path: Path, positions: dict[str, Any]) -> str:
    """The order of the joints of a 2-D file: as its metadata say, else the one that fits the 3-D joints best.

    Warns if the joints are not where the 3-D joints are projected to.

    Raises:
        InputError: if the order is unknown, or not the one that the metadata say.
    """
    stated, distances = _stated_skeleton(path), _distances(path, positions)
    best = min(distances, key=distances.__getitem__, default=SKELETON)
    said = " and ".join(f"{distance:.0f} pixels as {name}" for name, distance in distances.items())
    about = f"{path}: its joints are off the projected ones by {said} (median)"
    if distances.get(best, 0.0) > _FARTHEST_2D:
        print(f"warning: {about}: check that they are pixels of these actions and cameras", file=sys.stderr)
        return stated or SKELETON
    if distances.get(stated or best, 0.0) > _FARTHEST_2D:
        raise InputError(f"{about}, but its metadata say {stated}: correct its metadata")
    return stated or best


def _stated_skeleton(path: Path) -> str | None:
    metadata = read_object_npz(path, only=("metadata",)).get("metadata")
    _read(path, "positions_2d")  # a broken file is named here, and once
    if not isinstance(metadata, dict):
        return None
    left = [int(joint) for joint in (metadata.get("keypoints_symmetry") or [[]])[0]]
    orders = {tuple(_COCO_LEFT): "coco_17", tuple(_H36M_LEFT): SKELETON}
    if tuple(sorted(left)) in orders:
        return orders[tuple(sorted(left))]
    name = str(metadata.get("layout_name", ""))
    if name in ("coco", "h36m"):
        return {"coco": "coco_17", "h36m": SKELETON}[name]
    raise InputError(f"{path}: its joints are in an unknown order (layout {name or 'not named'}, left joints {left})")


def _distances(path: Path, positions: dict[str, Any]) -> dict[str, float]:
    """For each order, how far the joints of a 2-D file are from the projected ones: the median, pixels.

    Of the first camera of the first action that can be compared; empty if there is none.
    """
    for subject, actions in _read(path, "positions_2d").items():
        worlds = _actions(positions.get(subject), subject, []) if subject in SPLITS else {}
        for action, cameras in _actions(actions, subject, []).items():
            world = np.asarray(worlds.get(action, ()))[:_COMPARED]
            if world.ndim != 3 or world.shape[1:] not in ((32, 3), (17, 3)) or world.dtype.kind != "f":
                continue
            found = _cameras(subject, cameras, len(world), [])
            if found is None or float(np.nanmedian(np.abs(world))) > _FARTHEST:
                continue
            world = world[:, JOINTS_OF_32] if world.shape[1] == 32 else world
            exact = project(to_camera(world, *extrinsics(subject, CAMERAS[0])), INTRINSICS[CAMERAS[0]])
            distances = {}
            for order in (SKELETON, "coco_17"):
                joints = convert(torch.from_numpy(found[0]), order, SKELETON, has_confidence=True).numpy()
                seen = (joints[..., 2] > 0) & np.isfinite(exact).all(axis=-1)
                if seen.any():
                    distances[order] = float(np.median(np.linalg.norm(joints[..., :2] - exact, axis=-1)[seen]))
            if distances:
                return distances
    return {}


def _read(path: Path, key: str) -> dict[str, Any]:
    """The dictionary of subjects of a file."""
    return _read_once(path, key, path.stat().st_mtime_ns)


@lru_cache(maxsize=3)  # each process reads the three files once
def _read_once(path: Path, key: str, changed: int) -> dict[str, Any]:
    entries = read_object_npz(path, only=(key,))
    if not isinstance(entries.get(key), dict) or not entries[key]:
        raise InputError(f"{path}: has no {key}, expected a dictionary of subjects")
    return entries[key]
