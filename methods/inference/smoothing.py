"""Answers over time: one shape for each identity, and smooth motion in each unbroken clip of a person.

Shape letters: T poses.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import roma
import torch
from jaxtyping import Bool

from methods.inference.inputs import FPS
from methods.inference.motions import record_of
from noise2pose import cameras
from noise2pose.annotation.layout import SKELETON, reprojection_errors
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.export.motion import one_shape
from noise2pose.keypoints.arrays import Keypoints
from noise2pose.keypoints.timeline import timeline_of
from noise2pose.keypoints.tracks import Track, tracks
from noise2pose.motion.filters import Filter
from noise2pose.motion.measures import in_words, smoothness
from noise2pose.motion.smoothing import smooth_joints, smooth_rotations

if TYPE_CHECKING:
    from methods.inference.lifting import Lifted


def clips_of(read: Keypoints) -> list[Track]:
    """The unbroken motion of each person; none where nothing says who is who."""
    try:
        return [track for track in tracks(read, FPS) if len(track.rows) > 1]
    except InputError:
        return []


def smooth_lifted(
    lifted: "Lifted", clips: Sequence[Track], seen: Bool[np.ndarray, " T"], filter_: Filter
) -> tuple["Lifted", str]:
    """Smooths the joints of a lifter; also what that did, in words.

    Args:
        lifted: poses relative to their root, which stays at the origin.
        clips: with the poses that are smoothed; the others stay.
        seen: poses of somebody who was detected.
        filter_: of `noise2pose.motion.filters`.
    """
    arrays = {key: value.numpy().copy() for key, value in lifted._asdict().items() if value is not None}
    done = []
    for rows, times in _arrays(clips):
        before = arrays["joints_3d"][rows]
        spread = [arrays[key][rows] if key in arrays else None for key in ("uncertainty", "hypotheses")]
        smooth = smooth_joints(filter_, before, times, seen[rows], *spread)
        arrays["joints_3d"][rows] = smooth.joints
        if smooth.uncertainty is not None:
            arrays["uncertainty"][rows] = smooth.uncertainty
        if smooth.hypotheses is not None:
            arrays["hypotheses"][rows] = smooth.hypotheses
        done.append(smoothness(before, smooth.joints, times, smooth.outliers, filter_.passes_all(times)))
    return lifted._replace(**{key: torch.from_numpy(value) for key, value in arrays.items()}), in_words(filter_, done)


def settle_bodies(
    arrays: Mapping[str, np.ndarray], body: BodyModel, fps: float | None, filter_: Filter | None
) -> tuple[dict[str, np.ndarray], str]:
    """Gives the bodies of each identity one shape, and smooths their motion; also what both did, in words.

    Where nothing says who is who, and somebody is in motion, only smoothing makes them one person.

    Args:
        arrays: of `noise2pose.annotation.layout.ARRAYS`.
        body: whose parameters they are.
        fps: frames of the video in a second; None where it is unknown.
        filter_: of `noise2pose.motion.filters`; None for no smoothing.
    """
    settled = {key: np.array(value) for key, value in arrays.items()}
    if not len(settled["names"]):
        return settled, "" if filter_ is None else in_words(filter_, [])
    record = record_of(arrays, fps)
    finite = np.asarray(np.isfinite(np.concatenate((settled["poses"], settled["trans"]), axis=1)).all(axis=1))
    clips = (
        []
        if filter_ is None
        else [(rows[finite[rows]], times[finite[rows]]) for rows, times in _arrays(clips_of(record))]
    )
    clips = [(rows, times) for rows, times in clips if len(rows) > 1]
    known = _identities(record, finite)
    changed = [*known, *(rows for rows, _ in clips if record.people[rows[0]] is None)]
    for rows in changed:
        shaped = one_shape(body, _rotations(settled, rows), settled["betas"][rows], settled["trans"][rows])
        settled["betas"][rows], settled["trans"][rows] = shaped.betas, shaped.translation
    recompute(settled, body, changed)
    _place(settled, body, changed)
    shaped = _cost(arrays, settled, known)
    if filter_ is None:
        return settled, shaped
    done = []
    for rows, times in clips:
        before, seen = settled["joints_3d"][rows], np.asarray(settled["observed"][rows].any(axis=1))
        rotations, turned = smooth_rotations(filter_, _rotations(settled, rows), times, seen)
        places = smooth_joints(filter_, settled["trans"][rows][:, None], times, seen)
        settled["poses"][rows] = roma.rotmat_to_rotvec(torch.from_numpy(rotations)).flatten(1).numpy()
        settled["trans"][rows] = places.joints[:, 0]
        recompute(settled, body, [rows])
        outliers, unchanged = turned + places.outliers, filter_.passes_all(times)
        done.append(smoothness(before, settled["joints_3d"][rows], times, outliers, unchanged))
    assumed = " (assumed)" if done and record.fps is None and not record.times else ""
    smoothed = in_words(filter_, done) + (f", at {FPS:g} frames a second{assumed}" if assumed else "")
    return settled, "; ".join(filter(None, (smoothed, shaped)))


def _arrays(clips: Sequence[Track]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and seconds of the clips with a motion."""
    return [(np.array(clip.rows), np.array(clip.times)) for clip in clips if len(clip.rows) > 1]


