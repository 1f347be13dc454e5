"""From the states of the decoder's pose queries to the rotations of a body: four ways, one of which a regressor has.

VPoser's decoder (Pavlakos et al., SMPL-X, CVPR 2019; version 1 as published) turns 32 numbers into a plausible pose.

Shape letters: L decoder layers, B batch, Q pose queries, D width, T tokens of the codebook, K its entries.
"""

from abc import abstractmethod
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from noise2pose import rotations

_NUM_JOINTS, _NUM_BODY_JOINTS = 21, 23  # VPoser has no hands


class VPoserDecoder(nn.Module):
    """Frozen, and always at rest: the release never trains it.

    Args:
        code_width: numbers of a code.
        hidden: units of the two layers.
    """

    def __init__(self, code_width: int = 32, hidden: int = 512) -> None:
        super().__init__()
        self.bodyprior_dec_fc1 = nn.Linear(code_width, hidden)
        self.bodyprior_dec_fc2 = nn.Linear(hidden, hidden)
        self.bodyprior_dec_out = nn.Linear(hidden, 6 * _NUM_JOINTS)
        self.requires_grad_(False)

    @property
    def code_width(self) -> int:
        """Numbers of a code."""
        return self.bodyprior_dec_fc1.in_features

    def forward(self, code: Float[Tensor, "B _"]) -> Float[Tensor, "B 23 3 3"]:
        """Rotations of SMPL's joints but the root; the hands are not turned."""
        hidden = F.leaky_relu(self.bodyprior_dec_fc1(code), negative_slope=0.2)
        hidden = F.leaky_relu(self.bodyprior_dec_fc2(hidden), negative_slope=0.2)
        body = rotations.interleaved_6d_to_rotmat(self.bodyprior_dec_out(hidden).unflatten(-1, (_NUM_JOINTS, 6)))
        hands = torch.eye(3, dtype=body.dtype, device=body.device)
        hands = hands.expand(len(body), _NUM_BODY_JOINTS - _NUM_JOINTS, 3, 3)
        return torch.cat((body, hands), dim=1)


NUM_BODY_JOINTS = 23  # of SMPL, besides the root


class Cascade(nn.Module):
    """A linear head on every decoder layer; each corrects the answer of the one before, which it is told.

    Args:
        width: D.
        size: numbers of the answer.
        num_layers: L.
        mean: answer to start training from; 0 by default.
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
        """The answer of the last head."""
        answer = self.layers[0](states[0])
        for state, layer in zip(states[1:], self.layers[1:], strict=True):
            answer = answer + layer(torch.cat((state, answer), dim=-1))
        return answer


class PoseHead(nn.Module):
    """What every pose head is.

    Attributes:
        num_queries: Q. The first also tells the root's rotation.
    """

    num_queries: int = 1

    @abstractmethod
    def forward(self, states: Float[Tensor, "L B Q D"]) -> tuple[Float[Tensor, "B 23 3 3"], Tensor]:
        """Rotations of SMPL's joints but the root, and the code that they were decoded from."""


class Rot6dHead(PoseHead):
    """Rotations as 6-D numbers; the code is those, (B, 138)."""

    def __init__(self, width: int = 256, num_layers: int = 4) -> None:
        super().__init__()
        rest = rotations.rotmat_to_interleaved_6d(torch.eye(3)).repeat(NUM_BODY_JOINTS)
        self.cascade = Cascade(width, len(rest), num_layers, rest)

    def forward(self, states: Float[Tensor, "L B Q D"]) -> tuple[Float[Tensor, "B 23 3 3"], Tensor]:
        code = self.cascade(states[:, :, 0])
        return rotations.interleaved_6d_to_rotmat(code.unflatten(-1, (NUM_BODY_JOINTS, 6))), code


class VPoserHead(PoseHead):
    """A code of VPoser, (B, 32), as released; the decoder is frozen."""

    def __init__(self, decoder: VPoserDecoder, width: int = 256, num_layers: int = 4) -> None:
        super().__init__()
        self.cascade = Cascade(width, decoder.code_width, num_layers)
        self.decoder = decoder

    def forward(self, states: Float[Tensor, "L B Q D"]) -> tuple[Float[Tensor, "B 23 3 3"], Tensor]:
        code = self.cascade(states[:, :, 0])
        return self.decoder(code), code


class Codebook(Protocol):
    """What `CodebookHead` needs of a codebook: an `nn.Module`, see `methods.dpmesh.regressor.pose_codebook`."""

    num_tokens: int
    num_codes: int

    def decode_indices(self, indices: Int64[Tensor, "B T"]) -> Float[Tensor, "B 23 3 3"]: ...

    def decode_soft(self, logits: Float[Tensor, "B T K"]) -> Float[Tensor, "B 23 3 3"]: ...


class CodebookHead(PoseHead):
    """Logits of the entries of a codebook for each of its tokens, (B, T, K), as in the paper; the codebook is frozen.

    Every token has a query of its own. The heads of the decoder layers are added up, and not told the logits before
    them, which would take K x K weights each.

    Args:
        codebook: trained; frozen and at rest from here on.
        hard: when predicting, take the most probable entry of each token instead of the mean over all entries.
        width: D.
        num_layers: L.
    """

    def __init__(self, codebook: nn.Module, hard: bool = False, width: int = 256, num_layers: int = 4) -> None:
        super().__init__()
        self.codebook = codebook.requires_grad_(False)
        self.hard = hard
        tokens: Codebook = codebook  # pyright: ignore[reportAssignmentType]
        self.num_queries = 1 + tokens.num_tokens
        self.logits = nn.ModuleList(nn.Linear(width, tokens.num_codes) for _ in range(num_layers))
        self.train(self.training)

    def forward(self, states: Float[Tensor, "L B Q D"]) -> tuple[Float[Tensor, "B 23 3 3"], Tensor]:
        logits = torch.stack([layer(state[:, 1:]) for state, layer in zip(states, self.logits, strict=True)]).sum(dim=0)
        tokens: Codebook = self.codebook  # pyright: ignore[reportAssignmentType]
        if self.hard and not self.training:
            return tokens.decode_indices(logits.argmax(dim=-1)), logits
        return tokens.decode_soft(logits), logits

    def train(self, mode: bool = True) -> "CodebookHead":
        super().train(mode)
        self.codebook.eval()
        return self
