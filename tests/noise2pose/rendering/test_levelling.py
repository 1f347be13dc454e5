from typing import Any

import numpy as np
import pytest
import roma
import torch

from noise2pose import skeletons
from noise2pose.annotation.layout import annotate_batch, levels_of
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.rendering import figures
from noise2pose.rendering.levelling import ASSUMED, level_poses, pitch_rotation, standing_directions, summarise

SKELETON = skeletons.get("h36m_17")
_STANDING = {
    "pelvis": (0.0, 0.0, 0.0), "spine": (0.0, -0.25, 0.02), "thorax": (0.0, -0.5, 0.0), "chin": (0.0, -0.6, -0.03),
    "head_top": (0.0, -0.72, 0.0), "left_hip": (0.13, 0.0, 0.0), "left_knee": (0.14, 0.45, -0.02),
    "left_ankle": (0.13, 0.88, 0.0), "left_shoulder": (0.15, -0.47, 0.0), "left_elbow": (0.2, -0.2, 0.05),
    "left_wrist": (0.22, 0.05, 0.0),
}  # fmt: skip
ALL = np.ones(17, dtype=bool)


def turned(degrees, axis):
    """Rotation matrices about an axis of the camera frame: 0 right, 1 down, 2 forward."""
    axes = torch.eye(3, dtype=torch.float64)
    angles = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64))
    return roma.rotvec_to_rotmat(angles[..., None] * axes[axis]).numpy()


def standing(number=12, noise=0.02, seed=0, knees=0.0):
    """(T, 17, 3) metres in the world (y down): people who stand, facing all directions, joints off by centimetres.

    Their knees are bent forward by some metres.
    """
    places = {**_STANDING, **{k.replace("left", "right"): (-x, y, z) for k, (x, y, z) in _STANDING.items()}}
    places |= {name: place for name, place in _STANDING.items() if name.startswith("left")}
    pose = np.array([places[joint] for joint in SKELETON.joints])
    pose[[joint.endswith("knee") for joint in SKELETON.joints], 2] -= knees
    random = np.random.default_rng(seed)
    return pose @ turned(random.uniform(0, 360, number), 1) + random.normal(0.0, noise, (number, 17, 3))


def seen_from_above(world, pitch, roll=0.0):
    """Points of the world in the frame of a camera that looks down by some degrees."""
    return world @ (turned(roll, 2) @ turned(pitch, 0)).T


def level(poses, cameras=None, observed=None, camera_pitch=None):
    observed = np.broadcast_to(ALL, poses.shape[:2]) if observed is None else observed
    return level_poses(poses, observed, SKELETON, ["one"] * len(poses) if cameras is None else cameras, camera_pitch)


def lean(poses):
    """Degrees between the vertical and the line from between the ankles to the thorax."""
    up, _ = standing_directions(poses, np.broadcast_to(ALL, poses.shape[:2]), SKELETON)
    return np.degrees(np.arccos(-up[:, 1]))


def test_a_camera_that_looks_down_sees_heads_nearer_than_feet():
    poses = seen_from_above(standing(noise=0.0), 40.0)
    assert (poses[:, SKELETON.index("head_top"), 2] < poses[:, SKELETON.index("left_ankle"), 2]).all()
    assert np.allclose(pitch_rotation(40.0), turned(-40.0, 0), atol=1e-6)


@pytest.mark.parametrize(("pitch", "roll"), [(40.0, 0.0), (40.0, 8.0), (15.0, 0.0), (0.0, 0.0), (-20.0, 0.0)])
@pytest.mark.parametrize("number", [1, 12])
def test_people_who_stand_are_drawn_standing(pitch, roll, number):
    poses = seen_from_above(standing(number), pitch, roll)
    before = poses.copy()
    found = level(poses)
    assert lean(poses @ found.rotation.swapaxes(1, 2)).max() < 5.0
    assert np.array_equal(poses, before) and found.about[0].endswith(("poses stand", "person stands"))
    assert number == 1 or abs(np.median(lean(poses)) - np.hypot(pitch, roll)) < 3.0


@pytest.mark.parametrize("pitch", [0.0, 20.0, 40.0, 55.0])
def test_people_who_lie_are_not_stood_up(pitch):
    lying = standing(1) @ turned(90.0, 0).T @ turned(np.arange(0.0, 360.0, 30.0), 1).swapaxes(1, 2)
    found = level(seen_from_above(lying, pitch), cameras=range(12))
    assert set(found.about) == {ASSUMED} and np.array_equal(found.rotation[5], np.eye(3))