def _identities(record: Keypoints, finite: np.ndarray) -> list[np.ndarray]:
    """The rows of each person of a video whose identity is known."""
    videos = timeline_of(record, FPS).videos
    people: dict[tuple[str, str], list[int]] = {}
    for row in np.flatnonzero(finite):
        person = record.people[row]
        if person is not None:
            people.setdefault((videos[row], person), []).append(int(row))
    return [np.array(rows) for rows in people.values()]


def _rotations(arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    return roma.rotvec_to_rotmat(torch.from_numpy(arrays["poses"][rows]).unflatten(-1, (-1, 3))).numpy()


def _cost(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], known: Sequence[np.ndarray]) -> str:
    """How much worse bodies of one shape fit their keypoints than those of a shape for each frame."""
    rows = np.concatenate(known) if known else np.zeros(0, dtype=int)
    errors = np.stack([each["reprojection_after"][rows] for each in (before, after)])
    seen = np.isfinite(errors).all(axis=0)
    if not seen.any():
        return ""
    old, new = errors[:, seen].mean(axis=1)
    return f"one shape for each identity: mean reprojection error {old:.1f} -> {new:.1f} pixels"


def _place(arrays: dict[str, np.ndarray], body: BodyModel, changed: Sequence[np.ndarray]) -> None:
    """Moves bodies whose shape is another now to where they fit their keypoints; who fits no better stays."""
    if not changed:
        return
    rows = np.concatenate(changed)
    names = ("keypoints_2d", "camera_focal", "camera_principal_point")
    points, focal, centre = (torch.from_numpy(arrays[key][rows]) for key in names)
    joints = torch.from_numpy(arrays["joints_3d"][rows] - arrays["trans"][rows][:, None])
    moved = cameras.fit_translation(joints, points[..., :2], points[..., 2], focal, centre)
    in_front = (joints[..., 2] + moved[:, None, 2]).amin(dim=1) > 0
    errors = reprojection_errors(joints + moved[:, None], points, focal, centre).numpy()
    chosen = rows[in_front.numpy() & (errors < arrays["reprojection_after"][rows])]
    arrays["trans"][chosen] = moved.numpy()[np.isin(rows, chosen)]
    recompute(arrays, body, [chosen])


@torch.no_grad()
def recompute(arrays: dict[str, np.ndarray], body: BodyModel, changed: Sequence[np.ndarray]) -> None:
    """Computes what follows from the parameters of some people again."""
    if not changed:
        return
    rows = np.concatenate(changed)
    rotations = torch.from_numpy(_rotations(arrays, rows)).to(body.template)
    betas, translation = (torch.from_numpy(arrays[key][rows]).to(body.template) for key in ("betas", "trans"))
    joints = body.joints(rotations[:, 0], rotations[:, 1:], betas, translation, regressor=SKELETON).cpu()
    arrays["joints_3d"][rows] = joints.numpy()
    names = ("keypoints_2d", "camera_focal", "camera_principal_point")
    arrays["reprojection_after"][rows] = reprojection_errors(
        joints, *(torch.from_numpy(arrays[key][rows]) for key in names)
    )
