"""What is offered for a mistyped name, and that nothing is where nothing is near."""

from pathlib import Path

import pytest

from scripts.training import suggestions
from scripts.training.suggestions import missing_configuration, nearest_class, nearest_option, options_of
from tests.places import ROOT

OPTIONS = ["--name", "--ckpt_path", "--trainer.max_epochs", "--trainer.max_steps", "--trainer.devices", "--model"]


@pytest.mark.parametrize(
    "given, meant",
    [
        ("--trainer.max_epoch", "--trainer.max_epochs"),
        ("--max_epochs", "--trainer.max_epochs"),
        ("--trainr.device", "--trainer.devices"),
        ("--modle.width", "--model.width"),
        ("--dta.batch_size", "--data.batch_size"),
        ("--naem", "--name"),
        ("--xyz", None),
    ],
)
def test_options(given, meant):
    assert nearest_option(given, OPTIONS) == meant


@pytest.mark.parametrize(
    "given, meant",
    [
        ("methods.difpose.DiffPose", "methods.diffpose.DiffPose"),
        ("methods.diffpose.Difpose", "methods.diffpose.DiffPose"),
        ("datamodules.synthetic_motin.SyntheticMotion", "datamodules.synthetic_motion.SyntheticMotion"),
        ("lightning.pytorch.callbacks.ModelCheckpont", "lightning.pytorch.callbacks.ModelCheckpoint"),
        ("methods.octopus.Octopus", None),
        ("octopus.Octopus", None),
    ],
)
def test_classes(given, meant):
    assert nearest_class(given) == meant


def test_options_of_a_class_include_those_of_its_bases():
    assert {"clips_per_activity", "noise_seed", "batch_size"} <= set(
        options_of("datamodules.synthetic_motion.SyntheticMotion")
    )
    assert options_of("octopus.Octopus") == []


def test_configurations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = ROOT / "configs" / "experiments" / "diffpose_synthetic_frame.yaml"
    for given in (
        "configs/experiments/diffpose_synthetic_frame.yaml",
        tmp_path / "configs" / "experiments" / "diffpose_synthetic_frame.yaml",
        "diffpose_synthetic_frame.yaml",
        "configs/experiments/difpose_synthetic_frame.yml",
    ):
        assert missing_configuration(Path(given)) == f"did you mean {experiment}?"
    assert missing_configuration(Path("octopus.yaml")) == f"the project's configurations are in {ROOT / 'configs'}"
    monkeypatch.chdir(ROOT)
    assert "did you mean configs/data/cmu_frame.yaml?" in missing_configuration(Path("configs/data/cmu_fram.yaml"))
    assert suggestions.CONFIGS == ROOT / "configs"
