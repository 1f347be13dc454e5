"""Data modules of a few random poses, for tests that are about the machinery and not about people."""

import roma
import torch

from datamodules.base import PoseDataModule, Split
from noise2pose import cameras
from noise2pose.batch import Camera, PoseBatch, Smpl
from noise2pose.bodies import BodyModel
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


class TinyPeople(PoseDataModule):
    """Random poses of the free body with everything that mesh methods are trained with; always the same.

    The images are noise. Every fourth sample has no body parameters.
    """

    def __init__(
        self,
        num_samples: int = 48,
        batch_size: int = 16,
        eval_batch_size: int = 16,
        image_size: int = 32,
    ) -> None:
        super().__init__(batch_size, eval_batch_size)
        self.num_samples = num_samples
        self.image_size = image_size

    def protocols(self, split: Split) -> list[Protocol]:
        return [Protocol(name="tiny", dataset="tiny", split=split, skeleton="h36m_17")]

    def load(self, split: Split) -> PoseBatch:
        number = {"train": self.num_samples, "val": 32, "test": 19}[split]
        generator = torch.Generator().manual_seed({"train": 0, "val": 1, "test": 2}[split])

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(number, *shape, generator=generator)

        body = BodyModel.load("free")
        facing = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        smpl: Smpl = {
            "global_orient": facing @ roma.rotvec_to_rotmat(0.3 * normal(3)),
            "body_pose": roma.rotvec_to_rotmat(0.2 * normal(23, 3)),
            "betas": normal(10),
        }
        camera: Camera = {
            "focal": torch.full((number, 2), 1145.0),
            "principal_point": torch.tensor([510.0, 490.0]).repeat(number, 1),
            "image_size": torch.full((number, 2), 1000.0),
        }
        joints = body.joints(**smpl, translation=torch.tensor([0.0, 0.0, 5.0]) + 0.3 * normal(3))
        pixels = cameras.project(joints, camera["focal"], camera["principal_point"])
        low, high = pixels.amin(dim=1), pixels.amax(dim=1)
        ones = torch.ones_like(joints[..., :1])
        return {
            "image": torch.rand(number, 3, self.image_size, self.image_size, generator=generator),
            "keypoints_2d": torch.cat((pixels, ones), dim=-1),
            "keypoints_3d": torch.cat((joints, ones), dim=-1),
            "smpl": smpl,
            "has_smpl": torch.arange(number) % 4 != 3,
            "camera": camera,
            "box": torch.cat(((low + high) / 2.0, 1.2 * (high - low).amax(dim=1, keepdim=True)), dim=-1),
            "sample_id": [f"{split}_{i}" for i in range(number)],
            "subject": ["nobody"] * number,
            "action": ["stand"] * number,
        }
