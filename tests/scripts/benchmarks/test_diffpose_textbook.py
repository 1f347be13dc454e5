import torch

from methods.diffpose import official
from noise2pose import skeletons
from scripts.benchmarks.diffpose_textbook import TextbookDenoiser
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY

FIXTURE = PARITY / "diffpose_gcndiff.safetensors"
PARENTS = skeletons.get("h36m_17").parents


@torch.no_grad()
def test_it_is_the_released_network_under_the_official_names():
    tensors, meta = read_fixture(FIXTURE)
    tensors = {key: torch.as_tensor(value) for key, value in tensors.items()}
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    weights = {key: torch.as_tensor(value) for key, value in weights.items()}
    textbook = TextbookDenoiser(PARENTS).eval()
    textbook.load_state_dict(weights)
    assert torch.allclose(textbook.adjacency, tensors["input/adj"])
    noise = textbook(tensors["input/x"], tensors["input/t"])
    assert_close(noise, tensors["output/eps"])
    assert_close(official.load_gcndiff(weights)(tensors["input/x"], tensors["input/t"]), noise)


@torch.no_grad()
def test_its_own_weights_load_into_the_fast_network_at_any_size():
    torch.manual_seed(0)
    textbook = TextbookDenoiser(PARENTS, state_channels=4, width=24, num_blocks=2, num_heads=2).eval()
    for parameter in textbook.parameters():
        parameter.add_(0.05 * torch.rand_like(parameter))  # so that no identity or zero hides a mistake
    fast = official.load_gcndiff(textbook.state_dict(), num_heads=2)
    state, steps = torch.randn(3, 17, 4), torch.tensor([0.0, 12.0, 50.0])
    assert_close(fast(state, steps), textbook(state, steps))
