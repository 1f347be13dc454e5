import pytest
import roma
import torch

from noise2pose import rotations
from tests.parity.procedural import read_fixture
from tests.places import PARITY


@pytest.fixture(scope="module")
def hmr():
    tensors, _ = read_fixture(PARITY / "hmr_geometry.safetensors")
    return {key: torch.as_tensor(value) for key, value in tensors.items()}


def test_hmrs_six_numbers_are_interleaved(hmr):
    rotation = rotations.interleaved_6d_to_rotmat(hmr["input/rot6d"])
    assert (rotation - hmr["output/rot6d_to_rotmat"]).abs().max() < 1e-5
    again = rotations.interleaved_6d_to_rotmat(rotations.rotmat_to_interleaved_6d(rotation))
    assert torch.allclose(again, rotation, atol=1e-6)


def test_axis_angle_is_hmrs(hmr):
    rotation = rotations.rotvec_to_rotmat(hmr["input/axis_angle"])
    assert (rotation - hmr["output/rodrigues"]).abs().max() < 1e-5
    again = rotations.rotvec_to_rotmat(rotations.rotmat_to_rotvec(rotation))
    assert torch.allclose(again, rotation, atol=1e-5)


def test_quaternions_are_hmrs(hmr):
    ours = rotations.xyzw_to_wxyz(rotations.rotmat_to_unitquat(hmr["output/rodrigues"]))
    theirs = hmr["output/rotmat_to_quat"]
    sign = (ours * theirs).sum(dim=-1, keepdim=True).sign()  # q and -q are the same rotation
    assert (sign * ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stacked_layout_is_the_first_two_rows(dtype):
    rotation = roma.random_rotmat((3, 5), dtype=dtype)
    values = rotations.rotmat_to_stacked_6d(rotation)
    assert torch.equal(values[..., :3], rotation[..., 0, :]) and torch.equal(values[..., 3:], rotation[..., 1, :])
    assert torch.allclose(rotations.stacked_6d_to_rotmat(3.0 * values), rotation, atol=1e-5)


def test_quaternion_orders_are_inverses():
    quaternion = torch.tensor([1.0, 2.0, 3.0, 4.0])  # w x y z
    assert rotations.wxyz_to_xyzw(quaternion).tolist() == [2.0, 3.0, 4.0, 1.0]
    assert torch.equal(rotations.xyzw_to_wxyz(rotations.wxyz_to_xyzw(quaternion)), quaternion)


def test_slerp_moves_at_constant_speed_from_end_to_end():
    start, end = roma.random_rotmat((4,), dtype=torch.float64), roma.random_rotmat((4,), dtype=torch.float64)
    fraction = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    between = rotations.slerp(start, end, fraction)
    whole = rotations.geodesic_distance(start, end)
    assert torch.allclose(rotations.geodesic_distance(start, between), fraction * whole, atol=1e-6)
    assert torch.allclose(between[3], end[3]) and torch.allclose(between[0], start[0])
