"""Pose heads of the regressor: from the states of the decoder's pose queries to the rotations of a body.

Shape letters: L decoder layers, B batch, Q pose queries, D width, T tokens of the codebook, K its entries.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.dpmesh.regressor.pose_codebook import NUM_JOINTS, PoseCodebook
from noise2pose import rotations

_NUM_VPOSER_JOINTS = 21  # VPoser has no hands


class Cascade(nn.Module):
    """A linear head on every decoder layer, which takes the output of the head before it and corrects that.

    Args:
        width: D.
        size: numbers of the output.
        num_layers: L.
        mean: output that training starts from; 0 by default.
    """

    def __init__(self, width: int, size: int, num_layers: int, mean: Tensor | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width + size * (number > 0), size) for number in range(num_layers))
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
            nn.init.zeros_(layer.bias)
        if mean is not None:
            self.layers[0].bias.data.copy_(mean)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def forward(self, states: Float[Tensor, "L B D"]) -> Float[Tensor, "B _"]:
        """The output of the last head."""
        output = self.layers[0](states[0])
        for state, layer in zip(states[1:], self.layers[1:], strict=True):
            output = output + layer(torch.cat((state, output), dim=-1))
        return output


class PoseHead(nn.Module):
    """Base class of the pose heads.

    Attributes:
        num_queries: Q. The root's rotation is also read from the first query.
    """

    num_queries: int = 1

    @abstractmethod
    def forward(self, states: Float[Tensor, "L B Q D"]) -> tuple[Float[Tensor, "B 23 3 3"], Tensor]:
        """Rotations of SMPL's joints except the root, and the code that they were decoded from."""


class Rot6dHead(PoseHead):
    """Rotations as 6-D numbers, (B, 138), which are also the code."""

    def __init__(self, width: int = 256, num_layers: int = 4) -> None:
        super().__init__()
        rest = rotations.rotmat_to_interleaved_6d(torch.eye(3)).repeat(NUM_JOINTS)
        self.cascade = Cascade(width, len(rest), num_layers, rest)

    def forward(self, states: Float[Tensor, "L B Q D"]) -> tuple[Float[Tensor, "B 23 3 3"], Tensor]:
        code = self.cascade(states[:, :, 0])
        return rotations.interleaved_6d_to_rotmat(code.unflatten(-1, (NUM_JOINTS, 6))), code


class VPoserDecoder(nn.Module):
    """VPoser's decoder, frozen: 32 numbers to a plausible pose (Pavlakos et al., SMPL-X, CVPR 2019; version 1).

    Args:
        code_width: numbers of a code.
        hidden: units of the two layers.
    """

    def __init__(self, code_width: int = 32, hidden: int = 512) -> None:
        super().__init__()
        self.bodyprior_dec_fc1 = nn.Linear(code_width, hidden)
        self.bodyprior_dec_fc2 = nn.Linear(hidden, hidden)
        self.bodyprior_dec_out = nn.Linear(hidden, 6 * _NUM_VPOSER_JOINTS)
        self.requires_grad_(False)

    @property
    def code_width(self) -> int:
        """Numbers of a code."""
        return self.bodyprior_dec_fc1.in_features

    def forward(self, code: Float[Tensor, "B _"]) -> Float[Tensor, "B 23 3 3"]:
        """Rotations of SMPL's joints except the root; those of the hands are the identity."""
        hidden = F.leaky_relu(self.bodyprior_dec_fc1(code), negative_slope=0.2)
        hidden = F.leaky_relu(self.bodyprior_dec_fc2(hidden), negative_slope=0.2)
        body = rotations.interleaved_6d_to_rotmat(self.bodyprior_dec_out(hidden).unflatten(-1, (_NUM_VPOSER_JOINTS, 6)))
        hands = torch.eye(3, dtype=body.dtype, device=body.device)
        hands = hands.expand(len(body), NUM_JOINTS - _NUM_VPOSER_JOINTS, 3, 3)
        return torch.cat((body, hands), dim=1)


class VPoserHead(PoseHead):
    """A code of VPoser, (B, 32), as released; the decoder is frozen."""

    def __init__(self, decoder: VPoserDecoder, width: int = 256, num_layers: int = 4) -> None:
        super().__init__()
        self.cascade = Cascade(width, decoder.code_width, num_layers)
        self.decoder = decoder

    def forward(self, states: Float[Tensor, "L B Q D"]) -> tuple[Float[Tensor, "B 23 3 3"], Tensor]:
        code = self.cascade(states[:, :, 0])
        return self.decoder(code), code


class CodebookHead(PoseHead):
    """Logits of the entries of a codebook for each of its tokens, (B, T, K), as in the paper; the codebook is frozen.

    Every token has a query of its own. The logits of the decoder layers are added up; they are no `Cascade`, which
    would take K x K weights a layer.

    Args:
        codebook: trained; it is frozen here, and stays in evaluation mode.
        hard: predict with the most probable entry of each token instead of the mean over all entries.
        width: D.
        num_layers: L.
    """

    def __init__(self, codebook: PoseCodebook, hard: bool = False, width: int = 256, num_layers: int = 4) -> None:
        super().__init__()
        self.codebook = codebook.requires_grad_(False)
        self.hard = hard
        self.num_queries = 1 + codebook.num_tokens
        self.logits = nn.ModuleList(nn.Linear(width, codebook.num_codes) for _ in range(num_layers))
        self.train(self.training)

    def forward(self, states: Float[Tensor, "L B Q D"]) -> tuple[Float[Tensor, "B 23 3 3"], Tensor]:
        logits = torch.stack([layer(state[:, 1:]) for state, layer in zip(states, self.logits, strict=True)]).sum(dim=0)
        if self.hard and not self.training:
            return self.codebook.decode_indices(logits.argmax(dim=-1)), logits
        return self.codebook.decode_soft(logits), logits

    def train(self, mode: bool = True) -> "CodebookHead":
        super().train(mode)
        self.codebook.eval()
        return self
