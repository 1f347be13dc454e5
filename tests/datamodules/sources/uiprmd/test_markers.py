"""Joint centres from markers that were placed around known joints."""

import numpy as np
import pytest

from datamodules.sources.uiprmd.markers import MARKERS, bridge_gaps, joints_of_markers
from tests.datamodules import uiprmd_tree as tree

LEFT = {4: tree.HIP, 5: tree.KNEE, 6: tree.ANKLE, 11: tree.SHOULDER, 12: tree.ELBOW, 13: tree.WRIST}


def test_joints_are_where_the_markers_were_placed_around():
    (joints,) = joints_of_markers(tree.standing()[None])
    for left, place in LEFT.items():
        right = {4: 1, 5: 2, 6: 3, 11: 14, 12: 15, 13: 16}[left]
        tolerance = 0.02 if left == 12 else 1e-9  # the axis of an elbow is only seen in its bend
        assert np.allclose(joints[left], place, atol=tolerance), left
        assert np.allclose(joints[right], place * [1, -1, 1], atol=tolerance), right
    assert np.allclose(joints[0], [0.0, 0.0, 1.0]) and np.allclose(joints[8], [0.0, 0.0, 1.5])
    assert 0.05 < joints[0, 2] - (joints[1, 2] + joints[4, 2]) / 2 < 0.11  # the pelvis is above the hips
    assert joints[8, 2] < joints[9, 2] < joints[10, 2]


def test_joints_move_rigidly_with_the_body():
    moving = tree.swaying(tree.standing(), frames=20, fps=100.0)
    (still,) = joints_of_markers(tree.standing()[None])
    assert np.allclose(joints_of_markers(moving), tree.swaying(still, frames=20, fps=100.0), atol=1e-9)


def naive_bridge(values, longest):
    """Frame by frame: the nearest frames on both sides that have the marker."""
    filled = values.copy()
    for frame in range(len(values)):
        for marker in range(values.shape[1]):
            there = [i for i in range(len(values)) if not np.isnan(values[i, marker]).any()]
            before, after = [i for i in there if i < frame], [i for i in there if i > frame]
            if frame not in there and before and after and after[0] - before[-1] - 1 <= longest:
                share = (frame - before[-1]) / (after[0] - before[-1])
                filled[frame, marker] = values[before[-1], marker] * (1 - share) + values[after[0], marker] * share
    return filled


def test_short_gaps_are_bridged_and_long_ones_are_not():
    generator = np.random.default_rng(0)
    markers = generator.normal(size=(40, 3, 3))
    for marker, start, stop in ((0, 5, 9), (0, 20, 31), (1, 0, 3), (2, 35, 40)):
        markers[start:stop, marker] = np.nan
    bridged = bridge_gaps(markers, longest=10)
    assert np.allclose(bridged, naive_bridge(markers, 10), equal_nan=True)
    assert np.isnan(bridged[20:31, 0]).all() and np.isfinite(bridged[5:9, 0]).all()


@pytest.mark.parametrize("marker, joints", [("RKNE", {2, 3}), ("LWRA", {12, 13}), ("RASI", {0, 1, 2, 3, 4, 5, 6})])
def test_a_missing_marker_takes_only_its_joints(marker, joints):
    markers = np.tile(tree.standing(), (3, 1, 1))
    markers[1, MARKERS.index(marker)] = np.nan
    markers = np.concatenate([markers[1:2]] * 60)
    markers[0] = tree.standing()
    missing = np.isnan(joints_of_markers(markers)[5]).any(axis=-1)
    assert set(np.flatnonzero(missing).tolist()) == joints
