"""Fixed sine and cosine codes of positions ("Attention is all you need", 2017; DETR, Carion et al., ECCV 2020).

Shape letters: N positions, C channels, H rows, W columns.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

TEMPERATURE = 10_000.0


def sine_code(positions: Float[Tensor, " N"], channels: int, temperature: float = TEMPERATURE) -> Float[Tensor, "N C"]:
    """Sine and cosine of each position in turn, at C/2 frequencies from 1 down to about 1 / temperature.

    Args:
        positions: N numbers.
        channels: C, even.
        temperature: 1 makes all frequencies 1.
    """
    exponent = torch.arange(0, channels, 2, dtype=torch.float64) / channels
    angle = positions.double()[:, None] / temperature**exponent
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).float()


def line_code(length: int, channels: int) -> Float[Tensor, "N C"]:
    """Codes of 0, 1, ..., N - 1."""
    return sine_code(torch.arange(length), channels)


def plane_code(rows: int, columns: int, channels: int, temperature: float = TEMPERATURE) -> Float[Tensor, "N C"]:
    """Codes of the cells of a plane, row by row: half of the channels for y, half for x, each from 0 to 2 pi (DETR).

    Args:
        rows: H.
        columns: W.
        channels: C, a multiple of 4.
        temperature: of `sine_code`.
    """

    def axis(length: int) -> Tensor:
        places = 2.0 * math.pi * torch.arange(1, length + 1) / (length + 1e-6)
        return sine_code(places, channels // 2, temperature)

    y = axis(rows)[:, None].expand(-1, columns, -1)
    x = axis(columns)[None].expand(rows, -1, -1)
    return torch.cat((y, x), dim=-1).flatten(0, 1)
