"""Small BVH files: a CMU take in the common conversion, and somebody who walks on the spot in any skeleton."""

import numpy as np
from scipy.spatial.transform import Rotation

from datamodules.sources.cmu_mocap.asf_amc import parse_amc, parse_asf
from datamodules.sources.cmu_mocap.retarget import channel_rotations, root_position
from tests.datamodules import acclaim

# Joints of the common conversion of CMU: the bone of the ASF skeleton that begins there, and the joint above.
CMU = {
    "Hips": ("root", None),
    **{
        name.replace("<", side): (bone.replace("<", side[0].lower()), above.replace("<", side))
        for side in ("Left", "Right")
        for name, bone, above in (
            (f"{side[0]}HipJoint", "<hipjoint", "Hips"),
            ("<UpLeg", "<femur", f"{side[0]}HipJoint"),
            ("<Leg", "<tibia", "<UpLeg"),
            ("<Foot", "<foot", "<Leg"),
        )
    },
    "LowerBack": ("lowerback", "Hips"),
    "Spine": ("upperback", "LowerBack"),
    "Spine1": ("thorax", "Spine"),
    "Neck": ("lowerneck", "Spine1"),
    "Neck1": ("upperneck", "Neck"),
    "Head": ("head", "Neck1"),
    **{
        name.replace("<", side): (bone.replace("<", side[0].lower()), above.replace("<", side))
        for side in ("Left", "Right")
        for name, bone, above in (
            ("<Shoulder", "<clavicle", "Spine1"),
            ("<Arm", "<humerus", "<Shoulder"),
            ("<ForeArm", "<radius", "<Arm"),
            ("<Hand", "<hand", "<ForeArm"),
        )
    },
}
# A person in any skeleton, metres, y up, facing +z: joint, joint above, place in the rest pose.
PERSON = {
    "pelvis": (None, (0.0, 0.95, 0.0)),
    "left_hip": ("pelvis", (0.1, 0.9, 0.0)),
    "left_knee": ("left_hip", (0.1, 0.49, 0.01)),
    "left_ankle": ("left_knee", (0.1, 0.08, 0.0)),
    "right_hip": ("pelvis", (-0.1, 0.9, 0.0)),
    "right_knee": ("right_hip", (-0.1, 0.49, 0.01)),
    "right_ankle": ("right_knee", (-0.1, 0.08, 0.0)),
    "spine": ("pelvis", (0.0, 1.2, 0.0)),
    "thorax": ("spine", (0.0, 1.45, 0.0)),
    "chin": ("thorax", (0.0, 1.57, 0.0)),
    "left_shoulder": ("spine", (0.18, 1.42, 0.0)),
    "left_elbow": ("left_shoulder", (0.2, 1.14, -0.01)),
    "left_wrist": ("left_elbow", (0.22, 0.9, 0.03)),
    "right_shoulder": ("spine", (-0.18, 1.42, 0.0)),
    "right_elbow": ("right_shoulder", (-0.2, 1.14, -0.01)),
    "right_wrist": ("right_elbow", (-0.22, 0.9, 0.03)),
}
HEAD = 0.2  # from the joint of the head to its top


def text(parents, offsets, rotations, positions, ends, fps, order="ZYX"):
    """A BVH file.

    Args:
        parents: the joint above each joint, in any order.
        offsets: of each joint from the one above.
        rotations: of each joint, F each.
        positions: (F, 3) of the root.
        ends: offsets of End Sites by joint.
        fps: frames per second.
        order: of the rotation channels.
    """
    lines, columns = ["HIERARCHY"], []

    def add(joint, depth):
        indent, root = "  " * depth, parents[joint] is None
        lines.extend([f"{indent}{'ROOT' if root else 'JOINT'} {joint}", indent + "{"])
        lines.append(f"{indent}  OFFSET " + " ".join(f"{value:.8f}" for value in offsets[joint]))
        kinds = ["Xposition", "Yposition", "Zposition"] if root else []
        kinds += [f"{axis}rotation" for axis in order]
        lines.append(f"{indent}  CHANNELS {len(kinds)} {' '.join(kinds)}")
        columns.extend([positions] if root else [])
        columns.append(rotations[joint].as_euler(order, degrees=True))
        for child in [name for name, above in parents.items() if above == joint]:
            add(child, depth + 1)
        if joint in ends:
            end = " ".join(f"{value:.8f}" for value in ends[joint])
            lines.extend([f"{indent}  End Site", indent + "  {", f"{indent}    OFFSET {end}", indent + "  }"])
        lines.append(indent + "}")

    add(next(joint for joint, above in parents.items() if above is None), 0)
    values = np.concatenate(columns, axis=1)
    lines += ["MOTION", f"Frames: {len(values)}", f"Frame Time: {1 / fps:.8f}"]
    return "\n".join([*lines, *(" ".join(f"{value:.6f}" for value in row) for row in values), ""])


