"""Which frames of sequences make up a clip.

Shape letters: B windows, F frames of a window, T frames of all sequences.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from datamodules.base import select
from noise2pose.batch import PoseBatch


class Windows:
    """Which frames each window holds, worked out when they are asked for: overlapping windows take no memory.

    Args:
        lengths: T of each sequence; sequences follow each other.
        num_frames: F.
        stride: between the starts of two windows. If it is smaller than F, all frames of a window are counted, as
            training wants it; otherwise each frame is counted in one window only, as evaluation does.
    """

    def __init__(self, lengths: Sequence[int], num_frames: int, stride: int) -> None:
        self.num_frames = num_frames
        self.counts_all = stride < num_frames
        starts, ends, seen, first = [], [], [], 0
        for length in lengths:
            last = max(length - num_frames, 0)
            of_sequence = torch.cat((torch.arange(0, last, stride), torch.tensor([last])))
            starts.append(of_sequence + first)
            ends.append(torch.full_like(of_sequence, first + length))
            seen.append(torch.cat((torch.zeros(1, dtype=torch.long), of_sequence[:-1] + num_frames)) + first)
            first += length
        self.starts, self.ends, self.seen = (
            torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long) for parts in (starts, ends, seen)
        )

    def __len__(self) -> int:
        return len(self.starts)

    def drop_empty(self, counted: Bool[Tensor, " T"]) -> None:
        """Leaves out windows without a frame that counts.

        Args:
            counted: of all frames of all sequences.
        """
        before = torch.cat((torch.zeros(1, dtype=torch.long), counted.long().cumsum(0)))  # counted frames before each
        first = self.starts if self.counts_all else torch.maximum(self.starts, self.seen)
        last = torch.minimum(self.starts + self.num_frames, self.ends)
        full = before[last] > before[first]
        self.starts, self.ends, self.seen = self.starts[full], self.ends[full], self.seen[full]

    def frames(self, index: Int[Tensor, " B"]) -> tuple[Int[Tensor, "B F"], Bool[Tensor, "B F"]]:
        """Frame numbers of some windows, and whether they count; a short sequence is filled up with its last frame."""
        frames = self.starts[index, None] + torch.arange(self.num_frames)
        counted = frames < self.ends[index, None]
        if not self.counts_all:
            counted &= frames >= self.seen[index, None]
        return torch.minimum(frames, self.ends[index, None] - 1), counted

    def take(self, index: Int[Tensor, " B"], take_frames: Callable[[Tensor], PoseBatch]) -> PoseBatch:
        """Some windows as a batch of clips, named after their first frames.

        Args:
            index: which windows.
            take_frames: gives single frames.
        """
        numbers, counted = self.frames(index)
        frames = take_frames(numbers.flatten())
        first = torch.arange(len(index)) * self.num_frames
        clips: Any = {key: select(value, first) for key, value in frames.items() if not key.startswith("keypoints")}
        for key in ("keypoints_2d", "keypoints_3d"):
            clips[key] = frames[key].unflatten(0, (len(index), self.num_frames)).clone()
        clips["keypoints_3d"][..., 3] *= counted[..., None].to(clips["keypoints_3d"])
        return clips
