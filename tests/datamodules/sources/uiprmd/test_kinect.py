"""Forward kinematics of the Kinect's files, and the pairing with the Vicon."""

import numpy as np
from scipy.spatial.transform import Rotation

from datamodules.sources.uiprmd import kinect
from tests.datamodules import uiprmd_tree as tree

PARENTS = {
    **{"spine": "waist", "chest": "spine", "neck": "chest", "head": "neck", "head_tip": "head"},
    **{f"{side}_collar": "chest" for side in ("left", "right")},
    **{f"{side}_upper_arm": f"{side}_collar" for side in ("left", "right")},
    **{f"{side}_forearm": f"{side}_upper_arm" for side in ("left", "right")},
    **{f"{side}_hand": f"{side}_forearm" for side in ("left", "right")},
    **{f"{side}_upper_leg": "waist" for side in ("left", "right")},
    **{f"{side}_lower_leg": f"{side}_upper_leg" for side in ("left", "right")},
    **{f"{side}_foot": f"{side}_lower_leg" for side in ("left", "right")},
    **{f"{side}_toes": f"{side}_foot" for side in ("left", "right")},
}
H36M = [
    *("waist", "right_upper_leg", "right_lower_leg", "right_foot", "left_upper_leg", "left_lower_leg", "left_foot"),
    *("spine", "neck", "head", "head_tip", "left_upper_arm", "left_forearm", "left_hand"),
    *("right_upper_arm", "right_forearm", "right_hand"),
]


def turn(axis, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(4)
    matrix[i, i] = matrix[j, j] = c
    matrix[j, i], matrix[i, j] = s, -s
    return matrix


def naive(positions, angles, joint):
    """4x4 transform of a joint of one frame, from the root down."""
    number = kinect.JOINTS.index(joint)
    moved = np.eye(4)
    moved[:3, 3] = positions[number]
    x, y, z = angles[number]
    own = moved @ turn("z", z) @ turn("x", x) @ turn("y", y)
    return own if joint == "waist" else naive(positions, angles, PARENTS[joint]) @ own


def test_kinematics_equal_matrices_from_the_root_down():
    positions, angles = tree.kinect_positions(5)
    joints = kinect.joints_of_kinect(positions, angles)
    for frame in (0, 4):
        expected = np.stack([naive(positions[frame], angles[frame], name)[:3, 3] for name in H36M]) / 100.0
        assert np.allclose(joints[frame], expected @ [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-12)  # y up to z up


def test_pairs_are_of_the_same_moment_in_the_world_of_the_vicon():
    points = np.random.default_rng(0).normal(size=(17, 3))
    truth = tree.swaying(points, frames=300, fps=100.0)
    seen = tree.swaying(points, frames=60, fps=30.0, start=0.3) + np.random.default_rng(1).normal(0, 0.01, (60, 17, 3))
    elsewhere = Rotation.from_rotvec([0.1, 0.2, 2.0]).apply(seen.reshape(-1, 3)).reshape(60, 17, 3) + [1.0, 2.0, 3.0]
    pairs = kinect.pair(elsewhere, truth)
    assert pairs is not None and abs(pairs.shift - 0.3) < 0.02 and pairs.error < 0.02
    assert np.allclose(pairs.truth, truth[(30 + np.arange(60) * 10 / 3).round().astype(int)], atol=0.05)
    truth[40:] = np.nan
    assert kinect.pair(elsewhere, truth) is None
