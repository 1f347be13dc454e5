"""What is rendered and what is stored agree: silhouettes, depths, cameras and hidden points."""

import numpy as np
import pytest
import torch

from datamodules.motion import pose_bank
from methods.posepp.people import conditions, sampling
from methods.posepp.people.body import Body
from methods.posepp.records import Record, Result
from methods.posepp.settings import Settings, read_settings
from noise2pose.skeletons import SKELETONS

COCO = SKELETONS["coco_17"].joints
SETTINGS = Settings(samples=12, image_size=192)


@pytest.fixture(scope="module")
def body():
    return Body("free")


@pytest.fixture(scope="module")
def samples(body):
    """Records with what both stages made of a few samples."""
    stage = sampling.SampleStage(SETTINGS, body, pose_bank.synthetic(240))
    drawn = stage.process([Record(sample, {}) for sample in range(SETTINGS.samples)])
    records = [Record(result.id, {"sample": result.files}) for result in drawn if not result.reason]
    rendered = conditions.RenderStage(SETTINGS, body).process(records)
    return [
        Record(record.id, {**record.files, "render": result.files})
        for record, result in zip(records, rendered, strict=True)
    ]


def test_the_stored_camera_takes_stored_joints_to_stored_keypoints(samples):
    for record in samples:
        camera, labels = record.arrays("sample"), record.arrays("render")
        pixels = sampling.project(labels["keypoints_3d"].astype(np.float64), camera["K"])
        assert np.abs(pixels - labels["keypoints_2d"][:, :2]).max() < 0.01


def test_the_camera_is_that_of_the_paper(samples, body):
    for record in samples:
        camera, labels = record.arrays("sample"), record.arrays("render")
        size = camera["image_size"][0]
        offset = labels["joints_3d"] - labels["joints_3d"][0]  # from the pelvis
        f, s, tx, ty = (float(camera[key]) for key in ("f", "s", "tx", "ty"))
        assert f == pytest.approx(1.0 / np.tan(np.radians(camera["fov"]) / 2.0))
        depth = offset[:, 2] + f / s
        expected = size / 2.0 * (1.0 + f * (offset[:, :2] + [tx, ty]) / depth[:, None])
        pixels = sampling.project(labels["joints_3d"].astype(np.float64), camera["K"])
        assert np.abs(pixels - expected).max() < 0.01
        assert 0.45 <= s <= 1.1 and max(abs(tx), abs(ty)) <= 0.4 / s and 25.0 <= camera["fov"] <= 65.0


def test_joints_lie_on_the_silhouette_and_the_silhouette_is_where_depth_is(samples):
    for record in samples:
        labels, mask = record.arrays("render"), record.image("render", "mask.png") > 0
        depth = record.image("render", "depth.png")
        assert ((depth > 0) == mask).all() and labels["area"] == mask.sum()
        pixels = labels["keypoints_2d"][:, :2]
        inner = ((pixels >= 0) & (pixels < len(mask))).all(axis=1)
        column, row = np.floor(pixels[inner]).astype(int).T
        around = np.pad(mask, 1)  # points of the skin may lie on the outline
        near = [around[row + down, column + right] for down in range(3) for right in range(3)]
        assert np.any(near, axis=0).all()
        assert mask[row, column].mean() > 0.8


def test_what_is_nearer_is_brighter(samples, body):
    for record in samples:
        camera = record.arrays("sample")
        depth = record.image("render", "depth.png").astype(int)
        vertices, _ = body.pose(camera)
        sight = conditions.look(vertices, body, camera["K"], len(depth))
        shown = np.isfinite(sight.depth)
        near, far = sight.depth[shown].argsort()[[0, -1]]
        assert depth[shown][near] == 255 and depth[shown][far] == round(0.2 * 255)
        order = sight.depth[shown].argsort()
        assert (np.diff(depth[shown][order]) <= 0).all()
        low, high = record.arrays("render")["depth_range"]
        assert (low, high) == (np.float32(sight.depth[shown].min()), np.float32(sight.depth[shown].max()))


def test_a_sample_depends_on_its_number_alone(samples, body):
    stage = sampling.SampleStage(SETTINGS, body, pose_bank.synthetic(240))
    alone: Result = stage.draw(samples[5].id)
    assert alone.files == samples[5].files["sample"]
    other = sampling.SampleStage(read_settings([], ["seed=1", "image_size=192"]), body, pose_bank.synthetic(240))
    assert other.draw(samples[5].id).files != samples[5].files["sample"]


def person(body, yaw, size=256, **changes):
    """Seen points of a person with lowered arms who is turned by some degrees, and the same for other joints' turns."""
    rotvecs = np.zeros((24, 3), dtype=np.float32)
    rotvecs[16], rotvecs[17] = [0.0, 0.0, -1.2], [0.0, 0.0, 1.2]
    for joint, turn in changes.items():
        rotvecs[int(joint.removeprefix("j"))] = turn
    parameters = {"betas": np.zeros(10), "transl": np.array([0.0, 0.0, 3.0])}
    turned = sampling.yawed(rotvecs, yaw)
    parameters |= {"global_orient": turned[0], "body_pose": turned[1:].reshape(-1)}
    vertices, joints = body.pose(parameters)
    camera = sampling.Camera(0.9, 0.0, 0.0, 40.0, 2.7, size)
    sight = conditions.look(vertices, body, camera.matrix, size)
    points = body.coco(vertices, joints)
    pixels = sampling.project(points, camera.matrix)
    seen = conditions.visible(points, pixels, conditions.coco_owners(), body.model.parents, sight)
    return {name for name, is_seen in zip(COCO, seen, strict=True) if is_seen}, sampling.facing(turned[0])


def test_faces_are_hidden_from_behind_and_far_sides_from_the_side(body):
    front, yaw = person(body, 0.0)
    assert front == set(COCO) and abs(yaw) < 1e-4
    back, yaw = person(body, 180.0)
    assert abs(yaw) == pytest.approx(180.0)
    assert not back & {"nose", "left_eye", "right_eye"} and {"left_hip", "right_knee", "left_shoulder"} <= back
    side, yaw = person(body, 90.0)  # the body's left turns away: +z becomes +x, the right of the image
    assert yaw == pytest.approx(90.0)
    assert {"right_shoulder", "right_elbow", "right_knee", "right_ear"} <= side
    assert not side & {"left_shoulder", "left_hip", "left_elbow", "left_ear"}


def test_an_arm_in_front_hides_what_is_behind_it(body):
    crossed, _ = person(body, 0.0, j16=[0.0, -1.5, 0.0], j18=[0.0, -1.0, 0.0], j17=[0.0, 0.0, 1.2])
    assert {"left_wrist", "left_elbow"} <= crossed


def test_drawn_points_follow_the_option():
    pixels = np.full((18, 2), 10.0)
    pixels[4] = -5.0  # the right wrist
    seen = np.zeros(18, dtype=bool)
    names = SKELETONS["openpose_18"].joints
    drawn = {option: conditions.drawn_points(pixels, seen, 64, option) for option in ("none", "face", "all")}
    assert drawn["none"].sum() == 17 and not drawn["none"][4]
    assert {names[i] for i in np.flatnonzero(drawn["none"] & ~drawn["face"])} == {
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
    }
    assert not drawn["all"].any()


def test_projection_is_that_of_a_pinhole():
    points = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).numpy() + [0, 0, 4]
    matrix = sampling.Camera(1.0, 0.0, 0.0, 50.0, 2.0, 100).matrix
    naive = [[100 * x / z + 50, 100 * y / z + 50] for x, y, z in points]
    assert np.allclose(sampling.project(points, matrix), naive)
