"""How longer sequences are cut into windows of a fixed length without counting a frame twice.

Shape letters: W windows, F frames of a window, T frames of a sequence.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def window_frames(length: int, num_frames: int, stride: int) -> tuple[Int[Tensor, "W F"], Bool[Tensor, "W F"]]:
    """Which frames of a sequence each window holds, and which of them are counted there.

    Windows start every `stride` frames and the last one ends with the sequence. A frame that several windows hold is
    counted in the first of them only, so that no frame counts twice. A sequence shorter than a window is filled up with
    its last frame, which is not counted again.

    Args:
        length: T.
        num_frames: F.
        stride: between the starts of two windows.

    Returns:
        Frame numbers (W, F), and whether they count (W, F).
    """
    last = max(length - num_frames, 0)
    starts = list(range(0, last, stride)) + [last]
    frames = torch.tensor(starts)[:, None] + torch.arange(num_frames)
    seen = torch.tensor([0] + [start + num_frames for start in starts[:-1]])
    return frames.clamp_max(length - 1), (frames >= seen[:, None]) & (frames < length)
