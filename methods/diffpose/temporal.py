"""What the frames of a clip tell each other in the denoiser, so that hypotheses move as smoothly as their context.

Shape letters: B clips, F frames, J joints, W width.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_KERNEL = 9  # frames: 0.18 s at 50 Hz; three blocks together see 25


class TemporalConvolution(nn.Module):
    """A residual pre-norm convolution over the frames of each joint: by channel over time, then over the channels.

    It starts as no change. The first and the last frame are repeated beyond the ends of the clip.

    Args:
        width: channels W.
        num_frames: F of a clip.
        causal: whether a frame sees only itself and those before it.
    """

    def __init__(self, width: int, num_frames: int, causal: bool = False) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.padding = (_KERNEL - 1, 0) if causal else (_KERNEL // 2, _KERNEL // 2)
        self.norm = nn.LayerNorm(width)
        self.over_time = nn.Conv1d(width, width, _KERNEL, groups=width)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def forward(self, x: Float[Tensor, "BF J W"]) -> Float[Tensor, "BF J W"]:
        """Features of clips, frame after frame and clip after clip."""
        clips = self.norm(x).unflatten(0, (-1, self.num_frames))
        sequences = clips.permute(0, 2, 3, 1).flatten(0, 1)  # (B J, W, F)
        mixed = self.over_time(F.pad(sequences, self.padding, mode="replicate"))
        mixed = mixed.unflatten(0, (clips.shape[0], clips.shape[2])).permute(0, 3, 1, 2).flatten(0, 1)
        return x + self.contract(F.gelu(self.expand(mixed)))
