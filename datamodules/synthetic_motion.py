"""Parameterised activities on the free body, seen by virtual cameras. Needs no file; always called synthetic."""

from typing import Any

import roma
import torch

from datamodules.base import Split, check_range
from datamodules.motion import activities
from datamodules.motion.cameras import SKELETON, Clip, VirtualCameraMotion
from noise2pose.bodies import BodyModel


class SyntheticMotion(VirtualCameraMotion):
    """Seeded clips of every activity of `datamodules.motion.activities`; each clip has its own person and style.

    Numbers on this data say that a method trains, not how good it is on people.

    Args:
        clips_per_activity: training clips of each activity; validation has a tenth and test a fifth as many, with other
            seeds.
        frames_per_clip: at 50 Hz.
        draw: 0 to 99; another number gives other people and styles in every split.
        options: of `VirtualCameraMotion`.
    """

    dataset = "synthetic"

    def __init__(self, clips_per_activity: int = 40, frames_per_clip: int = 100, draw: int = 0, **options: Any) -> None:
        super().__init__(**options)
        check_range(1, clips_per_activity=clips_per_activity, frames_per_clip=frames_per_clip)
        check_range(0, 99, draw=draw)
        self.clips_per_activity = clips_per_activity
        self.frames_per_clip = frames_per_clip
        self.draw = draw

    def split_in_words(self, split: Split) -> str:
        number = activities.number_of_clips(split, self.clips_per_activity)
        return (
            f"synthetic motion, {number} clips of each of {len(activities.ACTIVITIES)} activities, own seeds and bodies"
            + (f", draw {self.draw}" if self.draw else "")
        )

    def clips(self, split: Split) -> list[Clip]:
        body = BodyModel.load("free")
        made = activities.clips(split, self.clips_per_activity, self.frames_per_clip, self.draw)
        return [
            Clip(name, name, activity, _joints(body, motion))  # each of another person
            for activity, number, motion in made
            for name in (f"{activity}_{split}_{number:03d}",)
        ]


def _joints(body: BodyModel, motion: activities.Motion) -> torch.Tensor:
    """Human3.6M-17 joints (F, 17, 3) in a z-up world, from a motion in the body's y-up world."""
    matrices = roma.rotvec_to_rotmat(torch.as_tensor(motion.rotations, dtype=torch.float32))
    joints = body.joints(
        matrices[:, 0],
        matrices[:, 1:],
        torch.as_tensor(motion.betas, dtype=torch.float32).expand(len(matrices), -1),
        torch.as_tensor(motion.translation, dtype=torch.float32),
        regressor=SKELETON,
    )
    x, y, z = joints.unbind(-1)
    return torch.stack((x, -z, y), dim=-1)
