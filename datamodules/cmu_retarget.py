"""From the CMU skeleton to Human3.6M-17 joints and to SMPL-24 rotations, in a z-up world."""

from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from datamodules.asf_amc import Skeleton
from datamodules.asf_kinematics import forward_kinematics, resample, root_position, rotations

Array = NDArray[np.float64]

# The bone at whose end each Human3.6M-17 joint lies.
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
_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def retarget(skeleton: Skeleton, motion: dict[str, Array], source_fps: float, target_fps: float) -> dict[str, Array]:
    """Joints and body rotations of a motion.

    Args:
        skeleton: of the subject.
        motion: of `asf_amc.parse_amc`.
        source_fps: frame rate of the motion.
        target_fps: wanted frame rate.

    Returns:
        joints_3d (F, 17, 3): Human3.6M-17 joints in the world, metres, z up.
        rotations (F, 24, 3): SMPL-24 axis-angle; the first turns the body (T-pose, y up, facing +z) into the world.
        translation (F, 3): position of the pelvis joint in the world, metres.
    """
    quaternions, position = resample(
        rotations(skeleton, motion), root_position(skeleton, motion), source_fps, target_fps
    )
    turned, ends = forward_kinematics(skeleton, quaternions, position)
    joints = ends[:, [skeleton.index(bone) for bone in _H36M_ENDS]] @ _Z_UP.T
    return {
        "joints_3d": joints,
        "rotations": _to_rotvec(_smpl_rotations(skeleton, turned)),
        "translation": joints[:, 0],
    }


def _smpl_rotations(skeleton: Skeleton, turned: Array) -> Array:
    """(F, 24, 3, 3) rotation of each SMPL joint relative to its parent, from the bones' global rotations."""
    names, parents, rest = _smpl_rest_pose()
    whole = np.empty((len(turned), len(names), 3, 3))
    for number, name in enumerate(names):
        if name not in _SMPL_BONES:
            whole[:, number] = whole[:, parents[number]]
            continue
        bone = skeleton.index(_SMPL_BONES[name])
        whole[:, number] = turned[:, bone]
        if name in _LIMBS:
            limb = rest[names.index(_LIMBS[name])] - rest[number]
            whole[:, number] = turned[:, bone] @ _between(limb, skeleton.bones[bone].offset)
    local = whole.copy()
    for number in range(1, len(names)):
        local[:, number] = np.swapaxes(whole[:, parents[number]], -1, -2) @ whole[:, number]
    local[:, 0] = _Z_UP @ whole[:, 0]
    return local


def _smpl_rest_pose() -> tuple[list[str], list[int], Array]:
    """Joint names, parents and rest positions (24, 3) of the shipped body."""
    with (files("noise2pose") / "assets" / "free_body.npz").open("rb") as file, np.load(file) as body:
        rest = body["J_regressor"].astype(np.float64) @ body["v_template"]
        return [str(name) for name in body["joint_names"]], body["kintree_table"][0].astype(np.int32).tolist(), rest


def _between(start: Array, end: Array) -> Array:
    """The smallest rotation that turns one direction into another."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    x, y, z = np.cross(start, end)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + start @ end)


def _to_rotvec(matrix: Array) -> Array:
    """Axis times angle of rotation matrices (..., 3, 3), through the quaternion of largest component."""
    diagonal = np.diagonal(matrix, axis1=-2, axis2=-1)
    trace = diagonal.sum(-1, keepdims=True)
    # Row k holds the quaternion (x, y, z, w) times four times its k-th component.
    candidates = np.empty(matrix.shape[:-2] + (4, 4))
    following = ((1, 2), (2, 0), (0, 1))
    skew = np.stack([matrix[..., k, j] - matrix[..., j, k] for j, k in following], axis=-1)
    for i in range(3):
        for j in range(3):
            candidates[..., i, j] = matrix[..., i, j] + matrix[..., j, i]
        candidates[..., i, i] = 1.0 + 2.0 * diagonal[..., i] - trace[..., 0]
        candidates[..., i, 3] = candidates[..., 3, i] = skew[..., i]
    candidates[..., 3, 3] = 1.0 + trace[..., 0]
    best = np.diagonal(candidates, axis1=-2, axis2=-1).argmax(-1)
    quaternion = np.take_along_axis(candidates, best[..., None, None], axis=-2)[..., 0, :]
    quaternion /= np.linalg.norm(quaternion, axis=-1, keepdims=True)
    quaternion *= np.where(quaternion[..., 3:] < 0, -1.0, 1.0)
    sine = np.linalg.norm(quaternion[..., :3], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, quaternion[..., 3:])
    return quaternion[..., :3] * np.where(sine < 1e-9, 2.0, angle / np.maximum(sine, 1e-9))