def test_what_tells_nothing_leaves_the_camera_level():
    poses = seen_from_above(standing(), 40.0)
    unseen = np.tile(ALL, (12, 1))
    unseen[:, SKELETON.index("left_knee")] = False
    assert set(level(poses, observed=unseen).about) == {ASSUMED}
    sitting = seen_from_above(standing(knees=0.4), 40.0)
    assert set(level(sitting).about) == {ASSUMED}
    apart = np.concatenate([seen_from_above(standing(6), angle) for angle in (-25.0, 45.0)])
    assert set(level(apart).about) == {ASSUMED}
    assert not level(np.full((2, 17, 3), np.nan)).rotation[0, 0, 1] and len(level(poses[:0]).rotation) == 0
    few = np.concatenate([poses[:1], np.repeat(sitting[:1], 20, axis=0)])
    assert set(level(few).about) == {ASSUMED}, "one in twenty-one may be a mistake"


def test_the_poses_of_a_video_share_a_vertical_and_each_camera_has_its_own():
    poses = np.concatenate([seen_from_above(standing(6), 40.0), seen_from_above(standing(6), 10.0)])
    poses[1, SKELETON.index("left_knee")] += 0.5  # does not stand, but is seen by the same camera
    found = level(poses, cameras=["a"] * 6 + ["b"] * 6)
    assert len({matrix.tobytes() for matrix in found.rotation}) == 2 and "if 5 of 6 poses stand" in found.about[1]
    levelled = lean(poses @ found.rotation.swapaxes(1, 2))
    assert np.delete(levelled, 1).max() < 5.0
    assert summarise(found.about) == "drawn levelled: 12 of 12 poses by those who stand"
    assert level(poses[:1]).about[0].endswith(" degrees down if this person stands")
    mixed = level(poses[[0, 1]], cameras=["a", "b"]).about
    assert summarise(mixed) == f"drawn levelled: 1 of 2 poses by those who stand, the others with the {ASSUMED}"


def test_a_given_pitch_is_believed():
    poses = seen_from_above(standing(), 40.0)
    found = level(poses, camera_pitch=40)
    assert set(found.about) == {"camera 40 degrees down, as given"} and np.allclose(found.rotation, turned(-40.0, 0))
    assert level(poses, camera_pitch=-1.2).about[0] == "camera 1 degree up, as given"
    assert summarise(level(poses, camera_pitch=0).about) == "drawn levelled: camera level, as given"
    with pytest.raises(InputError, match=r"camera_pitch is 91, expected degrees from -90 \(up\) to 90 \(down\)"):
        level(poses, camera_pitch=91)


def test_a_picture_of_a_lifted_pose_is_levelled_and_says_so():
    poses = seen_from_above(standing(3), 40.0)
    found = level(poses)
    keypoints = np.concatenate((100.0 * poses[..., :2], np.ones((3, 17, 1))), axis=-1)
    arrays = {"joints_3d": poses, "keypoints_2d": keypoints, "level_rotation": found.rotation}
    figure = figures._figure({**arrays, "level": np.array(found.about)}, 1, "someone")
    panels: list[Any] = figure.axes
    assert (
        panels[1].get_title().replace("\n", " ") == f"someone {found.about[1]}"
        and "if 3 of 3 poses stand" in found.about[1]
    )
    drawn = np.concatenate([np.array(lines._segments3d) for lines in panels[1].collections[:3]])
    legs_and_head = drawn[:, :, 2].max() - drawn[:, :, 2].min()  # the plot's z is up
    assert legs_and_head == pytest.approx(1.6, abs=0.08), "as tall as the person is"


def test_bodies_in_an_annotated_image_are_levelled():
    body = BodyModel.load("free")
    facing = turned(180.0, 0)
    number, tilt = 3, torch.from_numpy(turned(35.0, 0) @ facing).float()
    orient = tilt @ torch.from_numpy(turned([0.0, 70.0, 200.0], 1)).float()
    smpl: Any = {"global_orient": orient, "body_pose": torch.eye(3).expand(number, 23, 3, 3)}
    smpl["betas"] = torch.zeros(number, 10)
    batch: Any = {
        "keypoints_2d": torch.rand(number, 17, 3),
        "camera": {"focal": torch.full((number, 2), 500.0), "principal_point": torch.full((number, 2), 320.0)},
        "sample_id": ["a", "b", "c"],
    }
    prediction: Any = {"smpl": smpl, "camera_translation": torch.tensor([0.0, 0.0, 5.0]).expand(number, 3)}
    arrays = annotate_batch(batch, prediction, body, ["photo.jpg"] * number)
    found = levels_of(arrays)
    assert set(found.about) == {found.about[0]} and "if 3 of 3 poses stand" in found.about[0]
    assert (
        lean(arrays["joints_3d"] @ found.rotation.swapaxes(1, 2)).max() < 5.0 < 30.0 < lean(arrays["joints_3d"]).min()
    )
    assert levels_of(arrays, 35.0).about[0] == "camera 35 degrees down, as given"
