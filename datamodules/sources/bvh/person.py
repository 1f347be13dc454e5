"""Human3.6M-17 joints in metres and z up from a BVH motion, whose file says neither its unit nor which way is up.

Shape letters: F frames, J joints.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from datamodules.sources.bvh import skeletons
from datamodules.sources.bvh.format import Motion, forward_kinematics, resampled
from datamodules.sources.common.motion import FPS
from noise2pose.errors import InputError

UNITS = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "foot": 0.3048, "cmu": 0.0254 / 0.45}
_LEG, _SHORTEST, _LONGEST = 0.84, 0.62, 1.10  # metres from hip to ankle: of an adult, and within which a unit is taken
_HEAD = 0.18  # metres from the joint of the head to its top, where a skeleton ends with the joint
# Rotations that turn an axis up.
_TURNS = {
    "x": np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    "y": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "z": np.eye(3),
}
_LOOKED_AT = 20  # frames at the start
_JUMP = 0.02  # of the distance from the root to the farthest joint
_BACKWARDS = -0.01  # metres
_FLOOR = 0.35  # metres above the lowest ankle that somebody whose feet touch the ground stays within


class Person(NamedTuple):
    """A motion at 50 Hz.

    Attributes:
        joints: (F, 17, 3) metres, z up.
        facts: for the sequence: skeleton, unit and up axis of the file, what was estimated or mended.
    """

    joints: np.ndarray
    facts: dict[str, object]


def joints_of_motion(
    motion: Motion, file: str, fps: float, joint_map: dict[str, str] | None, unit: str | None, up: str | None
) -> Person:
    """Joints of a person.

    Args:
        motion: of `format.parse`.
        file: its name, for messages.
        fps: frame rate.
        joint_map: of `skeletons.read_map`; None for skeletons that are known.
        unit: of lengths, a name of `UNITS`; None to tell it from the length of the legs.
        up: axis; None to tell it from where the head and the feet are.

    Raises:
        InputError: if the skeleton is not known, its size or up axis is no person's, or its sides are exchanged.
    """
    family, places = skeletons.find(motion.names, joint_map, file)
    facts: dict[str, object] = {"skeleton": family, "source_fps": round(fps, 3)}
    if _first_is_added(motion):
        motion = motion._replace(places=motion.places[1:], rotations=[own[1:] for own in motion.rotations])
        facts["left_out"] = "the first frame, from which all joints jump"
    if family == skeletons.CMU and (mended := _with_thorax(motion)) is not None:
        motion = mended
        facts["mended"] = "the thorax bone, which the conversion lost, is as long as the one below it"
    everything = forward_kinematics(resampled(motion, fps, FPS))
    joints = np.full((len(everything), len(skeletons.JOINTS), 3), np.nan)
    for joint, place in places.items():
        joints[:, skeletons.JOINTS.index(joint)] = everything[:, place]
    name = unit or _unit_of(joints, file)
    joints = joints * UNITS[name]
    top, chin, thorax = (skeletons.JOINTS.index(joint) for joint in (skeletons.HEAD_TOP, "chin", "thorax"))
    if not np.linalg.norm(joints[:, top] - joints[:, chin], axis=-1).mean() > 0.02:  # NaN without a head top
        neck = joints[:, chin] - joints[:, thorax]
        joints[:, top] = joints[:, chin] + _HEAD * neck / np.linalg.norm(neck, axis=-1, keepdims=True)
        facts["estimated"] = f"the head top, {100 * _HEAD:.0f} cm above the head's joint along the neck"
    axis = up or _up_axis(joints, file)
    joints = joints @ _TURNS[axis].T
    _check_sides(joints, file)
    return Person(joints, facts | {"unit": name, "up": axis} | _doubt(joints))


def _first_is_added(motion: Motion) -> bool:
    """Whether the joints jump after the first frame, as they do after a T-pose that an exporter put there."""
    start = motion._replace(places=motion.places[:_LOOKED_AT], rotations=[own[:_LOOKED_AT] for own in motion.rotations])
    joints = forward_kinematics(start)
    joints = joints - joints[:, :1]
    steps = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(axis=-1)
    size = np.linalg.norm(joints[0], axis=-1).max()
    return len(steps) > 2 and bool(steps[0] > _JUMP * size and steps[0] > 5.0 * steps[1:].max())


def _with_thorax(motion: Motion) -> Motion | None:
    """CMU's ASF skeleton has three bones between root and neck; the common conversion gives the last one no length."""
    plain = [skeletons.plain(name) for name in motion.names]
    upper = plain.index("spine1")
    children = [joint for joint, parent in enumerate(motion.parents) if parent == upper]
    if any(np.abs(motion.places[:, joint]).max() > 1e-6 for joint in children):
        return None
    places = motion.places.copy()
    places[:, children] = places[:, [upper]]
    return motion._replace(places=places)


