"""Which way is up, so that people who stand are drawn standing: from the camera's pitch, or from those who stand.

Predicted poses are in the camera's frame (x right, y down, z forward), and seldom is anything known about the camera.
In this order:

1. A given pitch is believed.
2. The straight body of somebody who stands is vertical. The median over all such poses of one camera is the vertical,
   if they agree. Only directions are believed that make the camera an ordinary one, which looks down more often and
   more steeply than up: a straight body on the ground would make it one that looks up steeply, or lies on its side.
3. Otherwise the camera is assumed to be level.

The pitch that poses tell is as wrong as their prediction: a lifter that leans people towards the camera by less than
they are seen from above tells too little, and the people stand nevertheless. The poses themselves stay as they are: a
drawing multiplies with the rotation.

Shape letters: T poses, J joints.
"""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from noise2pose.errors import InputError

if TYPE_CHECKING:
    from noise2pose.skeletons import Skeleton

ASSUMED = "camera assumed level"
_STRAIGHT = 30.0  # degrees between each segment of a body that stands and the line from its ankles to its neck
_DOWN, _UP, _ROLL = 50.0, 30.0, 20.0  # degrees at most that the camera of standing people looks down or up, or rolls
_APART = 10.0  # degrees, median distance of standing poses from their median; beyond, they do not agree
_SHARE = 0.1  # of the poses of a camera that must stand: a few in many may be mistakes
_LEGS = ("hip", "knee", "ankle")


class Levels(NamedTuple):
    """How to level some poses.

    Attributes:
        rotation: (T, 3, 3) from the camera's frame to one with y straight down; it acts on column vectors.
        about: of each pose, where the vertical comes from, in words.
    """

    rotation: Float[np.ndarray, "T 3 3"]
    about: list[str]


def level_poses(
    joints: Float[np.ndarray, "T J 3"],
    observed: Bool[np.ndarray, "T J"],
    skeleton: "Skeleton",
    cameras: Sequence[Hashable],
    camera_pitch: float | None = None,
) -> Levels:
    """Finds the vertical of each camera.

    Args:
        joints: metres in the frame of the camera.
        observed: joints with a keypoint; legs that are made up tell nothing.
        skeleton: of `noise2pose.skeletons`, with a thorax, hips, knees and ankles.
        cameras: T names; poses with equal names are seen by one camera that does not turn.
        camera_pitch: degrees that all cameras look down, negative up; None for what the poses tell.

    Raises:
        InputError: if the pitch is not between -90 and 90.
    """
    count = len(joints)
    if camera_pitch is not None:
        check_pitch(camera_pitch)
        rotation = np.repeat(pitch_rotation(camera_pitch)[None], count, axis=0)
        return Levels(rotation, [f"{_looking(camera_pitch)}, as given"] * count)
    rotation = np.repeat(np.eye(3, dtype=np.float32)[None], count, axis=0)
    about = [ASSUMED] * count
    up, stands = standing_directions(joints, observed, skeleton)
    rows_of: dict[Hashable, list[int]] = {}
    for row, camera in enumerate(cameras):
        rows_of.setdefault(camera, []).append(row)
    for rows in rows_of.values():
        standing = up[rows][stands[rows]]
        if len(standing) == 0 or len(standing) < _SHARE * len(rows):
            continue
        vertical = np.median(standing, axis=0)
        vertical /= np.linalg.norm(vertical)
        if np.median(_degrees(standing, vertical)) > _APART:
            continue
        rotation[rows] = _rotation_of(vertical)
        pitch = np.degrees(np.arctan2(-vertical[2], -vertical[1]))
        who = "this person stands" if len(rows) == 1 else f"{len(standing)} of {len(rows)} poses stand"
        for row in rows:
            about[row] = f"{_looking(float(pitch))} if {who}"
    return Levels(rotation, about)


def standing_directions(
    joints: Float[np.ndarray, "T J 3"], observed: Bool[np.ndarray, "T J"], skeleton: "Skeleton"
) -> tuple[Float[np.ndarray, "T 3"], Bool[np.ndarray, " T"]]:
    """The directions from the ankles to the thorax, unit length, and whether the pose may be of somebody who stands.

    Torso, thighs and shanks must be in line with that direction, which must be plausible as the camera's vertical.

    Args:
        joints, observed, skeleton: as of `level_poses`.
    """
    points = np.asarray(joints, dtype=float)
    sides = {name: [skeleton.index(f"{side}_{name}") for side in ("left", "right")] for name in _LEGS}
    thorax = skeleton.index("thorax")
    hips, knees, ankles = (points[:, sides[name]] for name in _LEGS)  # (T, 2, 3)
    up = _unit(points[:, thorax] - ankles.mean(axis=1))
    torso = points[:, thorax, None] - hips.mean(axis=1, keepdims=True)
    segments = np.concatenate((torso, hips - knees, knees - ankles), axis=1)
    straight = (_degrees(_unit(segments), up[:, None]) <= _STRAIGHT).all(axis=1)
    pitch, roll = (np.degrees(np.arctan2(side, -up[:, 1])) for side in (-up[:, 2], up[:, 0]))
    ordinary = (pitch <= _DOWN) & (pitch >= -_UP) & (np.abs(roll) <= _ROLL)
    seen = observed[:, [*sides["hip"], *sides["knee"], *sides["ankle"], thorax]].all(axis=1)
    return up, straight & ordinary & seen


def check_pitch(camera_pitch: float | None) -> None:
    """Raises an InputError if the pitch is neither None nor between -90 and 90 degrees."""
    if camera_pitch is not None and not -90.0 <= camera_pitch <= 90.0:
        raise InputError(f"camera_pitch is {camera_pitch:g}, expected degrees from -90 (up) to 90 (down)")


def pitch_rotation(camera_pitch: float) -> Float[np.ndarray, "3 3"]:
    """From the frame of a camera that looks down by some degrees to the levelled frame."""
    angle = np.radians(camera_pitch)
    return _rotation_of(np.array([0.0, -np.cos(angle), -np.sin(angle)]))


def summarise(about: Sequence[str]) -> str:
    """One line about how some poses are drawn."""
    different = list(dict.fromkeys(about))
    if len(different) == 1:
        return f"drawn levelled: {different[0]}"
    told = sum(words != ASSUMED for words in about)
    others = f", the others with the {ASSUMED}" if told < len(about) else ""
    return f"drawn levelled: {told} of {len(about)} poses by those who stand{others}"


def _rotation_of(up: np.ndarray) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that turns a unit vector to straight up, (0, -1, 0) (Rodrigues)."""
    x, y, z = np.cross(up, (0.0, -1.0, 0.0))
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return (np.eye(3) + cross + cross @ cross / (1.0 - up[1])).astype(np.float32)


def _looking(pitch: float) -> str:
    degrees = round(abs(pitch))
    if degrees == 0:
        return "camera level"
    return f"camera {degrees} degree{'s' if degrees > 1 else ''} {'down' if pitch > 0 else 'up'}"


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-9)


def _degrees(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Angles between unit vectors."""
    return np.degrees(np.arccos((np.asarray(a) * np.asarray(b)).sum(axis=-1).clip(-1.0, 1.0)))
