import torch

from methods.diffpose import official
from scripts.benchmarks.mixste_textbook import TextbookMixSTE
from tests.parity.tolerances import assert_close


@torch.no_grad()
def test_its_weights_load_into_the_fast_network():
    torch.manual_seed(0)
    textbook = TextbookMixSTE(num_frames=9, width=32, num_blocks=2, num_heads=4).eval()
    for parameter in textbook.parameters():
        parameter.add_(0.05 * torch.rand_like(parameter))  # so that no zero hides a mistake
    fast = official.load_mixste(textbook.state_dict(), num_heads=4)
    clip = torch.randn(2, 9, 17, 2)
    assert_close(fast(clip), textbook(clip))
