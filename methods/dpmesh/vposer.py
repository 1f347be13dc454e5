"""VPoser's decoder: 32 numbers to a plausible pose (Pavlakos et al., SMPL-X, CVPR 2019; version 1 as published).

Shape letters: B batch.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
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
