"""Motion of an ASF skeleton, and from it Human3.6M-17 joints and SMPL-24 rotations in a z-up world.

Shape letters: F frames, B bones (the root first).
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from datamodules.sources.cmu_mocap.asf_amc import Array, Skeleton
from datamodules.sources.common.body_fitting import smpl_rest_pose

# The bone at whose end each Human3.6M-17 joint lies. The first is CMU's root, 11 cm above the middle of the hips.
_H36M_ENDS = (
    *("root", "rhipjoint", "rfemur", "rtibia", "lhipjoint", "lfemur", "ltibia"),
    *("upperback", "thorax", "upperneck", "head"),
    *("lclavicle", "lhumerus", "lradius", "rclavicle", "rhumerus", "rradius"),
)
# The bone that turns with each SMPL-24 joint; the fingers are left as they are in the rest pose.
_SMPL_BONES = {
    "Pelvis": "root",
    "L_Hip": "lfemur",
    "R_Hip": "rfemur",
    "Spine1": "lowerback",
    "L_Knee": "ltibia",
    "R_Knee": "rtibia",
    "Spine2": "upperback",
    "L_Ankle": "lfoot",
    "R_Ankle": "rfoot",
    "Spine3": "thorax",
    "L_Foot": "ltoes",
    "R_Foot": "rtoes",
    "Neck": "lowerneck",
    "L_Collar": "lclavicle",
    "R_Collar": "rclavicle",
    "Head": "head",
    "L_Shoulder": "lhumerus",
    "R_Shoulder": "rhumerus",
    "L_Elbow": "lradius",
    "R_Elbow": "rradius",
    "L_Wrist": "lhand",
    "R_Wrist": "rhand",
}
# Limbs whose rest direction differs between the skeletons: SMPL joint and the joint at the limb's other end. The torso
# is upright and faces +z in both, and its joints lie at different depths, so there only the turning is transferred.
_LIMBS = {
    "L_Hip": "L_Knee",
    "R_Hip": "R_Knee",
    "L_Knee": "L_Ankle",
    "R_Knee": "R_Ankle",
    "L_Ankle": "L_Foot",
    "R_Ankle": "R_Foot",
    "L_Shoulder": "L_Elbow",
    "R_Shoulder": "R_Elbow",
    "L_Elbow": "L_Wrist",
    "R_Elbow": "R_Wrist",
}
_Z_UP = Rotation.from_euler("x", 90.0, degrees=True)  # y up becomes z up


class RetargetedMotion(NamedTuple):
    """A motion in the z-up world, ground near z = 0.

    Attributes:
        joints_3d: (F, 17, 3) Human3.6M-17 joints, metres.
        rotations: (F, 24, 3) SMPL-24 axis-angle, each relative to its parent; the first turns the body (T-pose, y up,
            facing +z) into the world.
        translation: (F, 3) the body's pelvis joint, metres, placed so that the body's hips and the
            mocap's have the same middle.
    """

    joints_3d: Array
    rotations: Array
    translation: Array


def retarget(skeleton: Skeleton, motion: dict[str, Array], source_fps: float, target_fps: float) -> RetargetedMotion:
    """Joints and body rotations of a motion.

    Args:
        skeleton: of the subject.
        motion: of `asf_amc.parse_amc`.
        source_fps: frame rate of the motion.
        target_fps: wanted frame rate.

    Raises:
        InputError: if the skeleton lacks a bone of the CMU skeleton.
    """
    resampled = resample(channel_rotations(skeleton, motion), root_position(skeleton, motion), source_fps, target_fps)
    turned, ends = forward_kinematics(skeleton, *resampled)
    ends = ends @ _Z_UP.as_matrix().T
    joints = ends[:, [skeleton.index(bone) for bone in _H36M_ENDS]]

    names, parents, rest = smpl_rest_pose()
    whole: list[Rotation] = []
    for number, name in enumerate(names):
        if name not in _SMPL_BONES:
            whole.append(whole[parents[number]])
            continue
        bone = skeleton.index(_SMPL_BONES[name])
        turn = _Z_UP * turned[bone]
        if name in _LIMBS:
            limb = rest[names.index(_LIMBS[name])] - rest[number]
            turn = turn * Rotation.align_vectors(skeleton.bones[bone].offset[None], limb[None])[0]
        whole.append(turn)
    local = [whole[0], *(whole[parent].inv() * turn for parent, turn in zip(parents[1:], whole[1:], strict=True))]
    rotations = np.stack([turn.as_rotvec() for turn in local], axis=1)

    hips = [skeleton.index("lhipjoint"), skeleton.index("rhipjoint")]
    above = rest[0] - (rest[names.index("L_Hip")] + rest[names.index("R_Hip")]) / 2.0
    return RetargetedMotion(joints, rotations, ends[:, hips].mean(axis=1) + whole[0].apply(above))


def channel_rotations(skeleton: Skeleton, motion: dict[str, Array]) -> list[Rotation]:
    """Rotation M of each of B bones, F rotations each; the identity for a bone without channels.

    Args:
        skeleton: of the subject.
        motion: of `asf_amc.parse_amc`.
    """
    rotations = []
    for bone in skeleton.bones:
        axes = "".join(axis for axis in bone.order if "r" + axis in bone.channels)
        columns = [bone.channels.index("r" + axis) for axis in axes]
        # Lower-case letters are fixed axes to SciPy, the first letter turned about first: "xyz" is Rz Ry Rx.
        angles = motion[bone.name][:, columns] if axes else np.zeros((len(motion["root"]), 1))
        rotations.append(Rotation.from_euler(axes or "x", angles))
    return rotations


def root_position(skeleton: Skeleton, motion: dict[str, Array]) -> Array:
    """(F, 3) metres, in the y-up world of the file."""
    columns = [skeleton.bones[0].channels.index(channel) for channel in ("tx", "ty", "tz")]
    return skeleton.position + motion["root"][:, columns]


def resample(
    rotations: list[Rotation], position: Array, source_fps: float, target_fps: float
) -> tuple[list[Rotation], Array]:
    """Rotations by spherical and positions by linear interpolation, so that bones keep their length.

    Args:
        rotations: local ones of B bones, F each.
        position: (F, 3) of the root.
        source_fps: of both.
        target_fps: of the result; its first frame is the source's first, its last not after the source's last.
    """
    frames = np.arange(len(position))
    if len(frames) == 1:  # between which there is nothing to interpolate
        return rotations, position
    count = int(frames[-1] * target_fps / source_fps + 1e-9) + 1
    time = np.minimum(np.arange(count) * (source_fps / target_fps), frames[-1])
    moved = np.stack([np.interp(time, frames, coordinate) for coordinate in position.T], axis=-1)
    return [Slerp(frames, rotation)(time) for rotation in rotations], moved


def forward_kinematics(skeleton: Skeleton, rotations: list[Rotation], position: Array) -> tuple[list[Rotation], Array]:
    """Global rotation of every bone and the position of its end.

    Args:
        skeleton: of the subject.
        rotations: M of B bones, F each.
        position: (F, 3) of the root, metres.

    Returns:
        Global rotations of B bones, F each, the identity in the rest pose, and ends (F, B, 3) in metres; the root's end
        is the root.
    """
    turned: list[Rotation] = []
    ends = np.empty((len(position), len(skeleton.bones), 3))
    for number, bone in enumerate(skeleton.bones):
        own = bone.axis * rotations[number] * bone.axis.inv()
        if bone.parent < 0:
            turned.append(own)
            ends[:, number] = position
        else:
            turned.append(turned[bone.parent] * own)
            ends[:, number] = ends[:, bone.parent] + turned[number].apply(bone.offset)
    return turned, ends
