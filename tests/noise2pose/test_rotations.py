import pytest
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