def _unit_of(joints: Float[np.ndarray, "F 17 3"], file: str) -> str:
    """The unit in which the legs are as long as a person's."""
    index = skeletons.JOINTS.index
    bones = [
        (f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in (("hip", "knee"), ("knee", "ankle"))
    ]
    lengths = [np.linalg.norm(joints[:, index(a)] - joints[:, index(b)], axis=-1).mean() for a, b in bones]
    leg = float(np.sum(lengths)) / 2.0
    fitting = {name: leg * metres for name, metres in UNITS.items() if _SHORTEST <= leg * metres <= _LONGEST}
    if not fitting:
        raise InputError(
            f"{file}: its legs are {leg:g} long, which is no person's in any of {', '.join(UNITS)}; say it with --unit"
        )
    return min(fitting, key=lambda name: abs(np.log(fitting[name] / _LEG)))


def _up_axis(joints: Float[np.ndarray, "F 17 3"], file: str) -> str:
    """The axis along which the head is above the feet in most frames."""
    index = skeletons.JOINTS.index
    above = joints[:, index("head_top")] - (joints[:, index("left_ankle")] + joints[:, index("right_ankle")]) / 2.0
    heights = np.median(above, axis=0)
    axis = int(np.abs(heights).argmax())
    if heights[axis] < 0.8:  # metres: neither standing nor sitting on a chair, or the axis points down
        found = ", ".join(f"{height:.2f}" for height in heights)
        raise InputError(
            f"{file}: the head is not above the feet in most frames (by {found} m along x, y, z); say which axis is up "
            "with --up"
        )
    return "xyz"[axis]


def _check_sides(joints: Float[np.ndarray, "F 17 3"], file: str) -> None:
    """Knees bend forwards; in a mirrored export, or with exchanged names, they bend backwards."""
    index = skeletons.JOINTS.index
    left = joints[:, index("left_hip")] - joints[:, index("right_hip")]
    forwards = np.cross(left, joints[:, index("thorax")] - joints[:, index("pelvis")])
    forwards /= np.linalg.norm(forwards, axis=-1, keepdims=True)
    bends = []
    for side in ("left", "right"):
        hip, knee, ankle = (joints[:, index(f"{side}_{joint}")] for joint in ("hip", "knee", "ankle"))
        bends.append(((knee - (hip + ankle) / 2.0) * forwards).sum(axis=-1))
    if np.mean(bends) < _BACKWARDS:
        raise InputError(
            f"{file}: its knees bend {-1000 * np.mean(bends):.0f} mm backwards: left and right are exchanged, or the "
            "axes are left-handed; say with --joint_map which joint is which"
        )


def _doubt(joints: Float[np.ndarray, "F 17 3"]) -> dict[str, str]:
    """A warning if the feet are in the air most of the time, as they are where another axis is up."""
    index = skeletons.JOINTS.index
    ankles = joints[:, [index("left_ankle"), index("right_ankle")], 2].min(axis=1)
    share = float((ankles < np.percentile(ankles, 5) + _FLOOR).mean())
    if share > 0.5:
        return {}
    return {
        "warning": f"no foot is near the lowest point in {1 - share:.0%} of the frames; is the up axis right (--up)?"
    }
