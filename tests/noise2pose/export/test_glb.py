from functools import cache

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from noise2pose.errors import InputError
from noise2pose.export.glb import write_glb
from tests.noise2pose.export.motions import FPS, H36M, body_motion, body_places, free_body, joint_motion, places

pygltflib = pytest.importorskip("pygltflib")
MILLIMETRE = 0.001
KINDS = {5126: np.float32, 5125: np.uint32, 5121: np.uint8}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Scene:
    """A glb file, evaluated as the specification says: node transforms, animation, linear blend skinning."""

    def __init__(self, path):
        self.gltf = pygltflib.GLTF2().load(str(path))
        self.blob = self.gltf.binary_blob()
        self.nodes = [node.name for node in self.gltf.nodes]
        self.parents = [-1] * len(self.nodes)
        for number, node in enumerate(self.gltf.nodes):
            for child in node.children:
                self.parents[child] = number
        (self.animation,) = self.gltf.animations
        self.values = cache(self.values)

    def values(self, accessor):
        about = self.gltf.accessors[accessor]
        view = self.gltf.bufferViews[about.bufferView]
        kind, width = KINDS[about.componentType], WIDTHS[about.type]
        start = view.byteOffset + about.byteOffset
        found = np.frombuffer(self.blob, kind, about.count * width, start).reshape(about.count, width)
        if about.min:
            assert np.array_equal(found.min(axis=0), np.array(about.min, dtype=kind))
            assert np.array_equal(found.max(axis=0), np.array(about.max, dtype=kind))
        return found.astype(np.float64)

    def times(self, name):
        return next(times for path, times, _, _ in self.channels(name) if path == "rotation")

    def channels(self, name):
        for channel in self.animation.channels:
            if self.nodes[channel.target.node] == name:
                sampler = self.animation.samplers[channel.sampler]
                yield channel.target.path, self.values(sampler.input)[:, 0], self.values(sampler.output), sampler

    def local(self, number, time):
        """4 x 4 of a node at a time which is a key."""
        node = self.gltf.nodes[number]
        parts = {"translation": node.translation or [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]}
        for channel in self.animation.channels:
            if channel.target.node == number:
                sampler = self.animation.samplers[channel.sampler]
                keys, values = self.values(sampler.input)[:, 0], self.values(sampler.output)
                row = max(int(np.searchsorted(keys, time + 1e-4, side="right")) - 1, 0)
                parts[channel.target.path] = values[row]
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_quat(parts["rotation"]).as_matrix() * np.array(parts["scale"])
        matrix[:3, 3] = parts["translation"]
        return matrix

    def world(self, number, time):
        own = self.local(number, time)
        return own if self.parents[number] < 0 else self.world(self.parents[number], time) @ own

    def person(self, name):
        """Mesh node, and numbers of the joints of its skin."""
        number = self.nodes.index(f"{name} mesh")
        return self.gltf.nodes[number], self.gltf.skins[self.gltf.nodes[number].skin].joints

    def vertices(self, name, time):
        node, joints = self.person(name)
        primitive = self.gltf.meshes[node.mesh].primitives[0]
        bind = self.values(self.gltf.skins[node.skin].inverseBindMatrices).reshape(-1, 4, 4).swapaxes(1, 2)
        moved = np.stack([self.world(joint, time) for joint in joints]) @ bind
        points = self.values(primitive.attributes.POSITION)
        points = np.concatenate((points, np.ones((len(points), 1))), axis=1)
        result, total = np.zeros((len(points), 4)), 0.0
        for number in (0, 1):
            which = getattr(primitive.attributes, f"JOINTS_{number}", None)
            if which is None:
                continue
            weights = self.values(getattr(primitive.attributes, f"WEIGHTS_{number}"))
            total = total + weights.sum(axis=1)
            for column in range(4):
                matrices = moved[self.values(which)[:, column].astype(int)]
                result += weights[:, column, None] * np.einsum("vab,vb->va", matrices, points)
        assert np.allclose(total, 1.0, atol=1e-5)
        return result[:, :3]

    def joints(self, name, time, names):
        _, joints = self.person(name)
        found = {self.nodes[joint]: self.world(joint, time)[:3, 3] for joint in joints}
        return np.array([found[each] for each in names])


