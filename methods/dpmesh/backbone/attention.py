"""A U-Net's cross-attention: its context tokens, one for each 2-D joint, and the recording of its maps.

Shape letters: B batch, J joints, H heads, Q queries (pixels), T tokens (one a joint), D channels, s side of a map.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

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
    """`linear30` (release): one layer on every joint, absent ones at (0, 0) as in its training; all are attended to."""

    def __init__(self, num_joints: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2, width)

    def forward(self, points: Float[Tensor, "B J 2"], present: Bool[Tensor, "B J"]) -> ContextTokens:
        """Tokens of joints, see `VisibleContext.forward`."""
        return ContextTokens(self.linear(_without_absent(points, present)))


class NullContext(nn.Module):
    """`none`: learned tokens that do not depend on the joints, for the ablation without context."""

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


class Record:
    """Tensors that layers recorded in one forward pass, by the names of the layers.

    A layer that runs again (gradient checkpointing, compilation) replaces its own entry, so nothing is counted twice.
    After `take`, that is in a backward pass, nothing is recorded: it would keep the graph behind it alive.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Tensor] = {}
        self.open = False

    def start(self) -> None:
        """Begins to record a forward pass."""
        self.entries.clear()
        self.open = True

    def keep(self, name: str, value: Tensor) -> None:
        """Records a tensor of a layer."""
        if self.open:
            self.entries[name] = value

    def take(self) -> dict[str, Tensor]:
        """Ends the recording and returns it."""
        entries, self.entries, self.open = self.entries, {}, False
        return entries


@dataclass(eq=False)
class OutputHook:
    """Forward hook that records a module's output by a name; an object, so that a copied module has its own copy."""

    name: str
    record: Record

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Records the output, or the first of several."""
        self.record.keep(self.name, output[0] if isinstance(output, tuple) else output)


@dataclass(eq=False)
class RecordingProcessor:
    """Attention processor of diffusers that computes the softmax explicitly and records its probabilities.

    The layer's own modules are called, LoRA included. There are few tokens of joints, so the probabilities cost little.

    Attributes:
        name: of the layer.
        record: takes its map.
    """

    name: str
    record: Record

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "B Q D"],
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Float[Tensor, "B 1 T"] | None = None,
        temb: Tensor | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """One layer of cross-attention, as diffusers calls it; the mask is added to the logits."""
        assert encoder_hidden_states is not None, f"{self.name} is not cross-attention"
        batch, num_queries, _ = hidden_states.shape

        def split(x: Tensor) -> Tensor:
            return x.view(batch, -1, attn.heads, x.shape[-1] // attn.heads).transpose(1, 2)

        query = split(attn.to_q(hidden_states))
        key, value = split(attn.to_k(encoder_hidden_states)), split(attn.to_v(encoder_hidden_states))
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        if attention_mask is not None:
            logits = logits + attention_mask[:, None]
        probabilities = logits.softmax(dim=-1)
        side = int(num_queries**0.5)  # one map for each token: the mean over the heads
        self.record.keep(self.name, probabilities.mean(dim=1).transpose(1, 2).unflatten(2, (side, side)))
        mixed = (probabilities.to(value.dtype) @ value).transpose(1, 2).reshape(batch, num_queries, -1)
        mixed = attn.to_out[1](attn.to_out[0](mixed))
        return mixed / attn.rescale_output_factor
