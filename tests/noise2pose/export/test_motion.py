import numpy as np
import pytest
import torch

from noise2pose.export.motion import one_shape, side_by_side
from noise2pose.export.rig import rig_of
from tests.noise2pose.export.motions import FPS, body_motion, body_places, free_body, joint_motion, places


def test_the_axes_of_files_are_rotations():
    motion = body_motion()
    for axes in (motion.to_y_up, motion.to_z_up):
        assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-6) and np.linalg.det(axes) == pytest.approx(1.0)
    level = joint_motion(level=np.eye(3))
    assert (level.to_y_up @ [1, 0, 0]).tolist() == [1, 0, 0] and (level.to_y_up @ [0, 1, 0]).tolist() == [0, -1, 0]
    assert (level.to_z_up @ [0, 1, 0]).tolist() == [0, 0, -1] and (level.to_z_up @ [0, 0, 1]).tolist() == [0, 1, 0]
    up_of_camera = np.array([0.0, -np.cos(np.radians(15.0)), -np.sin(np.radians(15.0))])  # looks down by 15 degrees
    assert np.allclose(motion.to_y_up @ up_of_camera, [0, 1, 0], atol=1e-6)


def test_gaps_are_filled_on_straight_lines_and_great_circles_and_marked():
    motion = body_motion(3).rows([0, 2])
    motion = motion.rows([0, 1])
    filled = motion.consecutive()
    assert filled.frames.tolist() == [0, 2] and filled.rate == pytest.approx(FPS / 2.0)  # every second frame is no gap
    motion = body_motion(6).rows([0, 1, 4, 5])
    filled = motion.consecutive()
    assert filled.frames.tolist() == list(range(6)) and filled.rate == FPS
    assert filled.measured is not None and filled.measured.tolist() == [True, True, False, False, True, True]
    assert np.allclose(filled.joints[2], (2.0 * motion.joints[1] + motion.joints[2]) / 3.0, atol=1e-6)
    assert filled.keypoints_2d is not None and not filled.keypoints_2d[2:4, :, 2].any()
    body, before = filled.body, motion.body
    assert body is not None and before is not None
    turn = before.rotations[1].swapaxes(-1, -2) @ before.rotations[2]
    third = before.rotations[1].swapaxes(-1, -2) @ body.rotations[2]
    assert np.allclose(third @ third @ third, turn, atol=1e-4)
    assert np.array_equal(body.rotations[[0, 1, 4, 5]], before.rotations)


def test_irregular_times_become_regular_frames():
    motion = joint_motion(5, seconds=np.array([0.0, 1.0, 1.96, 3.3, 4.0]) / FPS)
    even = motion.consecutive()
    assert even.frames.tolist() == [0, 1, 2, 3, 4] and even.seconds is None and even.rate == FPS
    assert even.measured is not None and even.measured.all()
    share = (3.0 - 1.96) / (3.3 - 1.96)
    assert np.allclose(even.joints[3], (1 - share) * motion.joints[2] + share * motion.joints[3], atol=1e-6)
    slow = joint_motion(3, seconds=np.array([0.0, 1.0, 5.0]) / FPS).consecutive()
    assert len(slow) == 6 and slow.measured is not None and slow.measured.tolist() == [True] * 2 + [False] * 3 + [True]


def test_one_shape_keeps_the_root_in_its_place():
    motion, body = body_motion(4), free_body()
    assert motion.body is not None
    betas = motion.body.betas + np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
    placed = one_shape(body, motion.body.rotations, betas, motion.body.translation)
    assert np.allclose(placed.betas, np.median(betas, axis=0))
    roots = body.rest_joints(torch.from_numpy(betas))[:, 0].numpy() + motion.body.translation
    now = body.rest_joints(torch.from_numpy(placed.betas))[0].numpy() + placed.translation
    assert np.allclose(roots, now, atol=1e-6)


def test_a_rig_has_the_joints_of_its_body():
    motion = body_motion()
    assert np.abs(rig_of(motion).places() - body_places(motion)[1]).max() < 1e-5


def test_people_without_a_place_stand_beside_each_other_in_the_order_of_the_image():
    first, second = joint_motion(2, name="1"), joint_motion(2, name="2")
    assert second.keypoints_2d is not None and second.hypotheses is not None
    left = joint_motion(2, name="3", keypoints_2d=second.keypoints_2d - [50.0, 0.0, 0.0])
    moved = side_by_side([first, left, body_motion(2)])
    pelvis = [places(motion)[:, 0] for motion in moved]
    assert np.allclose(pelvis[0], [0.45, 0.0, -0.45], atol=1e-6) and np.allclose(
        pelvis[1], [-0.45, 0.0, 0.45], atol=1e-6
    )
    assert np.array_equal(moved[2].joints, body_motion(2).joints)
    for motion in moved[:2]:
        assert motion.hypotheses is not None
        away = motion.hypotheses - motion.joints[:, None]
        assert np.allclose(away, second.hypotheses - second.joints[:, None], atol=1e-6)
    assert side_by_side([first])[0] is first