def test_skinning_and_animation_give_the_vertices_and_joints_of_the_body_model(tmp_path):
    motion = body_motion(3)
    write_glb(tmp_path / "a.glb", [motion])
    scene = Scene(tmp_path / "a.glb")
    vertices, joints = body_places(motion)
    times = scene.times("Pelvis")
    assert np.allclose(times, np.arange(3) / FPS, atol=1e-6)
    for frame, time in enumerate(times):
        assert np.abs(scene.vertices("anna", time) - vertices[frame]).max() < MILLIMETRE
        assert np.abs(scene.joints("anna", time, free_body().joint_names) - joints[frame]).max() < MILLIMETRE
    node, _ = scene.person("anna")
    faces = scene.values(scene.gltf.meshes[node.mesh].primitives[0].indices).reshape(-1, 3)
    assert np.array_equal(faces, free_body().faces.numpy())
    a, b, c = vertices[0][faces.astype(int).T]
    assert np.einsum("tc,tc->", np.cross(b - a, c - a), a - vertices[0].mean(axis=0)) > 0  # the outside is outside


def test_a_lifter_has_bones_and_its_hypotheses_are_translucent(tmp_path):
    motion = joint_motion(3)
    write_glb(tmp_path / "a.glb", [motion], ghosts=2)
    scene = Scene(tmp_path / "a.glb")
    for frame, time in enumerate(np.arange(3) / FPS):
        assert np.abs(scene.joints("berta", time, H36M.joints) - places(motion)[frame]).max() < MILLIMETRE
        bones = scene.vertices("berta", time).reshape(-1, 6, 3)  # ends first
        assert len(bones) == 16
        want = np.array([places(motion)[frame][list(edge)] for edge in H36M.edges])
        apart = np.abs(bones[:, None, :2] - want[None]).max(axis=(2, 3))
        assert (apart.min(axis=0) < MILLIMETRE).all() and sorted(apart.argmin(axis=0)) == list(range(16))
    people = [scene.nodes[number] for number in scene.gltf.scenes[0].nodes]
    assert people == ["berta", "berta hypothesis 1", "berta hypothesis 3"]
    modes = []
    for name in people:
        node, _ = scene.person(name)
        material = scene.gltf.materials[scene.gltf.meshes[node.mesh].primitives[0].material]
        modes.append((material.alphaMode, material.pbrMetallicRoughness.baseColorFactor[3]))
    assert modes == [("OPAQUE", 1.0), ("BLEND", 0.25), ("BLEND", 0.25)]
    write_glb(tmp_path / "none.glb", [motion], ghosts=0)
    assert len(Scene(tmp_path / "none.glb").gltf.scenes[0].nodes) == 1


def test_the_sides_have_their_names_and_colours(tmp_path):
    write_glb(tmp_path / "a.glb", [joint_motion(1)])
    scene = Scene(tmp_path / "a.glb")
    node, _ = scene.person("berta")
    attributes = scene.gltf.meshes[node.mesh].primitives[0].attributes
    rest = scene.values(attributes.POSITION)
    red, _, blue = scene.values(attributes.COLOR_0).T
    wide = np.abs(rest[:, 0]) > 0.3  # arms of the T-pose: blue on the body's left, which is +x; vermilion on the right
    assert wide.any() and ((blue > red) == (rest[:, 0] > 0))[wide].all()


def test_people_of_one_scene_share_its_clock_and_are_hidden_while_they_are_away(tmp_path):
    first = body_motion(6)
    late = joint_motion(3, frames=np.arange(2, 5))
    write_glb(tmp_path / "a.glb", [first, late], ghosts=0)
    scene = Scene(tmp_path / "a.glb")
    assert np.allclose(scene.times("pelvis"), np.arange(2, 5) / FPS, atol=1e-6)
    scale = [(times, values, sampler) for path, times, values, sampler in scene.channels("berta") if path == "scale"]
    ((times, values, sampler),) = scale
    assert np.allclose(times * FPS, [0, 2, 5], atol=1e-5) and values[:, 0].tolist() == [0, 1, 0]
    assert sampler.interpolation == "STEP" and not [path for path, *_ in scene.channels("anna")]
    assert np.abs(scene.vertices("berta", 0.0)).max() == 0.0
    later = joint_motion(3, frames=np.arange(100, 103))
    write_glb(tmp_path / "b.glb", [later], ghosts=0)
    assert Scene(tmp_path / "b.glb").times("pelvis")[0] == 0.0  # a film does not begin with seconds of nothing
    with pytest.raises(InputError, match="there is nobody to write"):
        write_glb(tmp_path / "c.glb", [])


def test_quaternions_turn_the_short_way_between_frames(tmp_path):
    write_glb(tmp_path / "a.glb", [body_motion(20)])
    scene = Scene(tmp_path / "a.glb")
    for name in free_body().joint_names:
        for path, _, values, _ in scene.channels(name):
            if path == "rotation":
                assert (np.einsum("fc,fc->f", values[1:], values[:-1]) >= 0).all()
                assert np.allclose(np.linalg.norm(values, axis=1), 1.0, atol=1e-5)
