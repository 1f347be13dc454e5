"""The table of ablations, and what is refused; tests of scripts/train.py cover the training itself."""

import json

import pytest
import yaml

from scripts import ablations
from scripts import train as train_script
from tests.places import ROOT


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two seeds of an experiment of DPMesh that are finished, in a project without any other run."""
    monkeypatch.setattr(ablations, "ROOT", tmp_path)
    for seed, error in enumerate((90.0, 110.0)):
        folder = tmp_path / "runs" / f"ablation_dpmesh_random_seed{seed}"
        folder.mkdir(parents=True)
        metrics = {f"test/people/{key}": error for key in ("mpjpe", "pa_mpjpe", "pve")}
        (folder / "test.json").write_text(json.dumps({"protocols": [{"dataset": "people"}], "metrics": metrics}))
        (folder / "fit.json").write_text(json.dumps({"seconds": 60.0 + seed}))
    return tmp_path


def resolved(capsys, *options):
    """Model, data and trainer of an ablation of DiffPose."""
    file = str(ROOT / "configs" / "experiments" / "diffpose_ablation.yaml")
    with pytest.raises(SystemExit) as stop:
        train_script.main(["fit", "-c", file, *options, "--print_config"])
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.slow
def test_each_ablation_of_diffpose_changes_one_option(capsys):
    whole = resolved(capsys)
    assert set(ablations.TESTED) < set(ablations.DIFFPOSE)
    for name, options in ablations.DIFFPOSE.items():
        config = resolved(capsys, *options.split())
        model, arguments = config["model"], config["model"]["init_args"]
        changed = [key for key, value in arguments.items() if value != whole["model"]["init_args"][key]]
        if name in ("encoder", "control"):
            assert model["class_path"] == "methods.diffpose.ContextEncoder"
            assert not changed or changed == ["learning_rate"], name
        else:
            option, value = options.removeprefix("--model.").split()
            assert str(arguments[option]) == value and changed in ([option], []), name
        assert config["data"] == whole["data"]


def test_the_table_has_medians_and_ranges(runs, capsys):
    assert ablations.main(["dpmesh", "--table"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert "| 100.0 (90.0 to 110.0) |" in row and "| dpmesh_random |" in row and "| 60 | 2 |" in row


def test_what_is_finished_is_not_trained_again(runs, monkeypatch):
    monkeypatch.setattr(ablations, "train", lambda *_: pytest.fail("it was trained"))
    assert ablations.main(["dpmesh", "--only", "random", "--seeds", "0", "1"]) == 0


@pytest.mark.parametrize("epochs", [None, 1])
def test_runs_that_need_the_prior_ask_for_it(runs, epochs):
    if epochs:
        folder = runs / "runs" / "dpmesh_prior"
        folder.mkdir()
        (folder / "fit.json").write_text(json.dumps({"epochs": epochs}))
        (folder / "config.yaml").write_text("trainer: {max_epochs: 2}")
    with pytest.raises(SystemExit, match=r"train the prior first: .*dpmesh_prior.yaml"):
        ablations.main(["dpmesh", "--only", "context"])


def test_unknown_experiments_are_refused(runs, capsys):
    with pytest.raises(SystemExit):
        ablations.main(["dpmesh", "--only", "gmm_5"])
    assert "--only gmm_5: expected some of z0, heatmap" in capsys.readouterr().err
