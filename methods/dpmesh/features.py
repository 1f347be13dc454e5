"""What every backbone of DPMesh answers, and the diffusion backbone with all that belongs to it.

Shape letters: B batch, S side of the picture, J joints, F channels of the feature map.
"""

from abc import abstractmethod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from methods.dpmesh.conditions import Conditions

_TAUGHT = ("level_8", "level_16", "level_32")  # the paper's sides


class Features(NamedTuple):
    """What a backbone says of a crop.

    Attributes:
        fused: what the regressor takes.
        levels: feature maps of different depth, which a student is taught: see `methods.dpmesh.reasoning`.
    """

    fused: Float[Tensor, "B F 8 8"]
    levels: list[Tensor]


class PictureFeatures(nn.Module):
    """A network from a picture and the conditions to one feature map."""

    @abstractmethod
    def forward(self, image: Float[Tensor, "B 3 S S"], conditions: Conditions) -> Features:
        """Features of an RGB picture in [0, 1]."""

    @abstractmethod
    def load_pretrained(self, source: str) -> None:
        """Takes the weights that training starts from.

        Raises:
            InputError: if there is no such file, or if its weights are of another network.
        """
