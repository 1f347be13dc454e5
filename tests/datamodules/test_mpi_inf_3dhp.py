"""MPI-INF-3DHP from a small tree to the numbers of its two protocols."""

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.mpi_inf_3dhp import MpiInf3DHP
from methods.base import PoseMethod
from methods.diffpose import DiffPose
from noise2pose import skeletons
from noise2pose.batch import PoseBatch, Prediction
from noise2pose.errors import InputError
from noise2pose.metrics import functional
from scripts.prepare import main
from tests.datamodules import mpi_inf_3dhp_tree as tree
from tests.places import ROOT

# Of the 17 joints of Human3.6M, right leg first: where they lie in the test set and in the training set. The lists of
# SPIN's authors have the left leg first.
OF_TEST = [14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4]
OF_TRAIN = [4, 23, 24, 25, 18, 19, 20, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16]
LEFT_FIRST_TEST = [14, 11, 12, 13, 8, 9, 10, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4]
LEFT_FIRST_TRAIN = [4, 18, 19, 20, 23, 24, 25, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16]
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def prepare(source, output, *options: str) -> str:
    arguments = ["--source", str(source), "--output", str(output), "--num_workers", "0", "--cameras", "0,8"]
    assert main(["mpi_inf_3dhp", *arguments, *options]) == 0
    return str(output)


def names_of(module: MpiInf3DHP, split: Split) -> list[str]:
    rows = module.rows(split)
    return rows.names(rows.rows)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> str:
    place = tmp_path_factory.mktemp("official")
    tree.write(place / "source")
    return prepare(place / "source", place / "out", "--no_images")


@pytest.fixture(scope="module")
def passed_on(tmp_path_factory) -> dict[str, str]:
    """Folders of the community's files: D3DP's, P-STMO's, and P-STMO's of which nobody said what they are."""
    place = tmp_path_factory.mktemp("npz")
    tree.write_npz(place / "d3dp", "_ori")
    tree.write_npz(place / "p-stmo", universal_skeleton=True)
    return {
        "annot3": prepare(place / "d3dp", place / "annot3"),
        "univ_annot3": prepare(place / "p-stmo", place / "univ", "--annotation", "univ_annot3"),
        "unknown": prepare(place / "p-stmo", place / "unknown"),
    }


def test_joint_orders() -> None:
    h36m = skeletons.get("h36m_17").joints
    for name, published, left_first in (
        ("mpi_inf_3dhp_17", OF_TEST, LEFT_FIRST_TEST), ("mpi_inf_3dhp_28", OF_TRAIN, LEFT_FIRST_TRAIN)
    ):  # fmt: skip
        matrix = skeletons.conversion_matrix(name, "h36m_17")
        assert matrix.argmax(dim=1).tolist() == published and (matrix.sum(dim=1) == 1).all()
        joints = [skeletons.get(name).joints[i] for i in left_first]
        mirrored = [j.replace("left", "?").replace("right", "left").replace("?", "right") for j in h36m[1:7]]
        assert joints[1:7] == mirrored and joints[11:] == list(h36m[11:])


def test_splits(root) -> None:
    module = MpiInf3DHP(root)
    train, val = module.load("train"), module.load("val")
    names = names_of(module, "train")
    assert {name[:9] for name in names} == {"S1_Seq1_0", "S1_Seq1_8"} and len(train["keypoints_3d"]) == 24
    assert set(val["sequence"]) == {"S2_Seq2_0", "S2_Seq2_8"}  # the last recording
    positions = tree.people(108, 12, 28)[:, OF_TRAIN] / 1000
    np.testing.assert_allclose(train["keypoints_3d"][12:, :, :3], positions, atol=1e-6)
    pixels = tree.project(positions, tree.intrinsics(8))
    np.testing.assert_allclose(train["keypoints_2d"][12:, :, :2], pixels, rtol=1e-5)
    assert names[0] == "S1_Seq1_0/000001" and val["subject"][0] == "S2"
    sides = np.ptp(pixels, axis=1).max(axis=1)
    np.testing.assert_allclose(train["box"][12:, 2], 1.2 * sides, rtol=1e-5)


def test_tests_take_valid_frames_of_the_annotation_that_is_asked_for(root) -> None:
    for annotation in (None, "annot3", "univ_annot3"):
        batch = MpiInf3DHP(root, annotation).load("test")
        positions = tree.people(7001, 20, 17)
        positions = tree.universal(positions, tree.PELVIS) if annotation == "univ_annot3" else positions
        valid = np.arange(20) % 3 > 0
        np.testing.assert_allclose(batch["keypoints_3d"][:13, :, :3], positions[valid][:, OF_TEST] / 1000, atol=1e-6)
        assert batch["sequence"] == ["TS1"] * 13 + ["TS5"] * 10
        assert batch["camera"]["image_size"][[0, -1]].tolist() == [[128, 128], [192, 108]]


