"""How much of a codebook the poses of an evaluation set use.

Shape letters: K codes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric


class CodebookUsage(Metric):
    """Share of the codes that are used at all, and their perplexity.

    Args:
        num_codes: K.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    uses: Tensor

    def __init__(self, num_codes: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.add_state("uses", torch.zeros(num_codes, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, indices: Int[Tensor, "B T"]) -> None:
        """Adds the codes of poses."""
        self.uses += torch.bincount(indices.flatten(), minlength=len(self.uses))

    def compute(self) -> dict[str, Tensor]:
        """`usage` in per cent, and `perplexity` from 1 to K."""
        return {"usage": 100.0 * (self.uses > 0).double().mean(), "perplexity": perplexity(self.uses)}


def perplexity(uses: Float[Tensor, " K"]) -> Float[Tensor, ""]:
    """Exponential of the entropy: of how many codes, used alike, the uses are worth.

    Args:
        uses: of each code; any scale.
    """
    share = uses / uses.sum()
    return torch.special.entr(share).sum().exp()
