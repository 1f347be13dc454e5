"""The denoiser of D3DP: MixSTE, told the noisy 3-D poses of a clip and how noisy they are.

`official.py` renames its published weights.

Shape letters: B batch, N hypotheses, F frames, J joints, C channels of a 2-D joint, W width.
"""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from methods.networks.mixste import MixSTE

_LONGEST_PERIOD = 10_000  # of the sines of a step, in steps / 2 pi


class StepEmbedding(nn.Module):
    """Sines and cosines of a diffusion step, then a two-layer net of twice the width.

    Args:
        width: W, even.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)

    def forward(self, steps: Shaped[Tensor, " B"]) -> Float[Tensor, "B W"]:
        half = self.expand.in_features // 2
        exponents = torch.arange(half, device=steps.device) / (half - 1)
        angles = steps[:, None].float() * torch.exp(-math.log(_LONGEST_PERIOD) * exponents)
        waves = torch.cat((angles.sin(), angles.cos()), dim=-1)
        return self.contract(nn.functional.gelu(self.expand(waves.to(self.expand.weight.dtype))))


class Denoiser(nn.Module):
    """Clean 3-D poses of a clip from its 2-D joints, its noisy 3-D poses and their diffusion step.

    2-D and noisy 3-D joints enter as channels of one joint; the step is added to every token once, at the input.

    Args:
        num_frames, width, num_blocks, num_heads, drop_path, num_joints: of `MixSTE`.
        in_channels: C of the 2-D joints.
    """

    def __init__(
        self,
        num_frames: int,
        width: int,
        num_blocks: int,
        num_heads: int,
        drop_path: float = 0.0,
        num_joints: int = 17,
        in_channels: int = 2,
    ) -> None:
        super().__init__()
        channels = in_channels + 3
        self.network = MixSTE(num_frames, width, num_blocks, num_heads, drop_path, num_joints, in_channels=channels)
        self.step_embedding = StepEmbedding(width)

    def forward(
        self,
        joints_2d: Float[Tensor, "B F J C"],
        noisy: Float[Tensor, "B *N F J 3"],
        steps: Shaped[Tensor, " B"],
    ) -> Float[Tensor, "B *N F J 3"]:
        """Estimate of the clean poses, metres; each hypothesis is denoised by itself.

        Args:
            joints_2d: from `methods.lifting.input_joints`.
            noisy: poses after the forward process, metres; with or without hypotheses.
            steps: of the forward process.
        """
        copies = math.prod(noisy.shape[1:-3])
        clips = torch.cat((joints_2d.repeat_interleave(copies, dim=0), noisy.flatten(0, -4)), dim=-1)
        embedding = self.step_embedding(steps).repeat_interleave(copies, dim=0)
        return self.network(clips, embedding).view(noisy.shape)
