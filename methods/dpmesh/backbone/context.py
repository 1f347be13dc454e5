"""Context tokens of the U-Net's cross-attention: one for each 2-D joint.

Shape letters: B batch, J joints, T tokens (one a joint), D width of a token.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Context = Literal["mlp2_visible", "linear30", "none"]


class ContextTokens(NamedTuple):
    """Tokens that the U-Net attends to.

    Attributes:
        tokens: one for each joint.
        present: tokens that the U-Net attends to; None for all. Where a sample has none, attention is over all of its
            tokens. The ControlNet attends to all tokens in any case: those of absent joints differ.
    """

    tokens: Float[Tensor, "B T D"]
    present: Bool[Tensor, "B T"] | None = None


class VisibleContext(nn.Module):
    """`mlp2_visible` (paper): two layers on each joint that was found, a learned token for each absent one.

    Args:
        num_joints: J.
        width: D.
    """

    def __init__(self, num_joints: int, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, width))
        self.null = nn.Parameter(0.02 * torch.randn(num_joints, width))

    def forward(self, points: Float[Tensor, "B J 2"], present: Bool[Tensor, "B J"]) -> ContextTokens:
        """Tokens of joints.

        Args:
            points: places in the crop, which spans [0, 1] on both axes; those of absent joints are ignored.
            present: which joints were found.
        """
        tokens = torch.where(present[..., None], self.mlp(_without_absent(points, present)), self.null)
        return ContextTokens(tokens, present)


class LinearContext(nn.Module):
    """`linear30` (release): one layer on every joint, absent ones at (0, 0) as in its training; all are attended to.

    Args:
        num_joints: J; no weight depends on it.
        width: D.
    """

    def __init__(self, num_joints: int, width: int) -> None:
        super().__init__()
        self.num_joints = num_joints
        self.linear = nn.Linear(2, width)

    def forward(self, points: Float[Tensor, "B J 2"], present: Bool[Tensor, "B J"]) -> ContextTokens:
        """Tokens of joints, see `VisibleContext.forward`."""
        return ContextTokens(self.linear(_without_absent(points, present)))


class NullContext(nn.Module):
    """`none`: learned tokens that do not depend on the joints, for the ablation without context.

    Args:
        num_joints: J.
        width: D.
    """

    def __init__(self, num_joints: int, width: int) -> None:
        super().__init__()
        self.null = nn.Parameter(0.02 * torch.randn(num_joints, width))

    def forward(self, points: Float[Tensor, "B J 2"], present: Bool[Tensor, "B J"]) -> ContextTokens:
        """The same tokens for every sample."""
        return ContextTokens(self.null.expand(len(points), -1, -1))


CONTEXTS: dict[Context, type[VisibleContext | LinearContext | NullContext]] = {
    "mlp2_visible": VisibleContext,
    "linear30": LinearContext,
    "none": NullContext,
}


def _without_absent(points: Tensor, present: Tensor) -> Tensor:
    """Zeros where absent, so that the coordinates there, which may be NaN, reach no layer."""
    return torch.where(present[..., None], points, 0.0)
