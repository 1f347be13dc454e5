"""Joints in a tree with a rest pose and rotations, which is what animation files hold.

The rest pose is a T-pose with y up, facing +z, +x on the body's left, and all joint frames are parallel to the world's
then: that of a parametric body, or a skeleton of the same form for a method that answers with joints alone.

Shape letters: F frames, J joints, K joints of the rig, V vertices.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from noise2pose.errors import InputError
from noise2pose.export.motion import Motion

if TYPE_CHECKING:
    from noise2pose.bodies import BodyModel
    from noise2pose.skeletons import Skeleton

# Directions of the bones that end at a joint, in the rest pose; those of the right side are mirrored.
_UP, _DOWN, _LEFT = (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0)
_DIRECTIONS = {
    **dict.fromkeys(("spine", "thorax", "chin", "head_top"), _UP),
    **dict.fromkeys(("left_knee", "left_ankle"), _DOWN),
    **dict.fromkeys(("left_hip", "left_shoulder", "left_elbow", "left_wrist"), _LEFT),
}
_TIP = 0.08  # metres from the last joint of a limb to its end, of a skeleton that does not know it


class Rig(NamedTuple):
    """A tree of joints in motion, y up, metres.

    Attributes:
        names: of K joints, parents before children.
        parents: of each joint; -1 for the root, which comes first.
        rest: (K, 3) places in the rest pose.
        rotations: (F, K, 3, 3) of each joint against its parent; the root's against the world.
        root: (F, 3) place of the root.
        tips: (K, 3) from a joint without children to the end of its limb; zero for the others.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    rest: Float[np.ndarray, "K 3"]
    rotations: Float[np.ndarray, "F K 3 3"]
    root: Float[np.ndarray, "F 3"]
    tips: Float[np.ndarray, "K 3"]

    @property
    def offsets(self) -> Float[np.ndarray, "K 3"]:
        """From each joint's parent, in the rest pose; that of the root is its place."""
        return np.concatenate((self.rest[:1], self.rest[1:] - self.rest[list(self.parents[1:])]))

    def places(self) -> Float[np.ndarray, "F K 3"]:
        """Where the joints are in each frame."""
        offsets, turned = self.offsets, self.rotations.copy()
        places = np.repeat(self.root[:, None], len(self.names), axis=1)
        for joint, parent in enumerate(self.parents[1:], start=1):
            turned[:, joint] = turned[:, parent] @ self.rotations[:, joint]
            places[:, joint] = places[:, parent] + turned[:, parent] @ offsets[joint]
        return places


def rig_of(motion: Motion) -> Rig:
    """The rig of a motion: its body's own, else one that is solved from its joints."""
    if motion.body is not None:
        return _body_rig(motion)
    return skeleton_rig(motion.joints @ motion.to_y_up.T, motion.skeleton)


def moved(motion: Motion) -> float:
    """Metres that the joints of a skeleton's rig are beside those of the motion, on average."""
    rig = skeleton_rig(motion.joints, motion.skeleton)  # the axes do not matter
    places = rig.places()[:, [rig.names.index(name) for name in motion.skeleton.joints]]
    return float(np.linalg.norm(places - motion.joints, axis=-1).mean())


def skeleton_rig(joints: Float[np.ndarray, "F J 3"], skeleton: "Skeleton") -> Rig:
    """A rig whose bones have the median of their lengths over the clip and end as near to the joints as they reach.

    The root and every other joint with several children are turned with the line between the children's sides and the
    torso. Each of these children hangs on a joint of its own at the same place, called NAME_socket, as in CMU's BVH
    files, because the bones of predicted joints meet at other angles in each frame. A bone is turned by the smallest
    rotation that gives it its direction: joints do not tell how a limb is turned about itself.

    Args:
        joints: metres, y up.
        skeleton: of the joints; its bones must be those of `h36m_17`.

    Raises:
        InputError: if the skeleton has other joints.
    """
    unknown = [name for name in skeleton.joints if name != skeleton.joints[skeleton.root] and _base(name) is None]
    if unknown:
        raise InputError(f"no rest pose is known of skeleton {skeleton.name}, because of {', '.join(unknown)}")
    children = {joint: [c for p, c in skeleton.edges if p == joint] for joint in range(skeleton.num_joints)}
    joints = _with_constant_bones(joints.astype(np.float64), skeleton, children)
    names, parents, rest = [skeleton.joints[skeleton.root]], [-1], [np.zeros(3)]
    world, tips = [_facing(joints, skeleton, skeleton.root, children)], [np.zeros(3)]
    rig_joint = {skeleton.root: 0}
    for joint in _below(skeleton.root, children):
        parent, direction = skeleton.parents[joint], _base(skeleton.joints[joint])
        assert direction is not None
        bone = joints[:, joint] - joints[:, parent]
        above = rig_joint[parent]
        if len(children[parent]) > 1:
            names.append(f"{skeleton.joints[joint]}_socket")
            parents.append(above)
            rest.append(rest[above])
            world.append(_aimed(world[above], direction, bone))
            tips.append(np.zeros(3))
            above = len(names) - 1
        rig_joint[joint] = len(names)
        names.append(skeleton.joints[joint])
        parents.append(above)
        rest.append(rest[above] + float(np.linalg.norm(bone[0])) * direction)
        below = children[joint]
        if len(below) == 1:
            onward = _base(skeleton.joints[below[0]])
            assert onward is not None
            world.append(_aimed(world[above], onward, joints[:, below[0]] - joints[:, joint]))
        else:
            world.append(_facing(joints, skeleton, joint, children) if below else world[above])
        tips.append(np.zeros(3) if below else _TIP * direction)
    turned = np.stack(world, axis=1)
    local = turned.copy()
    local[:, 1:] = turned[:, parents[1:]].swapaxes(-1, -2) @ turned[:, 1:]
    return Rig(tuple(names), tuple(parents), np.array(rest), local, joints[:, skeleton.root], np.array(tips))


