"""Rotations of a body from the joints of motion capture: of SMPL's 24 joints from Human3.6M's 17.

Directions of limbs are transferred, not places, so people of any proportions give poses of the mean body. In closed
form: hips and spine turn the pelvis, shoulders and thorax the chest, and the spine is bent evenly between them; a limb
is swung into its direction, and twisted such that elbow and knee bend about their own axes. What 17 joints do not show
stays in the rest pose: feet, hands, collars, and the turning of the head.

Shape letters: F frames.
"""

from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from datamodules.preparation import Rows
from noise2pose import skeletons

Vectors = np.ndarray  # (F, 3)
Turns = np.ndarray  # (F, 3, 3)

FITTED = (
    "fitted to the joints, relative to the parent joint; the first turns the body (T-pose, y up, facing +z) into the "
    "world; feet, hands, collars and the turning of the head stay in the rest pose"
)
_AT = {name: number for number, name in enumerate(skeletons.get("h36m_17").joints)}
_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # y up becomes z up
# The axis, in the rest pose, about which elbow and knee bend, as the direction of upper x lower limb.
_BENDS = {
    "L_Shoulder": (0.0, -1.0, 0.0),
    "R_Shoulder": (0.0, 1.0, 0.0),
    "L_Hip": (1.0, 0.0, 0.0),
    "R_Hip": (1.0, 0.0, 0.0),
}
# Sine of a bend that says as much about the twist as the assumption that there is none: a straight limb has no axis.
_STRAIGHT = 0.15
_ANYHOW = np.array([[1.0, 0.0, 0.0], [0.1, 1.0, 0.2]]) * 1e-7  # metres; directions of joints that coincide
_NECK_SHARE = 0.5  # of the head's inclination


@cache
def smpl_rest_pose() -> tuple[list[str], list[int], np.ndarray]:
    """Joint names, parents and rest positions (24, 3) of the shipped body."""
    with (files("noise2pose") / "assets" / "free_body.npz").open("rb") as file, np.load(file) as body:
        rest = body["J_regressor"].astype(np.float64) @ body["v_template"]
        return [str(name) for name in body["joint_names"]], body["kintree_table"][0].astype(np.int32).tolist(), rest


def with_poses(rows: Rows) -> Rows:
    """Rows of `joints_world` with the column `poses`."""
    poses = rotations_of_joints(rows.arrays["joints_world"]).astype(np.float32)
    return rows._replace(arrays={**rows.arrays, "poses": poses})


