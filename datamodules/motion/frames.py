"""The clips of a split in memory, each frame once: samples are cut from them as batches ask for them.

Shape letters: B samples, F frames of a sample, J joints, T frames of all clips.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from datamodules.motion.windows import Windows
from noise2pose import keyed_random
from noise2pose.batch import PoseBatch


@dataclass(frozen=True)
class Clip:
    """One motion of one person.

    Attributes:
        name: unique in the data set.
        subject: who moves.
        action: what they do.
        joints: (F, 17, 3) Human3.6M-17 joints in the world, metres, z up; or of bodies the rotations (F, 24, 3) of
            SMPL's joints, axis-angle.
    """

    name: str
    subject: str
    action: str
    joints: Float[Tensor, "F J 3"]


class MotionFrames:
    """Samples of some clips, in the world; overlapping ones take no memory.

    Args:
        clips: of a split.
        num_frames: F of a sample.
        stride: frames between the starts of two samples.
        views: how often each of them is a sample.
        device: where the joints are.
    """

    def __init__(self, clips: Sequence[Clip], num_frames: int, stride: int, views: int, device: torch.device) -> None:
        lengths = [len(clip.joints) for clip in clips]
        self.joints: Float[Tensor, "T J 3"] = torch.cat([clip.joints for clip in clips]).to(device)
        self.windows = Windows(lengths, num_frames, stride)
        self.views = views
        self._about = [(clip.name, clip.subject, clip.action) for clip in clips]
        self._first = [0, *torch.tensor(lengths).cumsum(0).tolist()]

    def __len__(self) -> int:
        return self.views * len(self.windows)

    def window(self, index: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B F J 3"], Tensor, Tensor]:
        """What the clips hold of some samples; numbers (B, F) of their frames, and whether these count."""
        numbers, counted = self.windows.frames((index.cpu() % len(self)) // self.views)
        return self.joints[numbers.to(self.joints.device)], numbers, counted

    def take(self, index: Int[Tensor, " B"], named: bool) -> PoseBatch:
        """Some samples, with `key` of their random numbers, and `keypoints_3d` (B, F, J, 4): what the clips hold.

        Args:
            index: which samples; numbers beyond the last repeat them, with other keys.
            named: whether they have names, which then decide their keys.
        """
        view = index % self.views
        joints, numbers, counted = self.window(index)
        valid = counted[:, :, None, None].to(joints).expand(*joints.shape[:-1], 1)
        batch: Any = {"keypoints_3d": torch.cat((joints, valid), dim=-1)}
        if named:
            starts = numbers[:, 0].tolist()
            clips = [bisect_right(self._first, start) - 1 for start in starts]
            batch["sample_id"] = [
                f"{self._about[clip][0]}/view{number}/{start - self._first[clip]:05d}"
                for clip, number, start in zip(clips, view.tolist(), starts, strict=True)
            ]
            batch["subject"] = [self._about[clip][1] for clip in clips]
            batch["action"] = [self._about[clip][2] for clip in clips]
            batch["key"] = keyed_random.keys_of(batch["sample_id"], device=joints.device)
        else:
            batch["key"] = index.to(joints.device)
        return batch
