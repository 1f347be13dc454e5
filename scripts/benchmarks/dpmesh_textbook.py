"""DPMesh's backbone as it is usually written: the slow reference for `methods.dpmesh.backbone`.

Every attention layer computes its softmax explicitly. One pass reads the features and another the attention maps, which
are stored for every layer and selected afterwards, as in prompt-to-prompt's attention store.

Shape letters: B batch, J joints, C latent channels, h side of the latents, T tokens, D their width.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

TIME = 1
_UP = {"up_blocks.0": "level_4", "up_blocks.1": "level_8", "up_blocks.2": "level_16", "up_blocks.3": "level_32"}


class TextbookBackbone(nn.Module):
    """One step of the networks of a `Backbone`, with other attention processors.

    Args:
        unet: with or without output layers.
        controlnet: of latents and heat-maps.
        sides: of the levels that maps are appended to.
    """

    def __init__(self, unet: Any, controlnet: Any, sides: tuple[int, ...] = (8, 16)) -> None:
        super().__init__()
        self.unet, self.controlnet, self.sides = unet, controlnet, sides

    def forward(
        self, latents: Float[Tensor, "B C h h"], heatmaps: Float[Tensor, "B J h h"], tokens: Float[Tensor, "B T D"]
    ) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """The pyramid, computed in two passes."""
        levels, maps = self.features(latents, heatmaps, tokens), self.maps(latents, heatmaps, tokens)
        return {
            name: torch.cat((level, maps[name]), dim=1) if name in maps else level for name, level in levels.items()
        }

    def features(self, latents: Tensor, heatmaps: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """One pass for the features."""
        found: dict[str, Tensor] = {}
        last = self.unet.config["layers_per_block"]
        handles = []
        for block, level in _UP.items():
            up = self.unet.get_submodule(block)
            module = up.resnets[last - 1] if level == "level_4" else up.attentions[last - (level != "level_32")]
            handles.append(
                module.register_forward_hook(lambda _, inputs, output, level=level: found.update({level: output}))
            )
        self._step(latents, heatmaps, tokens, [])
        for handle in handles:
            handle.remove()
        return {level: value if isinstance(value, Tensor) else value[0] for level, value in found.items()}

    def maps(self, latents: Tensor, heatmaps: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        """One pass for the attention maps: means over heads and layers."""
        store: list[tuple[str, Tensor]] = []
        self._step(latents, heatmaps, tokens, store)
        maps = {}
        for side in self.sides:
            chosen = [p for name, p in store if ".attn2." in name and "mid_block" not in name and p.shape[2] == side**2]
            mean = torch.stack([p.mean(dim=1) for p in chosen]).mean(dim=0)
            maps[f"level_{side}"] = mean.transpose(1, 2).reshape(len(mean), -1, side, side)
        return maps

    def _step(self, latents: Tensor, heatmaps: Tensor, tokens: Tensor, store: list[tuple[str, Tensor]]) -> None:
        processors = dict(self.unet.attn_processors), dict(self.controlnet.attn_processors)
        self.unet.set_attn_processor({name: ExplicitAttention(name, store) for name in processors[0]})
        self.controlnet.set_attn_processor({name: ExplicitAttention(name, []) for name in processors[1]})
        time = torch.full((len(latents),), TIME, dtype=torch.long, device=latents.device)
        joined = torch.cat((latents, heatmaps), dim=1)
        down, middle = self.controlnet(joined, time, tokens, None, return_dict=False)
        self.unet(latents, time, tokens, down_block_additional_residuals=down, mid_block_additional_residual=middle)
        self.unet.set_attn_processor(processors[0])
        self.controlnet.set_attn_processor(processors[1])


class ExplicitAttention:
    """Attention processor with an explicit softmax, which stores the probabilities.

    Args:
        name: of the layer.
        store: takes them.
    """

    def __init__(self, name: str, store: list[tuple[str, Tensor]]) -> None:
        self.name, self.store = name, store

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **unused: Any
    ) -> Tensor:
        """One layer, as diffusers calls it."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            x.unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        probabilities = torch.softmax(query @ key.transpose(-1, -2) * attn.scale, dim=-1)
        self.store.append((self.name, probabilities))
        return attn.to_out[1](attn.to_out[0]((probabilities @ value).transpose(1, 2).flatten(2)))
