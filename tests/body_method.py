"""A method that answers with bodies, for tests that are about what becomes of the answers."""

import time

import roma
import torch

from methods.base import PoseMethod
from noise2pose import keyed_random
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.bodies import BodyModel
from noise2pose.cameras import crop_to_full_translation


class BodyMethod(PoseMethod):
    """Nearly a T-pose where the box is, the arms moved by numbers that depend on the name and on the picture."""

    title = "fake body"

    def __init__(self, input: str = "keypoints", seconds: float = 0.0) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.input = input
        self.seconds = seconds
        self.body = BodyModel.load("free")
        self.weight = torch.nn.Parameter(torch.tensor(0.1))
        self.answered = 0

    def forward(self, batch: PoseBatch) -> Prediction:
        time.sleep(self.seconds)
        keypoints, camera = batch["keypoints_2d"], batch["camera"]
        count = len(keypoints)
        self.answered += count
        names = keyed_random.keys_of(batch["sample_id"], device=keypoints.device)
        angles = 0.1 * torch.stack([torch.sin(names.double() % 7.0 + axis) for axis in range(3)], dim=-1).float()
        if self.input == "image":
            angles = angles + self.weight * batch["image"].mean(dim=(2, 3))
        pose = torch.zeros(count, 23, 3)
        pose[:, 15], pose[:, 16] = angles, -angles
        orient = torch.tensor([torch.pi, 0.0, 0.0]).expand(count, 3)
        box = batch["box"] if "box" in batch else torch.tensor([500.0, 500.0, 600.0]).expand(count, 3)
        weak = torch.tensor([0.9, 0.0, 0.3]).expand(count, 3)
        smpl = {
            "global_orient": roma.rotvec_to_rotmat(orient),
            "body_pose": roma.rotvec_to_rotmat(pose),
            "betas": torch.zeros(count, 10),
        }
        assert self.body is not None
        joints = self.body.joints(smpl["global_orient"], smpl["body_pose"], smpl["betas"])
        steps = torch.arange(count) % 3
        return {
            "joints_3d": joints - joints[:, :1],
            "smpl": smpl,  # pyright: ignore
            "camera_translation": crop_to_full_translation(weak, box, camera["image_size"], camera["focal"][:, 0]),
            "refinement": {
                "step": steps,
                "reprojection_before": torch.full((count,), 9.0),
                "reprojection_after": torch.full((count,), 8.0),
            },
        }

    def training_step(self, batch: PoseBatch, batch_idx: int) -> torch.Tensor:
        return self.weight.square()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def save(path, **options):
    """A checkpoint that `load_method` reads where this module is called methods.fake."""
    method = BodyMethod(**options)
    torch.save(
        {
            "state_dict": method.state_dict(),
            "hyper_parameters": dict(method.hparams),
            "class_path": "methods.fake.BodyMethod",
        },
        path,
    )
    return path
