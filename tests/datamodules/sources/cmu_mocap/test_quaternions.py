import numpy as np
import pytest
import roma
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sources.cmu_mocap import quaternions

ANGLES = st.lists(st.floats(-np.pi, np.pi), min_size=3, max_size=3).map(np.array)


def matrix(quaternion):
    """The rotation matrix by `roma`, which has the real part last."""
    return roma.unitquat_to_rotmat(torch.from_numpy(np.roll(quaternion, -1, axis=-1))).numpy()


@given(ANGLES, ANGLES)
def test_products_inverses_and_rotated_vectors_are_those_of_matrices(first, second):
    a, b = quaternions.from_euler(first, "xyz"), quaternions.from_euler(second, "zyx")
    assert np.allclose(matrix(quaternions.multiply(a, b)), matrix(a) @ matrix(b))
    assert np.allclose(matrix(quaternions.conjugate(a)), matrix(a).T)
    assert np.allclose(quaternions.rotate(a, second), matrix(a) @ second)


@pytest.mark.parametrize("axes", ["xyz", "zxy", "yx", "z"])
def test_euler_angles_turn_about_fixed_axes_first_letter_first(axes):
    angles = np.random.default_rng(0).uniform(-3, 3, (7, len(axes)))
    expected = roma.euler_to_rotmat(axes, [*torch.from_numpy(angles).unbind(-1)]).numpy()
    assert np.allclose(matrix(quaternions.from_euler(angles, axes)), expected)


@given(ANGLES)
def test_rotation_vectors_are_those_of_roma(angles):
    quaternion = quaternions.from_euler(angles, "xyz")
    rotvec = quaternions.to_rotvec(quaternion)
    assert np.linalg.norm(rotvec) <= np.pi + 1e-9
    assert np.allclose(roma.rotvec_to_rotmat(torch.from_numpy(rotvec)).numpy(), matrix(quaternion))


@given(ANGLES, ANGLES, st.floats(0.0, 1.0))
def test_interpolation_is_that_of_roma_and_keeps_to_the_shorter_arc(first, second, share):
    a, b = quaternions.from_euler(first, "xyz"), quaternions.from_euler(second, "xyz")
    if abs(a @ b) < 1e-3:
        return  # half a turn apart, where either way is as short
    between = quaternions.slerp(a, b, np.array(share))
    x, y = (torch.from_numpy(np.roll(q, -1)) for q in (a, b))
    expected = roma.unitquat_slerp(x, y, torch.tensor([share], dtype=torch.float64), shortest_arc=True)[0]
    assert np.allclose(matrix(between), roma.unitquat_to_rotmat(expected).numpy(), atol=1e-7)
    assert np.linalg.norm(between) == pytest.approx(1.0)


def test_the_rotation_between_directions_turns_one_into_the_other_and_nothing_else():
    start, end = np.array([0.0, 2.0, 0.0]), np.array([3.0, 3.0, 0.0])
    quaternion = quaternions.between(start, end)
    assert np.allclose(quaternions.rotate(quaternion, start), [2**0.5, 2**0.5, 0.0])
    assert np.allclose(quaternions.to_rotvec(quaternion), [0.0, 0.0, -np.pi / 4])