def test_protocols(root, passed_on) -> None:
    protocol = MpiInf3DHP(root, "univ_annot3").protocols("test")[0]
    assert protocol.name == "mpi_inf_3dhp_univ_annot3" and protocol.average == "poses"
    assert protocol.split == "test: valid frames of TS1, TS5; trained on annot3"
    protocol = MpiInf3DHP(root).protocols("test")[0]
    assert protocol.name == "mpi_inf_3dhp_annot3" and protocol.average == "sequences" and protocol.groups == "sequence"
    assert MpiInf3DHP(root).protocols("val")[0].split == "val: valid frames of S2/Seq2 (2 cameras)"
    protocol = MpiInf3DHP(root, "univ_annot3", all_joints_inside=True).protocols("test")[0]
    assert protocol.name == "mpi_inf_3dhp_mesh" and protocol.split.endswith("all joints inside the image")
    protocol = MpiInf3DHP(passed_on["univ_annot3"]).protocols("test")[0]
    assert protocol.ground_truth == "univ_annot3" and "trained on" not in protocol.split


def test_what_a_folder_cannot_give_is_refused(root, passed_on, tmp_path) -> None:
    with pytest.raises(InputError, match="all sequences for test have annot3, data.annotation is univ_annot3"):
        MpiInf3DHP(passed_on["annot3"], "univ_annot3").load("test")
    with pytest.raises(InputError, match="cannot be told from their file; say it with data.annotation"):
        MpiInf3DHP(passed_on["unknown"]).protocols("test")
    assert MpiInf3DHP(passed_on["unknown"], "univ_annot3").protocols("test")[0].ground_truth == "univ_annot3"
    with pytest.raises(InputError, match="is for single frames"):
        MpiInf3DHP(root, all_joints_inside=True, num_frames=3)
    tree.write_test(tmp_path / "TS1", images=False)
    only_tests = MpiInf3DHP(prepare(tmp_path, tmp_path / "out"))
    assert len(only_tests.load("test")["sample_id"]) == 13 and only_tests.protocols("test")[0].split.endswith("TS1")
    with pytest.raises(InputError, match="no sequence for train"):
        only_tests.load("train")


def test_a_single_recording_is_split_by_camera(tmp_path) -> None:
    tree.write_recording(tmp_path / "S1" / "Seq1")
    module = MpiInf3DHP(prepare(tmp_path, tmp_path / "two"))
    assert {name[:9] for name in names_of(module, "train")} == {"S1_Seq1_0"}
    assert {name[:9] for name in names_of(module, "val")} == {"S1_Seq1_8"}
    module = MpiInf3DHP(prepare(tmp_path, tmp_path / "one", "--cameras", "4"))
    assert names_of(module, "train") == names_of(module, "val")


def test_people_partly_outside_the_image_can_be_left_out(tmp_path) -> None:
    import h5py

    tree.write_test(tmp_path / "TS1", frames=6, valid=[1] * 6)
    with h5py.File(tmp_path / "TS1" / "annot_data.mat", "r+") as file:
        file["annot2"][1, 0, 3] = (-0.5, 10.0)
        file["annot2"][4, 0, 3] = (128.0, 10.0)
    source = prepare(tmp_path, tmp_path / "out")
    names = MpiInf3DHP(source, all_joints_inside=True).load("test")["sample_id"]
    assert [int(name[-1]) for name in names] == [1, 3, 4, 6] and len(MpiInf3DHP(source).load("test")["sample_id"]) == 6


def test_frames_without_pelvis_do_not_count(tmp_path) -> None:
    tree.write_test(tmp_path / "TS1", frames=4, valid=[1] * 4, broken=[(2, tree.PELVIS), (1, 0)], images=False)
    arguments = ["--source", str(tmp_path), "--output", str(tmp_path / "out"), "--num_workers", "0"]
    assert main(["mpi_inf_3dhp", *arguments]) == 1  # and says so
    frames = MpiInf3DHP(str(tmp_path / "out")).load("test")
    assert [name[-1] for name in frames["sample_id"]] == ["1", "2", "4"]
    assert frames["keypoints_3d"][1, :, 3].tolist() == [1.0] * 10 + [0.0] + [1.0] * 6  # the top of the head
    clip = MpiInf3DHP(str(tmp_path / "out"), num_frames=4).load("test")
    assert clip["keypoints_3d"][0, :, :, 3].sum(dim=-1).tolist() == [17, 16, 0, 17]


