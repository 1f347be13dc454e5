"""Recording of a U-Net's forward pass: outputs of layers, and attention maps.

Shape letters: B batch, H heads, Q queries (pixels), T tokens, D channels, s side of a map.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


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


class OutputHook:
    """Forward hook that records a module's output; an object, so that a copied module has a copy of its own.

    Args:
        name: of the output.
        record: takes it.
    """

    def __init__(self, name: str, record: Record) -> None:
        self.name = name
        self.record = record

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Records the output, or the first of several."""
        self.record.keep(self.name, output[0] if isinstance(output, tuple) else output)


class RecordingProcessor:
    """Attention processor of diffusers that computes the softmax explicitly and records its probabilities.

    The layer's own modules are called, LoRA included. There are few tokens of joints, so the probabilities cost little.

    Args:
        name: of the layer.
        record: takes its map.
    """

    def __init__(self, name: str, record: Record) -> None:
        self.name = name
        self.record = record

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
        self.record.keep(self.name, square_maps(probabilities))
        mixed = (probabilities.to(value.dtype) @ value).transpose(1, 2).reshape(batch, num_queries, -1)
        mixed = attn.to_out[1](attn.to_out[0](mixed))
        return mixed / attn.rescale_output_factor


def square_maps(probabilities: Float[Tensor, "B H Q T"]) -> Float[Tensor, "B T s s"]:
    """One map for each token: the mean over the heads."""
    mean = probabilities.mean(dim=1)
    side = int(mean.shape[1] ** 0.5)
    return mean.transpose(1, 2).unflatten(2, (side, side))
