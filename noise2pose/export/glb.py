"""Binary glTF 2.0: skinned bodies or skeletons that move, which Blender, web browsers and game engines open.

Format: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html. Metres, y up, right-handed; quaternions are (x, y, z,
w), matrices are stored column by column. Each person is a node with a tree of joints and a mesh that is skinned by
linear blend skinning, with rotations of all joints and places of the root at the frames of the video. A person is
hidden, by a scale of zero, in frames before the first and after the last one with them. SMPL's corrections by pose are
not in the file, because a skin of glTF has none; the free body has none either.

A skin has up to eight influences a vertex, in two sets, as the free body needs (with four it is up to 2 cm off).
Blender and most engines read both; what reads one set only draws the folds of the skin a little differently.

Shape letters: F frames, K joints of the rig, N hypotheses, V vertices, T triangles.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from noise2pose.errors import InputError
from noise2pose.export import extras
from noise2pose.export.glb_buffer import Buffer
from noise2pose.export.motion import Motion
from noise2pose.export.rig import Rig, rest_vertices, rig_of, skeleton_rig
from noise2pose.files import write_bytes
from noise2pose.rendering.meshes import vertex_normals
from noise2pose.rendering.skeletons import color_of_joint

GHOSTS = 5  # hypotheses of a person that are drawn by default, of those spread over all of them
_INFLUENCES = 8
_GHOST, _GHOST_OPACITY = (0.55, 0.57, 0.60), 0.25
_SKIN = (0.70, 0.77, 0.86)
_THICK, _THIN = 0.022, 0.010  # metres, half the width of a bone of the answer, and of a hypothesis
# Corners of a bone: its ends and a square around it at a fifth of its length.
_BELT = 0.2
_TRIANGLES = np.array(
    [
        triangle
        for side in range(4)
        for triangle in ((0, 2 + (side + 1) % 4, 2 + side), (1, 2 + side, 2 + (side + 1) % 4))
    ]
)


class Skin(NamedTuple):
    """A mesh around a rig in its rest pose.

    Attributes:
        vertices: (V, 3) metres.
        faces: (T, 3) counter-clockwise seen from outside.
        joints: (V, 8) joints of the rig that move each vertex.
        weights: (V, 8) how much; they add up to one.
        colors: (V, 3) RGB in [0, 1]; None for one colour.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "T 3"]
    joints: Int[np.ndarray, "V 8"]
    weights: Float[np.ndarray, "V 8"]
    colors: Float[np.ndarray, "V 3"] | None = None


def write_glb(path: Path, motions: Sequence[Motion], ghosts: int = GHOSTS) -> None:
    """Writes all people of a scene into one file, whole or not at all; time 0 is the first frame with anybody.

    Args:
        path: file.
        motions: people of one video.
        ghosts: how many hypotheses of each person are drawn as translucent skeletons, where the method has some.

    Raises:
        InputError: if there is nobody, pygltflib is missing or the file cannot be written.
    """
    gltf = extras.load("pygltflib", "export", "writing glb")
    if not motions:
        raise InputError(f"{path.name}: there is nobody to write")
    motions = [motion.consecutive() for motion in motions]
    start = min(float(motion.times[0]) for motion in motions)
    end = max(float(motion.times[-1]) for motion in motions)
    content = gltf.GLTF2(scene=0, scenes=[gltf.Scene(nodes=[])], asset=gltf.Asset(generator="noise2pose"))
    content.animations = [gltf.Animation(name="motion")]
    content.materials = [
        _material(gltf, "person", (*_SKIN, 1.0)),
        _material(gltf, "bones", (1.0, 1.0, 1.0, 1.0)),
        _material(gltf, "hypotheses", (*_GHOST, _GHOST_OPACITY)),
    ]
    buffer = Buffer(gltf, content)
    for motion in motions:
        rig = rig_of(motion)
        times = motion.times - start
        shown = (times[0], times[-1] + 1.0 / motion.rate if motion.times[-1] < end else None)
        if motion.body is not None:
            _add_person(buffer, motion.name, rig, body_skin(motion), 0, times, shown)
        else:
            _add_person(buffer, motion.name, rig, bone_skin(rig), 1, times, shown)
        for number in _chosen(motion, ghosts):
            assert motion.hypotheses is not None
            ghost = skeleton_rig(motion.hypotheses[:, number] @ motion.to_y_up.T, motion.skeleton)
            skin = bone_skin(ghost, _THIN, colored=False)
            _add_person(buffer, f"{motion.name} hypothesis {number + 1}", ghost, skin, 2, times, shown)
    content.buffers = [gltf.Buffer(byteLength=len(buffer.data))]
    content.set_binary_blob(bytes(buffer.data))
    write_bytes(path, b"".join(content.save_to_bytes()))


