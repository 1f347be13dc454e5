import numpy as np
import pytest
import roma
import torch

from noise2pose.motion.filters import Filter
from noise2pose.motion.smoothing import smooth_joints, smooth_rotations

FILTERS = [Filter("butterworth", 4.0), Filter("one_euro", 1.5)]
TIMES = np.arange(60) / 30.0
SEEN = np.ones(60, dtype=bool)


def matrices(vectors):
    return roma.rotvec_to_rotmat(torch.from_numpy(np.asarray(vectors))).numpy()


def wobble(size, seed=0):
    """Rotations about changing axes with noise."""
    phase = np.arange(6).reshape(2, 3)
    smooth = np.sin(3.0 * TIMES[:, None, None] + phase)
    return matrices(size * (smooth + np.random.default_rng(seed).normal(0.0, 0.1, (60, 2, 3))))


def angle(a, b):
    return roma.rotmat_geodesic_distance(torch.from_numpy(a), torch.from_numpy(b)).numpy()


@pytest.mark.parametrize("low_pass", FILTERS)
def test_rotations_depend_on_no_axes(low_pass):
    rotations = wobble(0.8)
    smooth, leapt = smooth_rotations(low_pass, rotations, TIMES, SEEN)
    assert leapt == 0 and np.allclose(smooth @ smooth.swapaxes(-1, -2), np.eye(3), atol=1e-9)
    left, right = matrices([0.3, 2.9, -1.1]), matrices([-2.0, 0.4, 1.0])
    turned, _ = smooth_rotations(low_pass, left @ rotations @ right, TIMES, SEEN)
    assert np.abs(turned - left @ smooth @ right).max() < 1e-9
    swapped, _ = smooth_rotations(low_pass, rotations[:, ::-1], TIMES, SEEN)
    assert np.allclose(swapped, smooth[:, ::-1])


@pytest.mark.parametrize("low_pass", FILTERS)
def test_small_rotations_are_filtered_like_their_vectors(low_pass):
    vectors = 1e-3 * np.random.default_rng(0).normal(size=(60, 2, 3))
    smooth, _ = smooth_rotations(low_pass, matrices(vectors), TIMES, SEEN)
    found = roma.rotmat_to_rotvec(torch.from_numpy(smooth)).numpy()
    beta = 3.0 * 0.4 / 1.0  # hertz for 1 rad/s
    assert np.allclose(found, low_pass(vectors, TIMES, beta), atol=2e-8)


def test_a_turn_at_constant_speed_stays_beyond_half_a_turn():
    angles = 7.0 * TIMES  # more than two turns
    axis = np.array([0.6, 0.0, 0.8])
    rotations = matrices(angles[:, None, None] * axis)
    smooth, leapt = smooth_rotations(FILTERS[0], rotations, TIMES, SEEN)
    assert leapt == 0 and np.degrees(angle(smooth, rotations))[6:-6].max() < 0.5
    still = np.repeat(matrices([[[0.0, 3.1, 0.0]]]), 60, axis=0)
    for low_pass in FILTERS:
        assert np.degrees(angle(smooth_rotations(low_pass, still, TIMES, SEEN)[0], still)).max() < 1e-4


def test_unseen_frames_and_leaps_of_rotations_do_not_pull():
    rotations, broken, seen = wobble(0.3), wobble(0.3), SEEN.copy()
    seen[20:26] = False
    broken[20:26] = matrices([2.0, 2.0, 0.0])
    broken[40, 1] = broken[40, 1] @ matrices([np.pi, 0.0, 0.0])  # the limit, where signs are arbitrary
    expected, _ = smooth_rotations(FILTERS[0], rotations, TIMES, seen)
    smooth, leapt = smooth_rotations(FILTERS[0], broken, TIMES, seen)
    assert leapt == 1 and np.abs(smooth - expected)[:, 0].max() < 1e-12
    assert np.degrees(angle(smooth, expected)).max() < 3.0


def test_joints_with_uncertainty_and_hypotheses():
    generator = np.random.default_rng(0)
    clean = np.stack([np.sin(2.0 * TIMES), np.cos(TIMES), 0.0 * TIMES], axis=-1)[:, None].repeat(3, axis=1)
    joints = (clean + generator.normal(0.0, 0.02, clean.shape)).astype(np.float32)
    spread = generator.normal(0.0, 0.05, (60, 4, 3, 3)).astype(np.float32)
    hypotheses = joints[:, None] + spread - spread.mean(axis=1, keepdims=True)
    uncertainty = np.full((60, 3), 0.05, dtype=np.float32)
    low_pass = FILTERS[0]
    result = smooth_joints(low_pass, joints, TIMES, SEEN, uncertainty, hypotheses)
    assert result.outliers == 0 and np.abs(result.joints - clean).max() < np.abs(joints - clean).max()
    assert result.hypotheses is not None and result.uncertainty is not None
    assert np.array_equal(result.uncertainty, uncertainty)
    assert np.allclose(result.hypotheses.mean(axis=1), result.joints, atol=1e-5)
    assert np.allclose(result.hypotheses.std(axis=1), hypotheses.std(axis=1), atol=1e-5)
    broken, wide, seen = hypotheses.copy(), uncertainty.copy(), SEEN.copy()
    broken[30, :, 1] += 0.6
    wide[30, 1] = 9.0
    broken[10:14] += 3.0
    seen[10:14] = False
    again = smooth_joints(low_pass, broken.mean(axis=1), TIMES, seen, wide, broken)
    assert again.outliers == 1 and again.uncertainty is not None and np.allclose(again.uncertainty, 0.05)
    assert np.abs(again.joints - clean).max() < 0.05 and again.joints.dtype == np.float32
    assert again.hypotheses is not None and np.allclose(again.hypotheses.mean(axis=1), again.joints, atol=1e-5)
    alone = smooth_joints(low_pass, joints, TIMES, SEEN)
    assert alone.uncertainty is None and alone.hypotheses is None and np.array_equal(alone.joints, result.joints)
