"""Skeletons as SVG: the same view as matplotlib's, one scale, and nothing of joints that were not seen."""

import re

import numpy as np
import pytest

from noise2pose import skeletons
from noise2pose.rendering.skeletons import LEFT, RIGHT, upright, view_axes
from noise2pose.rendering.vector import SIDE, keypoints_svg, poses_svg

SKELETON = skeletons.get("h36m_17")


def pose(seed=0):
    return np.random.default_rng(seed).normal(scale=0.4, size=(17, 3))


def ends(part):
    return np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", part.split('d="')[1].split('"')[0]), float)


def test_up_and_right_are_those_of_the_camera():
    right, up = view_axes()
    assert upright(np.array([0.0, -1.0, 0.0])) @ up > 0.9 and upright(np.array([1.0, 0.0, 0.0])) @ right > 0.7
    assert abs(upright(np.array([0.0, 0.0, 1.0])) @ right) > 0.6, "depth shows"


def test_the_view_is_that_of_the_figures():
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import proj3d

    from noise2pose.rendering.skeletons import draw_skeleton_3d

    ax = Figure().add_subplot(projection="3d")
    draw_skeleton_3d(ax, pose(), SKELETON)
    ax.figure.canvas.draw()
    points = upright(pose())
    theirs = np.stack(proj3d.proj_transform(*points.T, ax.get_proj())[:2], axis=1)
    ours = points @ view_axes().T
    theirs, ours = (values - values.mean(axis=0) for values in (theirs, ours))
    assert np.allclose(theirs / np.linalg.norm(theirs), ours / np.linalg.norm(ours), atol=1e-3)


def test_several_poses_of_one_extent_share_their_scale():
    target = pose()
    extent = np.concatenate([target, 2 * pose(1)])
    one, two = (poses_svg(target, prediction, SKELETON, extent) for prediction in (pose(1), 2 * pose(1)))
    assert one[:2] == two[:2] and one[2:] != two[2:], "floor and truth are the same, the predictions differ"
    assert all((ends(part) >= 0).all() and (ends(part) <= SIDE).all() for part in two[1:])


def test_left_and_right_have_their_colours():
    moved = pose()
    moved[SKELETON.index("left_wrist")] += 0.1
    before, after = (poses_svg(pose(), prediction, SKELETON, pose()) for prediction in (pose(), moved))
    changed = [one for one, other in zip(before, after, strict=True) if one != other]
    assert len(changed) == 1 and LEFT in changed[0] and RIGHT not in changed[0]


def test_joints_that_were_not_seen_are_not_drawn():
    keypoints = np.concatenate([100 * pose()[:, :2], np.ones((17, 1))], axis=1)
    hidden = keypoints.copy()
    hidden[SKELETON.index("left_wrist")] = [1e6, 1e6, 0.0]
    *_, dots = keypoints_svg(hidden, SKELETON)
    assert dots.count("M") == 16 and not keypoints_svg(np.zeros((17, 3)), SKELETON)
    assert len("".join(keypoints_svg(hidden, SKELETON))) < len("".join(keypoints_svg(keypoints, SKELETON)))


def test_a_prediction_that_diverged_leaves_the_truth():
    broken = np.full((17, 3), np.nan)
    assert "nan" not in "".join(poses_svg(pose(), broken, SKELETON, np.concatenate([pose(), broken])))
    with pytest.raises(ValueError, match="cannot be drawn as this skeleton"):
        poses_svg(pose()[:5], pose(), SKELETON, pose())
