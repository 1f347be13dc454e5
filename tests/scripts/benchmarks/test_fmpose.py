import torch

from methods.fmpose import official
from methods.fmpose.flow import euler
from methods.fmpose.networks import adjacency
from noise2pose import skeletons
from scripts.benchmarks.fmpose_textbook import TextbookVelocity
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY

MATRICES = adjacency(skeletons.get("h36m_17"))


@torch.no_grad()
def test_the_textbook_is_the_released_network_under_the_official_names():
    tensors, meta = read_fixture(PARITY / "fmpose3d_humans.safetensors")
    tensors = {key: torch.as_tensor(value) for key, value in tensors.items()}
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    textbook = TextbookVelocity(tensors["input/adjacency"]).eval()
    textbook.load_state_dict({key: torch.as_tensor(value) for key, value in weights.items()})
    pose_2d, pose = tensors["input/pose_2d"][:, 0], tensors["input/y"][:, 0]
    assert_close(textbook(pose_2d, pose, tensors["input/t"]), tensors["output/velocity"][:, 0])
    assert_close(textbook.sample(pose_2d, pose[None], 3), tensors["output/euler_3"][None, :, 0])


@torch.no_grad()
def test_its_own_weights_load_into_the_fast_network_at_any_size():
    torch.manual_seed(0)
    textbook = TextbookVelocity(MATRICES, width=24, num_blocks=2, num_heads=2, hidden=40).eval()
    for parameter in textbook.parameters():
        parameter.add_(0.05 * torch.rand_like(parameter))  # so that no one or zero hides a mistake
    fast = official.load_fmpose3d(textbook.state_dict(), num_heads=2)
    pose_2d, noise = torch.randn(5, 17, 2), torch.randn(3, 5, 17, 3)
    assert_close(euler(fast, pose_2d, noise, 2), textbook.sample(pose_2d, noise, 2))