def rotations_of_joints(joints: Float[np.ndarray, "F 17 3"]) -> Float[np.ndarray, "F 24 3"]:
    """The pose of each frame.

    Args:
        joints: metres, z up.

    Returns:
        Axis-angle, each relative to its parent; the first turns the body (T-pose, y up, facing +z) into the world.
    """
    names, parents, rest = smpl_rest_pose()
    upright = joints.astype(np.float64) @ _Z_UP
    seen = {name: upright[:, joint] for name, joint in _AT.items()}
    lying = dict(zip(names, rest, strict=True))
    whole: dict[str, Turns] = {}

    hips, resting_hips = (seen["left_hip"] + seen["right_hip"]) / 2.0, (lying["L_Hip"] + lying["R_Hip"]) / 2.0
    pelvis = _frame(seen["left_hip"] - seen["right_hip"], seen["spine"] - hips)
    whole["Pelvis"] = pelvis @ _frame(lying["L_Hip"] - lying["R_Hip"], lying["Spine2"] - resting_hips).mT
    chest = _frame(seen["left_shoulder"] - seen["right_shoulder"], seen["thorax"] - seen["spine"], upright=True)
    resting_chest = _frame(lying["L_Shoulder"] - lying["R_Shoulder"], lying["Neck"] - lying["Spine2"], upright=True)
    whole["Spine3"] = chest @ resting_chest.mT
    bend = Rotation.from_matrix(whole["Pelvis"].mT @ whole["Spine3"]).as_rotvec()
    for share, name in ((1 / 3, "Spine1"), (2 / 3, "Spine2")):
        whole[name] = whole["Pelvis"] @ Rotation.from_rotvec(share * bend).as_matrix()

    head = _swing(whole["Spine3"], lying["Head"] - lying["Neck"], seen["head_top"] - seen["thorax"])
    nod = Rotation.from_matrix(whole["Spine3"].mT @ head).as_rotvec()
    whole["Neck"] = whole["Spine3"] @ Rotation.from_rotvec(_NECK_SHARE * nod).as_matrix()
    whole["Head"] = head
    for side, word in (("L", "left"), ("R", "right")):
        shoulder, elbow, wrist = (seen[f"{word}_{joint}"] for joint in ("shoulder", "elbow", "wrist"))
        arm = (f"{side}_Shoulder", f"{side}_Elbow", f"{side}_Wrist")
        _limb(whole, lying, arm, whole["Spine3"], elbow - shoulder, wrist - elbow)
        hip, knee, ankle = (seen[f"{word}_{joint}"] for joint in ("hip", "knee", "ankle"))
        leg = (f"{side}_Hip", f"{side}_Knee", f"{side}_Ankle")
        _limb(whole, lying, leg, whole["Pelvis"], knee - hip, ankle - knee)
    for name, parent in zip(names[1:], parents[1:], strict=True):  # collars, hands and feet
        whole.setdefault(name, whole[names[parent]])

    turned = np.stack([whole[name] for name in names], axis=1)
    local = np.concatenate((_Z_UP @ turned[:, :1], turned[:, parents[1:]].mT @ turned[:, 1:]), axis=1)
    return Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(-1, 24, 3)


def _limb(
    whole: dict[str, Turns],
    lying: dict[str, np.ndarray],
    names: tuple[str, str, str],
    above: Turns,
    upper: Vectors,
    lower: Vectors,
) -> None:
    """Turns the two bones of an arm or a leg: swung into their directions, twisted such that they bend as limbs do.

    Args:
        whole: turns of the joints, to which those of the first two are added.
        lying: joints of the rest pose.
        names: of the joints at both ends and in the middle.
        above: turn of the bone before.
        upper, lower: direction of the bones.
    """
    first, second, third = names
    resting = lying[second] - lying[first]
    swung = _swing(above, resting, upper)
    axis = np.array(_BENDS[first])
    along = _unit(upper)
    seen = np.cross(along, _unit(lower)) + _STRAIGHT * (swung @ axis)
    # Both axes at right angles to the bone, in the rest pose as in this one.
    frame, resting_frame = _frame(along, seen), _frame(resting, axis)
    whole[first] = frame @ resting_frame.mT
    whole[second] = _swing(whole[first], lying[third] - lying[second], lower)


def _swing(turned: Turns, resting: np.ndarray, direction: Vectors) -> Turns:
    """A turn after the least further rotation that brings a direction of the rest pose into another."""
    start, end = turned @ _unit(resting), _unit(direction)
    axis = np.cross(start, end)
    sine, cosine = np.linalg.norm(axis, axis=-1, keepdims=True), (start * end).sum(axis=-1, keepdims=True)
    rotvec = axis / np.maximum(sine, 1e-9) * np.arctan2(sine, cosine)
    return Rotation.from_rotvec(rotvec).as_matrix() @ turned


def _frame(first: Vectors, second: Vectors, upright: bool = False) -> Turns:
    """Rotations whose first two columns are directions; the second made perpendicular, or the first if `upright`."""
    first, second = first + _ANYHOW[0], second + _ANYHOW[1]
    if upright:
        y = _unit(second)
        x = _unit(first - (first * y).sum(axis=-1, keepdims=True) * y)
    else:
        x = _unit(first)
        y = _unit(second - (second * x).sum(axis=-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
