"""A method and a data set of one's own, written as CONTRIBUTING.md says, and used without any change to the project."""

import csv
import json

import pytest

from scripts.compare import main as compare
from scripts.train import main as train

FILES = {
    "toy_lifter/__init__.py": "from toy_lifter.module import ToyLifter as ToyLifter\n",
    "toy_lifter/module.py": '''
"""Lifts each pose by itself with a network of two layers."""

import torch
from torch import Tensor, nn

from methods.base import PoseMethod
from noise2pose.batch import PoseBatch, Prediction


class ToyLifter(PoseMethod):
    """A lifting method.

    Args:
        width: of the network.
        learning_rate: of Adam.
    """

    title = "toy lifter"

    def __init__(self, width: int = 16, learning_rate: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(nn.Linear(17 * 2, width), nn.ReLU(), nn.Linear(width, 17 * 3))

    def forward(self, batch: PoseBatch) -> Prediction:
        points = batch["keypoints_2d"][..., :2]
        points = (points - points[:, :1]) / batch["camera"]["focal"][:, None]
        joints = self.network(points.flatten(1)).unflatten(1, (17, 3))
        return {"joints_3d": joints - joints[:, :1]}

    def training_step(self, batch: PoseBatch, batch_idx: int) -> Tensor:
        target = batch["keypoints_3d"][..., :3]
        loss = (self(batch)["joints_3d"] - (target - target[:, :1])).norm(dim=-1).mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.hparams["learning_rate"])
''',
    "toy_walk.py": '''
"""Random poses five metres from a camera."""

import torch

from datamodules.base import PoseDataModule, Split
from noise2pose.batch import PoseBatch
from noise2pose.metrics.protocols import Protocol


class ToyWalk(PoseDataModule):
    """A data set.

    Args:
        size: training poses; a quarter as many for validation and for the test.
        batch_size: for training.
        eval_batch_size: for validation and tests.
    """

    def __init__(self, size: int = 64, batch_size: int = 16, eval_batch_size: int = 16) -> None:
        super().__init__(batch_size, eval_batch_size)
        self.size = size

    def protocols(self, split: Split) -> list[Protocol]:
        return [Protocol(name="toy_walk", dataset="toy_walk", split=split, skeleton="h36m_17")]

    def load(self, split: Split) -> PoseBatch:
        number = self.size if split == "train" else self.size // 4
        generator = torch.Generator().manual_seed(["train", "val", "test"].index(split))
        joints = 0.3 * torch.randn(number, 17, 3, generator=generator) + torch.tensor([0.0, 0.0, 5.0])
        ones = torch.ones(number, 17, 1)
        return {
            "keypoints_2d": torch.cat((1000.0 * joints[..., :2] / joints[..., 2:] + 500.0, ones), dim=-1),
            "keypoints_3d": torch.cat((joints, ones), dim=-1),
            "camera": {
                "focal": torch.full((number, 2), 1000.0),
                "principal_point": torch.full((number, 2), 500.0),
                "image_size": torch.full((number, 2), 1000.0),
            },
            "sample_id": [f"{split}_{i}" for i in range(number)],
            "subject": ["S1"] * number,
            "action": ["walk"] * number,
        }
''',
    "toy_lifter.yaml": "class_path: toy_lifter.ToyLifter\ninit_args:\n  width: 32\n",
    "toy_walk.yaml": "class_path: toy_walk.ToyWalk\ninit_args:\n  size: 48\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the method, the data set and their configurations, which PYTHONPATH names."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.lstrip())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_method_and_a_data_set_need_no_change_to_the_project(folder, capsys):
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    toy = ["--model", "toy_lifter.yaml", "--data", "toy_walk.yaml", "--name", "toy", *quiet]
    assert train(["fit", *toy, "--trainer.max_epochs", "2"]) == 0
    assert train(["fit", *toy, "--trainer.max_epochs", "4", "--ckpt_path", "last"]) == 0
    assert train(["test", *toy, "--ckpt_path", "best"]) == 0
    with (folder / "runs" / "toy" / "metrics.csv").open() as file:
        errors = [float(row["val/toy_walk/mpjpe"]) for row in csv.DictReader(file) if row["val/toy_walk/mpjpe"]]
    assert len(errors) == 4 and errors[-1] < errors[0]
    record = json.loads((folder / "runs" / "toy" / "test.json").read_text())
    assert record["method"] == "toy lifter" and record["metrics"]["test/toy_walk/mpjpe"] > 0
    # The same data with a method of the project: one word differs.
    other = ["--model", "methods.diffpose.ContextEncoder", "--model.width", "16", "--model.num_blocks", "1"]
    other += ["--model.num_heads", "2", "--data", "toy_walk.yaml", "--name", "encoder", *quiet]
    assert train(["fit", *other, "--trainer.max_epochs", "1"]) == train(["test", *other, "--ckpt_path", "best"]) == 0
    capsys.readouterr()
    assert compare(["runs/toy", "runs/encoder", "--output", "report"]) == 0
    table = capsys.readouterr().out
    assert "toy lifter" in table and "encoder" in table and "toy_walk" in (folder / "report" / "report.md").read_text()