def cmu(motion, lost_thorax=True, t_pose=True):
    """The common conversion of a take of `acclaim`, with its traps: no thorax bone and a T-pose before the motion."""
    skeleton = parse_asf(acclaim.asf(), "01.asf")
    take = parse_amc(motion, skeleton, "01_01.amc")
    unit = 0.0254 / 0.45
    bones = {bone.name: bone for bone in skeleton.bones}
    turned = dict(zip(bones, channel_rotations(skeleton, take), strict=True))
    parents = {name: above for name, (_, above) in CMU.items()}
    offsets, rotations = {}, {}
    for name, (bone, above) in CMU.items():
        offsets[name] = np.zeros(3) if above is None else bones[CMU[above][0]].offset / unit
        if lost_thorax and above == "Spine1":
            offsets[name] = np.zeros(3)
        axis = bones[bone].axis
        rotations[name] = axis * turned[bone] * axis.inv()
    positions = root_position(skeleton, take) / unit
    if t_pose:
        positions = np.concatenate([positions[:1], positions])
        rotations = {name: Rotation.concatenate([Rotation.identity(), own]) for name, own in rotations.items()}
    return text(parents, offsets, rotations, positions, {"Head": bones["head"].offset / unit}, fps=120.0)


def person(names, frames=60, fps=30.0, scale=100.0, up="y", head_top=True, mirrored=False, order="ZXY"):
    """Somebody who steps on the spot and swings the arms.

    Args:
        names: of the joints of `PERSON` in the file.
        frames: number of frames.
        fps: frames per second.
        scale: units of the file in a metre.
        up: axis.
        head_top: whether the file has an End Site above the head.
        mirrored: whether left and right are exchanged.
        order: of the rotation channels.

    Returns:
        The file, and (F, 17, 3) joints in metres, z up, by 4 x 4 matrices; the head top is 20 cm above the head.
    """
    time = np.arange(frames) / fps
    turn = {
        "x": Rotation.from_matrix([[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
        "y": Rotation.identity(),
        "z": Rotation.from_euler("x", 90, degrees=True),
    }[up]
    angles = {joint: np.zeros((frames, 3)) for joint in PERSON}
    for side, phase in (("left", 0.0), ("right", np.pi)):
        swing = np.sin(4.0 * time + phase)
        angles[f"{side}_hip"][:, 0] = -0.5 - 0.4 * swing
        angles[f"{side}_knee"][:, 0] = 0.8 + 0.5 * swing
        angles[f"{side}_shoulder"][:, 0] = 0.5 * swing
        angles[f"{side}_elbow"][:, 0] = -0.4
    angles["pelvis"][:, 1] = 0.3 * np.sin(time)
    places = {joint: np.array(place) for joint, (_, place) in PERSON.items()}
    parents = {joint: above for joint, (above, _) in PERSON.items()}
    offsets = {joint: places[joint] - (places[above] if above else 0.0) for joint, above in parents.items()}
    own = {joint: Rotation.from_rotvec(angles[joint]) for joint in PERSON}
    joints = naive_joints(parents, offsets, own) @ [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    if mirrored:
        flip = np.array([-1.0, 1.0, 1.0])
        offsets = {joint: offset * flip for joint, offset in offsets.items()}
    in_file = {names[joint]: scale * turn.apply(offset) for joint, offset in offsets.items()}
    rotations = {names[joint]: turn * own[joint] * turn.inv() for joint in PERSON}
    above_all = {names[joint]: names[above] if above else None for joint, above in parents.items()}
    ends = {names["chin"]: scale * turn.apply([0.0, HEAD, 0.0])} if head_top else {}
    positions = np.tile(scale * turn.apply(places["pelvis"]), (frames, 1))
    return text(above_all, in_file, rotations, positions, ends, fps, order), joints


def naive_joints(parents, offsets, rotations):
    """(F, 17, 3) in y up, one frame and one joint after the other."""
    frames = len(next(iter(rotations.values())))
    result = np.zeros((frames, 17, 3))
    order = [
        *("pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax"),
        *(
            "chin",
            "head_top",
            "left_shoulder",
            "left_elbow",
            "left_wrist",
            "right_shoulder",
            "right_elbow",
            "right_wrist",
        ),
    ]
    for frame in range(frames):
        world = {}
        for joint, above in parents.items():
            local = np.eye(4)
            local[:3, :3], local[:3, 3] = rotations[joint][frame].as_matrix(), offsets[joint]
            world[joint] = local if above is None else world[above] @ local
        top = np.eye(4)
        top[:3, 3] = [0.0, HEAD, 0.0]
        world["head_top"] = world["chin"] @ top
        result[frame] = [world[joint][:3, 3] for joint in order]
    return result
