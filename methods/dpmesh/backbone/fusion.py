"""DPMesh's fusion head: one feature map from the pyramid of the backbone (paper, section 3.2; release `outmodules`).

Levels are named after their sides where the latents have side 32.

Shape letters: B batch, W width, h side of the feature map.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_GROUPS = 16  # of the normalisations
_LEVELS = ("level_4", "level_8", "level_16", "level_32")


class FusionHead(nn.Module):
    """Resizes four levels to the side of `level_8`, and merges them.

    The finest is halved twice, the next once, and the coarsest is doubled.

    Args:
        channels: of `level_4`, `level_8`, `level_16` and `level_32`, appended attention maps included.
        width: W, a multiple of 16 (published: 2048).
    """

    def __init__(self, channels: Mapping[str, int], width: int = 2048) -> None:
        super().__init__()
        coarsest, coarse, fine, finest = (channels[level] for level in _LEVELS)
        inner = finest - finest % _GROUPS  # with appended maps, the groups need not be whole
        self.from_32 = nn.Sequential(
            nn.Conv2d(finest, inner, 3, stride=2, padding=1),
            nn.GroupNorm(_GROUPS, inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride=2, padding=1),
        )
        self.from_16 = nn.Conv2d(fine, fine, 3, stride=2, padding=1)
        self.merge = nn.Sequential(
            nn.Conv2d(inner + fine + coarse + coarsest, width, 1), nn.GroupNorm(_GROUPS, width), nn.ReLU()
        )
        self.width = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, pyramid: Mapping[str, Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B W h h"]:
        """The feature map, of the side of `level_8`.

        Args:
            pyramid: the four levels; each is half as wide as the next.
        """
        doubled = F.interpolate(pyramid["level_4"], scale_factor=2.0, mode="nearest")
        fine, finest = self.from_16(pyramid["level_16"]), self.from_32(pyramid["level_32"])
        return self.merge(torch.cat((finest, fine, pyramid["level_8"], doubled), dim=1))