class Wrong(PoseMethod):
    """Answers with the ground truth and an error that depends on the pixels alone."""

    def __init__(self, num_frames: int = 1) -> None:
        super().__init__()
        self.num_frames = num_frames

    def forward(self, batch: PoseBatch) -> Prediction:
        target = batch["keypoints_3d"][..., :3]
        return {"joints_3d": target - target[..., :1, :] + error(batch["keypoints_2d"][..., :2], root=0)}


def error(pixels: Tensor, root: int) -> Tensor:
    off = 0.15 * torch.sin(torch.cat((pixels, pixels[..., :1]), dim=-1))
    return off - off[..., root, None, :]


@pytest.mark.parametrize("num_frames", [1, 4])
@pytest.mark.parametrize("annotation", ["annot3", "univ_annot3"])
def test_numbers_of_a_run_are_those_of_the_official_evaluation(root, annotation, num_frames) -> None:
    sequences = []  # of each, error, PCK and AUC of every valid frame
    for name, seed, frames in (("TS1", 1, 20), ("TS5", 5, 16)):
        positions = tree.people(7000 + seed, frames, 17)
        pixels = torch.from_numpy(tree.project(positions, tree.intrinsics(0, tree.SIZES.get(name, tree.SIZE)))).float()
        given = tree.universal(positions, tree.PELVIS) if annotation == "univ_annot3" else positions
        target = torch.from_numpy(given / 1000).float()[torch.arange(frames) % 3 > 0]
        target = target - target[:, tree.PELVIS, None]
        pred = target + error(pixels, root=tree.PELVIS)[torch.arange(frames) % 3 > 0]
        limbs = pred[:, :14], target[:, :14]  # all but pelvis, spine and head
        errors = 1000 * functional.mpjpe(pred, target), 100 * functional.pck(*limbs), 100 * functional.auc(*limbs)
        sequences.append(torch.stack(errors))
    means = torch.stack([errors.mean(dim=1) for errors in sequences])
    expected = means.mean(dim=0) if annotation == "annot3" else torch.cat(sequences, dim=1).mean(dim=1)
    module = MpiInf3DHP(root, annotation, num_frames=num_frames, eval_batch_size=3)
    trainer = L.Trainer(accelerator="cpu", **QUIET)
    trainer.test(Wrong(num_frames), module, verbose=False)
    for name, value in zip(("mpjpe", "pck", "auc"), expected.tolist(), strict=True):
        assert trainer.callback_metrics[f"test/mpi_inf_3dhp/{name}"].item() == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("folder", ["official", "annot3", "univ_annot3"])
@pytest.mark.parametrize("num_frames", [1, 4])
def test_diffpose_trains_and_is_tested(root, passed_on, folder, num_frames) -> None:
    clip = {"encoder": "mixste", "num_frames": num_frames} if num_frames > 1 else {}
    model = DiffPose(
        variant="paper", width=16, num_blocks=1, num_heads=2, context_width=16, context_blocks=1, context_epochs=1,
        warmup_steps=2, **clip,
    )  # fmt: skip
    source = root if folder == "official" else passed_on[folder]
    module = MpiInf3DHP(source, num_frames=num_frames, batch_size=4, eval_batch_size=8)
    trainer = L.Trainer(accelerator="cpu", fast_dev_run=True, **QUIET)
    trainer.fit(model, module)
    trainer.test(model, module, verbose=False)
    assert trainer.callback_metrics["test/mpi_inf_3dhp/mpjpe"].isfinite()


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["context_human36m_frame", "diffpose_cmu_clip"])
def test_experiments_run(passed_on, experiment, tmp_path, monkeypatch) -> None:
    from scripts.train import main as train

    configuration = ROOT / "configs" / "experiments" / f"{experiment}.yaml"
    monkeypatch.chdir(tmp_path)
    length = ["--model.num_frames", "4", "--data.num_frames", "4"] if experiment.endswith("clip") else []
    fixed = ["--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu", "--data.batch_size", "4"]
    data = str(ROOT / "configs" / "data" / f"mpi_inf_3dhp_{experiment.rpartition('_')[2]}.yaml")
    train(["fit", "-c", str(configuration), "--data", data, "--data.root", passed_on["annot3"], *length, *fixed])
