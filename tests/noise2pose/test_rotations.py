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


def test_the_nearest_rotation_has_gradients_after_a_first_use_in_inference_mode():
    rotations._keep_constants.cache_clear()
    roma.mappings._cached_horn_map.cache_clear()
    with torch.inference_mode():
        rotations.nearest_rotation(torch.eye(3))
    turned = roma.random_rotmat(5)
    matrices = (turned + 0.1).requires_grad_()
    nearest = rotations.nearest_rotation(matrices)
    u, _, v = torch.linalg.svd(matrices.detach())
    u[..., -1] *= torch.det(u @ v)[:, None]
    assert torch.allclose(nearest, u @ v, atol=1e-5)
    nearest.square().sum().backward()
    assert matrices.grad is not None and matrices.grad.isfinite().all()


def test_halfway_is_the_nearest_rotation_to_the_mean():
    first, second = (roma.random_rotmat(500, dtype=torch.float64) for _ in range(2))
    middle = rotations.halfway(first, second)
    torch.testing.assert_close(middle, rotations.nearest_rotation((first + second) / 2.0), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(rotations.halfway(first, first), first)
    torch.testing.assert_close(rotations.halfway(second, first), middle, atol=1e-6, rtol=0.0)
