"""A data module of a few random poses, for tests that are about the machinery and not about people."""

import torch

from datamodules.base import PoseDataModule, Split
from noise2pose.batch import PoseBatch
from noise2pose.metrics.protocols import Protocol


class TinyPoses(PoseDataModule):
    """Random root-relative poses five metres from a pinhole camera; always the same."""

    def __init__(
        self,
        num_samples: int = 64,
        batch_size: int = 16,
        eval_batch_size: int = 16,
        num_joints: int = 17,
        num_frames: int = 1,
    ) -> None:
        super().__init__(batch_size, eval_batch_size)
        self.num_samples = num_samples
        self.num_joints = num_joints
        self.num_frames = num_frames

    def protocols(self, split: Split) -> list[Protocol]:
        return [Protocol(name="tiny", dataset="tiny", split=split, skeleton="h36m_17")]

    def load(self, split: Split) -> PoseBatch:
        number = {"train": self.num_samples, "val": self.num_samples // 2, "test": self.num_samples // 2 + 3}[split]
        generator = torch.Generator().manual_seed({"train": 0, "val": 1, "test": 2}[split])
        shape = 0.3 * torch.randn(1, self.num_joints, 3, generator=torch.Generator().manual_seed(9))
        clip = (number, self.num_frames) if self.num_frames > 1 else (number,)
        joints = shape + 0.1 * torch.randn(*clip, self.num_joints, 3, generator=generator)
        joints = joints + torch.tensor([0.0, 0.0, 5.0])
        pixels = 1145.0 * joints[..., :2] / joints[..., 2:] + 500.0
        ones = torch.ones_like(joints[..., :1])
        return {
            "keypoints_2d": torch.cat((pixels, ones), dim=-1),
            "keypoints_3d": torch.cat((joints, ones), dim=-1),
            "camera": {
                "focal": torch.full((number, 2), 1145.0),
                "principal_point": torch.full((number, 2), 500.0),
                "image_size": torch.full((number, 2), 1000.0),
            },
            "sample_id": [f"{split}_{i}" for i in range(number)],
            "subject": ["nobody"] * number,
            "action": ["stand"] * number,
        }
