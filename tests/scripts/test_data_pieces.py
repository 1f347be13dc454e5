"""The same method on other data: only the data piece of the command changes."""

import json

import pytest

from scripts.prepare import main as prepare
from scripts.train import main as train
from tests.datamodules import acclaim, human36m_tree, mpi_inf_3dhp_tree
from tests.places import ROOT

CONFIGS = ROOT / "configs"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the three data sets prepared where their configurations look for them."""
    home = tmp_path_factory.mktemp("home")
    acclaim.write(home / "source" / "subjects", {"01": 8, "02": 2}, frames=60)
    acclaim.prepare(home / "source", home / "data" / "cmu_mocap")
    human36m_tree.write_videopose3d(home / "videopose3d")
    mpi_inf_3dhp_tree.write_npz(home / "d3dp", "_ori")
    for name, source in (("human36m", "videopose3d"), ("mpi_inf_3dhp", "d3dp")):
        prepare([name, "--source", str(home / source), "--output", str(home / "data" / name), "--num_workers", "0"])
    return home


@pytest.mark.slow
@pytest.mark.parametrize("data", ["cmu_frame", "human36m_frame", "mpi_inf_3dhp_frame"])
def test_one_method_trains_and_is_tested_on_three_data_sets(home, data, monkeypatch):
    monkeypatch.chdir(home)
    given = [
        "-c",
        str(CONFIGS / "experiments" / "diffpose_synthetic_frame.yaml"),
        "--data",
        str(CONFIGS / "data" / f"{data}.yaml"),
    ]
    small = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--name", data]
    small += ["--model.width", "8", "--model.num_blocks", "1", "--data.batch_size", "4", "--data.eval_batch_size", "64"]
    train(
        [
            "fit",
            *given,
            *small,
            "--trainer.max_epochs",
            "2",
            "--trainer.limit_train_batches",
            "2",
            "--model.context_epochs",
            "1",
        ]
    )
    train(["test", *given, *small, "--ckpt_path", "best"])
    record = json.loads((home / "runs" / data / "test.json").read_text())
    dataset = data.removesuffix("_frame").replace("cmu", "cmu_mocap")
    assert 0 < record["metrics"][f"test/{dataset}/mpjpe"] < 1e5  # it has hardly been trained
    assert record["protocols"][0]["dataset"] == dataset and record["protocols"][0]["skeleton"] == "h36m_17"