def _with_constant_bones(
    joints: Float[np.ndarray, "F J 3"], skeleton: "Skeleton", children: dict[int, list[int]]
) -> Float[np.ndarray, "F J 3"]:
    """Bones of the median of their lengths, each from the end of the one before it towards where it should end."""
    placed = joints.copy()
    for joint in _below(skeleton.root, children):
        parent = skeleton.parents[joint]
        length = np.median(np.linalg.norm(joints[:, joint] - joints[:, parent], axis=-1))
        placed[:, joint] = placed[:, parent] + length * _unit(joints[:, joint] - placed[:, parent])
    return placed


def _body_rig(motion: Motion) -> Rig:
    body = motion.body
    assert body is not None
    model = body.model
    rest = model.rest_joints(torch.from_numpy(body.betas).to(model.template)).cpu().double().numpy()
    rotations = body.rotations.astype(np.float64)
    rotations[:, 0] = motion.to_y_up @ rotations[:, 0]
    root = (rest[0] + body.translation) @ motion.to_y_up.T
    names = model.joint_names or tuple(f"joint_{joint}" for joint in range(len(model.parents)))
    return Rig(names, model.parents, rest, rotations, root, _tips(model, body.betas, rest))


def rest_vertices(model: "BodyModel", betas: np.ndarray) -> Float[np.ndarray, "V 3"]:
    """The mesh in the rest pose, metres."""
    shape = torch.from_numpy(betas).to(model.template)
    return (
        (model.template + torch.einsum("s,vcs->vc", shape, model.shape_directions[..., : len(shape)]))
        .cpu()
        .double()
        .numpy()
    )


def _tips(model: "BodyModel", betas: np.ndarray, rest: np.ndarray) -> Float[np.ndarray, "K 3"]:
    """From each last joint to where the skin that follows it ends, in the direction of its bone."""
    vertices, nearest = rest_vertices(model, betas), model.skinning_weights.argmax(dim=1).cpu().numpy()
    tips = np.zeros_like(rest)
    for joint in set(range(len(rest))) - set(model.parents):
        bone = rest[joint] - rest[model.parents[joint]]
        direction = bone / max(np.linalg.norm(bone), 1e-9)
        along = (vertices[nearest == joint] - rest[joint]) @ direction
        tips[joint] = max(along.max(initial=0.0), 0.01) * direction
    return tips


def _base(name: str) -> np.ndarray | None:
    """Direction of the bone that ends at a joint."""
    direction = _DIRECTIONS.get(name.replace("right_", "left_", 1))
    if direction is None:
        return None
    return np.array(direction) * ([-1.0, 1.0, 1.0] if name.startswith("right_") else 1.0)


def _below(joint: int, children: dict[int, list[int]]) -> list[int]:
    """All joints below one, each limb to its end before the next."""
    return [found for child in children[joint] for found in (child, *_below(child, children))]


def _facing(
    joints: np.ndarray, skeleton: "Skeleton", joint: int, children: dict[int, list[int]]
) -> Float[np.ndarray, "F 3 3"]:
    """The frame of a joint between two sides: x to the left one, y along the torso as far as it is at right angles."""
    sides: dict[str, int] = {skeleton.joints[child].partition("_")[0]: child for child in children[joint]}
    left, right = sides.pop("left"), sides.pop("right")
    (middle,) = sides.values()
    parent = skeleton.parents[joint]
    up = joints[:, middle] - joints[:, joint] if parent < 0 else joints[:, joint] - joints[:, parent]
    x = _unit(joints[:, left] - joints[:, right])
    z = _unit(np.cross(x, up))
    return np.stack((x, np.cross(z, x), z), axis=-1)


def _aimed(frame: np.ndarray, direction: np.ndarray, bone: np.ndarray) -> Float[np.ndarray, "F 3 3"]:
    """The frame turned by the smallest rotation that brings a direction in it to that of a bone (Rodrigues)."""
    goal = (frame.swapaxes(-1, -2) @ _unit(bone)[..., None])[..., 0]
    axis, cosine = np.cross(direction, goal), goal @ direction
    zero = np.zeros(len(axis))
    cross = np.stack((zero, -axis[:, 2], axis[:, 1], axis[:, 2], zero, -axis[:, 0], -axis[:, 1], axis[:, 0], zero), -1)
    cross = cross.reshape(-1, 3, 3)
    turn = np.eye(3) + cross + cross @ cross / np.maximum(1.0 + cosine, 1e-9)[:, None, None]
    aside = np.roll(direction, 1)  # of a direction along an axis; half a turn about it reverses the direction
    turn[cosine < -1.0 + 1e-7] = 2.0 * np.outer(aside, aside) - np.eye(3)
    return frame @ turn


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-9)
