"""CMU Panoptic from its files to the numbers: what is taken, and errors equal to those counted by hand."""

import argparse
import json

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from datamodules.occluded_people import Panoptic
from datamodules.preparation import prepare
from datamodules.sources.panoptic import files as panoptic_files
from methods.base import PoseMethod
from noise2pose.errors import InputError
from tests.datamodules import panoptic_tree

# Where the joints of the protocol are in "coco19", beside those of h36m_17: legs, arms, neck.
OF_19 = {1: 12, 2: 13, 3: 14, 4: 6, 5: 7, 6: 8, 11: 3, 12: 4, 13: 5, 14: 9, 15: 10, 16: 11, 8: 0}


class Stretched(PoseMethod):
    """Answers with a fixed pose, which is wrong everywhere."""

    title = "Stretched"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.pose = torch.linspace(-1.0, 1.0, 51).reshape(17, 3)

    def forward(self, batch):
        return {"joints_3d": self.pose.expand(len(batch["keypoints_2d"]), 17, 3)}

    def training_step(self, batch):
        return self.weight

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def write(folder, joints_of_mafia=15):
    """Four published sequences with lengths of their own, and one that is not published; returns the bodies."""
    source = folder / "source"
    bodies = panoptic_tree.write(source, ("160422_haggling1",), frames=(2, 3, 4, 5), people=3, images=None)
    mafia = {"joints": joints_of_mafia, "archive": True, "seed": 1}
    bodies |= panoptic_tree.write(source, ("160422_mafia2",), frames=(1, 2), images=None, **mafia)
    bodies |= panoptic_tree.write(source, ("160422_ultimatum1",), frames=(7,), images=None, seed=2)
    bodies |= panoptic_tree.write(source, ("160906_pizza1",), frames=(7, 9), images=None, seed=3)
    bodies |= panoptic_tree.write(source, ("160906_band1",), frames=(7, 9), images=None, seed=4)
    parser = argparse.ArgumentParser()
    panoptic_files.add_options(parser)
    options = parser.parse_args(["--no_images", "--cameras", "00_16,00_30,00_03"])
    prepare(panoptic_files.plan(source, folder / "panoptic", options), folder / "panoptic", 0)
    return bodies


def errors_by_hand(folder, bodies, sequence):
    """Mean error of each person in millimetres, joint by joint."""
    calibration = json.loads((folder / "source" / sequence / f"calibration_{sequence}.json").read_text())
    pose, errors = np.linspace(-1.0, 1.0, 51).reshape(17, 3), []
    for camera in calibration["cameras"][:2]:
        turn, shift = np.array(camera["R"]), np.array(camera["t"])[:, 0]
        for frame in bodies[sequence].values():
            for body in frame:
                points = np.array(body.get("joints19", body.get("joints15"))).reshape(-1, 4)[:, :3]
                placed = [(turn @ point + shift) / 100.0 for point in points]
                distances = []
                for joint, published in OF_19.items():
                    truth = placed[published] - placed[2]
                    distances.append(np.linalg.norm(pose[joint] - pose[0] - truth))
                errors.append(1000.0 * np.mean(distances))
    return errors


def test_numbers_are_those_counted_by_hand(tmp_path):
    bodies = write(tmp_path)
    module = Panoptic(root=str(tmp_path / "panoptic"), eval_batch_size=7)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    method = Stretched()
    (logged,) = trainer.test(method, module, verbose=False)
    by_hand = {
        kind: float(np.mean(errors_by_hand(tmp_path, bodies, name)))
        for name, kind in zip(panoptic_files.PUBLISHED, ("haggling", "mafia", "ultimatum", "pizza"), strict=True)
    }
    table = method.group_tables["panoptic"]
    assert table["of"] == "sequence"
    assert table["metrics"]["mpjpe"]["values"] == pytest.approx(by_hand, rel=1e-5)
    assert table["metrics"]["mpjpe"]["poses"] == {"haggling": 24, "mafia": 8, "ultimatum": 4, "pizza": 8}
    assert logged["test/panoptic/mpjpe"] == pytest.approx(np.mean(list(by_hand.values())), rel=1e-5)


def test_protocol_says_what_was_taken(tmp_path):
    write(tmp_path)
    root = str(tmp_path / "panoptic")
    (protocol,) = Panoptic(root=root).protocols("test")
    assert protocol.name == "panoptic" and protocol.joints == tuple(sorted(OF_19, key=list(protocol.joints).index))
    assert protocol.split == "test: the four published sequences, HD cameras 16 and 30; all annotated frames"
    (protocol,) = Panoptic(root=root, sequences="all").protocols("test")
    assert protocol.name == "panoptic_other" and "160906_band1.00_03" in protocol.split
    assert set(Panoptic(root=root, sequences="all").load("test")["sequence"]) >= {"band", "mafia"}
    assert Panoptic(root=root, keypoints_2d="synthetic").protocols("test")[0].keypoints_2d == "synthetic"


def test_joints_that_15_do_not_give_are_not_valid(tmp_path):
    write(tmp_path)
    batch = Panoptic(root=str(tmp_path / "panoptic")).load("test")
    of_15 = torch.tensor([kind == "mafia" for kind in batch["sequence"]])
    missing = [9, 10]  # chin and top of the head
    assert not batch["keypoints_3d"][of_15][:, missing].any()
    assert not batch["keypoints_2d"][of_15][:, missing].any()
    assert batch["keypoints_3d"][~of_15][..., 3].all()
    assert batch["sample_id"][0] == "160422_haggling1.00_16/000002/0"
    assert len(set(batch["sample_id"])) == len(of_15) == 44


def test_without_published_sequences_all_are_taken(tmp_path):
    panoptic_tree.write(tmp_path / "source", ("171204_pose1_sample",), images="jpg")
    parser = argparse.ArgumentParser()
    panoptic_files.add_options(parser)
    plan = panoptic_files.plan(tmp_path / "source", tmp_path / "out", parser.parse_args([]))
    prepare(plan, tmp_path / "out", 0)
    module = Panoptic(root=str(tmp_path / "out"))
    assert set(module.load("test")["sequence"]) == {"pose"}
    assert module.protocols("test")[0].name == "panoptic_other"


def test_there_is_nothing_to_train_on_and_there_are_no_clips(tmp_path):
    write(tmp_path)
    module = Panoptic(root=str(tmp_path / "panoptic"))
    with pytest.raises(InputError, match="panoptic has no train data: train on another data set"):
        module.train_dataloader()
    with pytest.raises(InputError, match="data.num_frames is 9, but panoptic has single frames"):
        Panoptic(root=str(tmp_path / "panoptic"), num_frames=9)
    with pytest.raises(InputError, match="prepare panoptic --source FOLDER"):
        Panoptic(root=str(tmp_path / "nowhere")).prepare_data()
