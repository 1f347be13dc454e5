"""What every clip of synthetic motion shares: joint angles over time, joint limits, contact with the ground.

The lowest foot, knee or hand stays where it is, and the body moves around it, so a standing foot does not slide. In
flight the body's height follows gravity.

Angles are degrees about the axes of SMPL's rest pose (T-pose, y up, facing +z, +x left) and make up Rx Ry Rz: hips bend
forward with -x, knees with +x; the left arm comes down with -z, the right with +z, then swings forward with -x; left
elbows bend with -y, right with +y.

Shape letters: F frames.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from noise2pose import skeletons
from noise2pose.bodies import BodyModel

GRAVITY = 9.81
FPS = 50
Array = NDArray[np.float64]

_JOINTS = {name: number for number, name in enumerate(skeletons.get("smpl_24").joints)}
FEET = tuple(_JOINTS[name] for name in ("left_ankle", "right_ankle", "left_foot", "right_foot"))
ON_ALL_FOURS = tuple(
    _JOINTS[f"{side}_{part}"] for part in ("knee", "ankle", "foot", "wrist", "hand") for side in ("left", "right")
)
# Degrees about x, y, z on the left side; y and z change sign on the right.
LIMITS = {
    "hip": ((-125, 35), (-45, 45), (-25, 60)),
    "knee": ((0, 150), (-10, 10), (-10, 10)),
    "ankle": ((-45, 50), (-25, 25), (-25, 25)),
    "foot": ((-40, 10), (-5, 5), (-5, 5)),
    "spine1": ((-15, 35), (-20, 20), (-15, 15)),
    "spine2": ((-15, 35), (-20, 20), (-15, 15)),
    "spine3": ((-15, 30), (-25, 25), (-15, 15)),
    "neck": ((-30, 40), (-45, 45), (-25, 25)),
    "skull_base": ((-25, 30), (-35, 35), (-20, 20)),
    "collar": ((-15, 15), (-25, 15), (-10, 30)),
    "shoulder": ((-180, 60), (-100, 90), (-100, 80)),
    "elbow": ((-60, 60), (-150, 5), (-45, 45)),
    "wrist": ((-60, 60), (-40, 40), (-70, 70)),
    "hand": ((-15, 15), (-15, 15), (-70, 20)),
}


class ClipAngles:
    """The angles of a clip while an activity sets them.

    Args:
        num_frames: F.
        fps: frames per second.
        random: source of the clip's style.
    """

    def __init__(self, num_frames: int, fps: float, random: np.random.Generator) -> None:
        self.time = np.arange(num_frames) / fps
        self.random = random
        self.angles = np.zeros((num_frames, len(_JOINTS), 3))
        self.turn = np.zeros((num_frames, 3))  # pitch, yaw, roll of the pelvis
        self.lift = np.zeros(num_frames)  # height above the ground in flight
        self.contacts = FEET
        for side in ("left", "right"):
            self.add(f"{side}_shoulder", z=-72 + random.normal(0, 4), x=random.normal(0, 4))
            self.add(f"{side}_elbow", y=-random.uniform(5, 25))
            self.add(f"{side}_hip", z=random.uniform(0, 5))
            self.add(f"{side}_hand", z=-random.uniform(0, 25))

    def uniform(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def side(self) -> str:
        return "left" if self.random.random() < 0.5 else "right"

    def add(self, joint: str, x: float | Array = 0.0, y: float | Array = 0.0, z: float | Array = 0.0) -> None:
        """Adds angles in degrees; on the right side they are given as for the left and mirrored."""
        mirror = -1.0 if joint.startswith("right_") else 1.0
        for axis, value in enumerate((x, mirror * np.asarray(y), mirror * np.asarray(z))):
            self.angles[:, _JOINTS[joint], axis] += value

    def swing(self, frequency: float, phase: float = 0.0) -> Array:
        """A sine between -1 and 1."""
        return np.sin(2.0 * np.pi * (frequency * self.time + phase))

    def pulse(self, start: float, rise: float, hold: float, fall: float) -> Array:
        """0, then smoothly to 1, held, and back; seconds."""
        up = smooth((self.time - start) / rise)
        return up * (1.0 - smooth((self.time - start - rise - hold) / fall))

    def pulses(self, period: float, rise: float, hold: float, fall: float, offset: float = 0.0) -> Array:
        """`pulse`, repeated."""
        starts = np.arange(offset - period, self.time[-1] + period, period)
        return np.clip(sum(self.pulse(start, rise, hold, fall) for start in starts), 0.0, 1.0)

    def bend(self, depth: Array | float, lean: float = 0.5) -> None:
        """Bends hips, knees and ankles so that the feet stay flat below; depth 1 is a right angle at the knees."""
        for side in ("left", "right"):
            self.add(f"{side}_hip", x=-70.0 * depth)
            self.add(f"{side}_knee", x=100.0 * depth)
            self.add(f"{side}_ankle", x=-30.0 * depth)
        self.turn[:, 0] += 40.0 * lean * depth
        for side in ("left", "right"):
            self.add(f"{side}_hip", x=-40.0 * lean * depth)


def smooth(share: Array) -> Array:
    """From 0 to 1 without jerk."""
    share = np.clip(share, 0.0, 1.0)
    return share * share * share * (10.0 - 15.0 * share + 6.0 * share * share)


def ground(rotations: Array, betas: Array, clip: ClipAngles) -> Array:
    """(F, 3) translation that holds the lowest contact still and on the ground, plus the flight."""
    matrices = torch.from_numpy(rotations)
    body = _free_body()
    shape = torch.from_numpy(betas).expand(len(matrices), -1)
    joints = body.joints(matrices[:, 0], matrices[:, 1:], shape, regressor="smpl_24").numpy()[:, clip.contacts]
    rest = body.rest_joints(torch.from_numpy(betas)).numpy()
    # How high each contact joint is when its part of the body touches the ground.
    sole = rest[list(FEET), 1] - rest[:, 1].min() + 0.02
    above = sole if clip.contacts == FEET else np.full(len(clip.contacts), 0.05)
    height = joints[..., 1] - above
    supporting = height.argmin(axis=1)
    rows = np.arange(1, len(joints))
    # The joint that supports this frame was somewhere in the last one; the body moves by what it moved, backwards.
    moved = joints[rows, supporting[1:]] - joints[rows - 1, supporting[1:]]
    step = -moved[:, [0, 2]]
    airborne = clip.lift[1:] > 1e-6
    if airborne.any() and not airborne.all():  # in flight the body keeps the speed that it had on the ground
        step[airborne] = step[~airborne].mean(axis=0)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(step, axis=0)])
    vertical = -height.min(axis=1) + clip.lift
    return np.stack([path[:, 0], vertical, path[:, 1]], axis=-1)


def wander(clip: ClipAngles, degrees: float) -> Array:
    """(F, 24, 3) slow random movements: three sines below 0.8 Hz for each angle."""
    shape = (3, len(_JOINTS), 3)
    frequency, phase = clip.random.uniform(0.1, 0.8, shape), clip.random.uniform(0, 1, shape)
    amplitude = clip.random.normal(0, degrees / np.sqrt(3), shape)
    time = clip.time[:, None, None, None]
    return (amplitude * np.sin(2 * np.pi * (frequency * time + phase))).sum(axis=1)


def limited(angles: Array) -> Array:
    """Angles within `LIMITS`."""
    result = angles.copy()
    for joint, number in _JOINTS.items():
        kind = joint.removeprefix("left_").removeprefix("right_")
        if kind in LIMITS:
            low, high = np.array(LIMITS[kind], dtype=float).T
            if joint.startswith("right_"):
                low, high = np.array([low[0], -high[1], -high[2]]), np.array([high[0], -low[1], -low[2]])
            result[:, number] = np.clip(angles[:, number], low, high)
    return result


def euler(degrees: Array) -> Array:
    """Rx Ry Rz of angles (..., 3)."""
    x, y, z = np.moveaxis(np.radians(degrees), -1, 0)
    one, zero = np.ones_like(x), np.zeros_like(x)

    def matrix(rows: list[list[Array]]) -> Array:
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    about_x = matrix([[one, zero, zero], [zero, np.cos(x), -np.sin(x)], [zero, np.sin(x), np.cos(x)]])
    about_y = matrix([[np.cos(y), zero, np.sin(y)], [zero, one, zero], [-np.sin(y), zero, np.cos(y)]])
    about_z = matrix([[np.cos(z), -np.sin(z), zero], [np.sin(z), np.cos(z), zero], [zero, zero, one]])
    return about_x @ about_y @ about_z


@cache
def _free_body() -> BodyModel:
    return BodyModel.load("free", dtype=torch.float64)
