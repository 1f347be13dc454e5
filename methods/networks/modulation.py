"""The residual block of denoisers of vectors, whose norm is scaled and shifted by the time or the noise level.

Shape letters: B batch, W width.
"""

from jaxtyping import Float
from torch import Tensor, nn


class ModulatedBlock(nn.Module):
    """LayerNorm, scaled and shifted by an embedding, then two linear layers with a SiLU between, added to the input.

    Args:
        width: W of the input and of the embedding.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.expand = nn.Linear(width, width)
        self.contract = nn.Linear(width, width)

    def forward(self, hidden: Float[Tensor, "B W"], embedding: Float[Tensor, "#B W"]) -> Float[Tensor, "B W"]:
        """The hidden vector of each sample; one embedding for all, or one for each."""
        scale, shift = self.modulation(embedding).chunk(2, dim=-1)
        modulated = self.norm(hidden) * (1 + scale) + shift
        return hidden + self.contract(nn.functional.silu(self.expand(modulated)))