def body_skin(motion: Motion) -> Skin:
    """The mesh of a motion's body, with the eight largest skinning weights of each vertex."""
    assert motion.body is not None
    model = motion.body.model
    weights = model.skinning_weights.cpu().double().numpy()
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :_INFLUENCES]
    kept = np.take_along_axis(weights, joints, axis=1)
    joints = np.where(kept > 0, joints, 0)
    faces = model.faces.cpu().numpy()
    return Skin(rest_vertices(model, motion.body.betas), faces, joints, kept / kept.sum(axis=1, keepdims=True))


def bone_skin(rig: Rig, width: float = _THICK, colored: bool = True) -> Skin:
    """A slim octahedron for each bone, in the colour of its side; it follows the joint that turns the bone.

    Args:
        rig: its bones of no length have none.
        width: metres from the middle of a bone to its edge.
        colored: by side.
    """
    vertices, joints, colors = [], [], []
    for joint, parent in enumerate(rig.parents):
        bone = rig.rest[joint] - rig.rest[parent]
        length = np.linalg.norm(bone)
        if parent < 0 or length < 1e-6:
            continue
        aside = np.cross(bone, np.eye(3)[np.abs(bone).argmin()])
        aside *= width / np.linalg.norm(aside)
        other = np.cross(bone, aside) / length
        belt = rig.rest[parent] + _BELT * bone
        square = [belt + aside, belt + other, belt - aside, belt - other]
        vertices += [rig.rest[parent], rig.rest[joint], *square]
        joints += 6 * [parent]
        color = color_of_joint(rig.names[joint])
        colors += 6 * [[int(color[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]]
    bones = len(vertices) // 6
    faces = (_TRIANGLES + 6 * np.arange(bones)[:, None, None]).reshape(-1, 3)
    moved = np.zeros((len(vertices), _INFLUENCES), dtype=np.int64)
    moved[:, 0] = joints
    weights = np.zeros(moved.shape)
    weights[:, 0] = 1.0
    return Skin(np.array(vertices), faces, moved, weights, np.array(colors) if colored else None)


def _chosen(motion: Motion, most: int) -> list[int]:
    """Which hypotheses are drawn."""
    if motion.hypotheses is None or most < 1:
        return []
    count = motion.hypotheses.shape[1]
    return sorted({int(number) for number in np.linspace(0, count - 1, min(count, most)).round()})


def _add_person(
    buffer: Buffer,
    name: str,
    rig: Rig,
    skin: Skin,
    material: int,
    times: np.ndarray,
    shown: tuple[float, float | None],
) -> None:
    """Nodes, mesh, skin and animation of one rig."""
    gltf, content = buffer.gltf, buffer.content
    first = len(content.nodes)
    root, joint_nodes, mesh_node = first, range(first + 1, first + 1 + len(rig.names)), first + 1 + len(rig.names)
    content.nodes.append(gltf.Node(name=name, children=[joint_nodes[0], mesh_node]))
    for joint, offset in enumerate(rig.offsets):
        below = [joint_nodes[child] for child, parent in enumerate(rig.parents) if parent == joint]
        content.nodes.append(gltf.Node(name=rig.names[joint], translation=offset.tolist(), children=below))
    content.nodes.append(gltf.Node(name=f"{name} mesh", mesh=len(content.meshes), skin=len(content.skins)))
    content.scenes[0].nodes.append(root)
    content.meshes.append(gltf.Mesh(name=name, primitives=[_primitive(buffer, skin, material)]))
    bind = np.tile(np.eye(4), (len(rig.names), 1, 1))
    bind[:, :3, 3] = -rig.rest
    matrices = buffer.add(bind.swapaxes(1, 2).reshape(-1, 16), "MAT4")
    content.skins.append(
        gltf.Skin(name=name, joints=list(joint_nodes), skeleton=joint_nodes[0], inverseBindMatrices=matrices)
    )
    clock = buffer.add(times[:, None], "SCALAR", limits=True)
    _animate(buffer, clock, joint_nodes[0], "translation", buffer.add(rig.root, "VEC3"))
    for joint, node in enumerate(joint_nodes):
        _animate(buffer, clock, node, "rotation", buffer.add(_quaternions(rig.rotations[:, joint]), "VEC4"))
    begin, end = shown
    keys = [*([(0.0, 0.0)] if begin > 0.0 else []), (begin, 1.0), *([] if end is None else [(end, 0.0)])]
    if len(keys) > 1:
        clock = buffer.add(np.array([[time] for time, _ in keys]), "SCALAR", limits=True)
        scales = buffer.add(np.array([3 * [scale] for _, scale in keys]), "VEC3")
        _animate(buffer, clock, root, "scale", scales, "STEP")


def _primitive(buffer: Buffer, skin: Skin, material: int) -> Any:
    gltf = buffer.gltf
    attributes = {
        "POSITION": buffer.add(skin.vertices, "VEC3", limits=True, target=gltf.ARRAY_BUFFER),
        "NORMAL": buffer.add(vertex_normals(skin.vertices, skin.faces), "VEC3", target=gltf.ARRAY_BUFFER),
    }
    sets = _INFLUENCES // 4 if (skin.weights[:, 4:] > 0).any() else 1
    for number in range(sets):
        columns = slice(4 * number, 4 * number + 4)
        joints = skin.joints[:, columns].astype(np.uint8)
        attributes[f"JOINTS_{number}"] = buffer.add(joints, "VEC4", target=gltf.ARRAY_BUFFER)
        attributes[f"WEIGHTS_{number}"] = buffer.add(skin.weights[:, columns], "VEC4", target=gltf.ARRAY_BUFFER)
    if skin.colors is not None:
        attributes["COLOR_0"] = buffer.add(skin.colors, "VEC3", target=gltf.ARRAY_BUFFER)
    indices = buffer.add(skin.faces.reshape(-1, 1).astype(np.uint32), "SCALAR", target=gltf.ELEMENT_ARRAY_BUFFER)
    return gltf.Primitive(attributes=gltf.Attributes(**attributes), indices=indices, material=material)


def _animate(buffer: Buffer, clock: int, node: int, path: str, values: int, interpolation: str = "LINEAR") -> None:
    gltf, animation = buffer.gltf, buffer.content.animations[0]
    animation.samplers.append(gltf.AnimationSampler(input=clock, output=values, interpolation=interpolation))
    target = gltf.AnimationChannelTarget(node=node, path=path)
    animation.channels.append(gltf.AnimationChannel(sampler=len(animation.samplers) - 1, target=target))


def _quaternions(rotations: Float[np.ndarray, "F 3 3"]) -> Float[np.ndarray, "F 4"]:
    """(x, y, z, w), each on the side of the one before it, so that viewers turn the short way."""
    values = Rotation.from_matrix(rotations).as_quat()
    turned = (values[1:] * values[:-1]).sum(axis=1) < 0
    signs = np.concatenate(([1.0], np.where(turned, -1.0, 1.0))).cumprod()
    return values * signs[:, None]


def _material(gltf: Any, name: str, color: tuple[float, float, float, float]) -> Any:
    surface = gltf.PbrMetallicRoughness(baseColorFactor=list(color), metallicFactor=0.0, roughnessFactor=0.8)
    mode = "OPAQUE" if color[3] == 1.0 else "BLEND"
    return gltf.Material(name=name, pbrMetallicRoughness=surface, alphaMode=mode, doubleSided=True)
