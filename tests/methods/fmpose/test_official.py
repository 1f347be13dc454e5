import pytest
import torch

from methods.fmpose import official
from methods.fmpose.flow import euler
from methods.fmpose.networks import adjacency
from noise2pose import skeletons
from noise2pose.errors import InputError
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY


@pytest.fixture(scope="module")
def published():
    """Recorded tensors with the frame axis taken away, and a state dict under the official names."""
    tensors, meta = read_fixture(PARITY / "fmpose3d_humans.safetensors")
    tensors = {key: torch.as_tensor(value) for key, value in tensors.items()}
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    return {key: value[:, 0] if value.ndim == 4 else value for key, value in tensors.items()}, weights


@pytest.fixture(scope="module")
def network(published):
    return official.load_fmpose3d(published[1])


@torch.no_grad()
def test_the_velocity_is_the_released_one(published, network):
    tensors, _ = published
    assert torch.equal(adjacency(skeletons.get(official.SKELETON)), tensors["input/adjacency"])
    assert_close(network.time_embedding(tensors["input/t"]), tensors["output/time_embedding"])
    velocity = network(tensors["input/pose_2d"], tensors["input/y"], tensors["input/t"])
    assert_close(velocity, tensors["output/velocity"])
    assert sum(parameter.numel() for parameter in network.parameters()) == 16_045_837


@torch.no_grad()
@pytest.mark.parametrize("steps", [3, 10])
def test_eulers_method_is_the_released_one(published, network, steps):
    tensors, _ = published
    poses = euler(network, tensors["input/pose_2d"], tensors["input/y"], steps)
    assert_close(poses, tensors[f"output/euler_{steps}"])


def test_published_files_load_as_they_are(published):
    tensors, weights = published
    matrices = {"A": tensors["input/adjacency"], "FMPose3D.blocks.3.gcn1.adj": tensors["input/adjacency"]}
    wrapped = {"CFM": {f"module.{key}": value for key, value in {**weights, **matrices}.items()}}
    loaded = official.load_fmpose3d(wrapped)
    assert torch.equal(loaded.output.bias, torch.as_tensor(weights["pred_mu.fc2.bias"]))
    with pytest.raises(InputError, match="A is not the adjacency of h36m_17"):
        official.load_fmpose3d({**weights, "A": tensors["input/adjacency"].flip(0)})
    with pytest.raises(InputError, match="encoder.fc1.weight takes 38 channels, expected 37"):
        official.load_fmpose3d({**weights, "encoder.fc1.weight": torch.zeros(256, 38)})
    with pytest.raises(InputError, match="pred_mu.fc2.bias is missing"):
        official.load_fmpose3d({key: value for key, value in weights.items() if key != "pred_mu.fc2.bias"})
