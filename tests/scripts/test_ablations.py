"""The table of ablations, and what is refused; training itself is the business of scripts/train.py."""

import json
import sys

import pytest

from scripts import ablations


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two seeds of an experiment of DPMesh that are finished, in a project without any other run."""
    monkeypatch.setattr(ablations, "ROOT", tmp_path)
    for seed, error in enumerate((90.0, 110.0)):
        folder = tmp_path / "runs" / f"ablation_dpmesh_random_seed{seed}"
        folder.mkdir(parents=True)
        metrics = {f"test/people/{key}": error for key in ("mpjpe", "pa_mpjpe", "pve")}
        (folder / "test.json").write_text(json.dumps({"dataset": "people", "metrics": metrics}))
        (folder / "fit.json").write_text(json.dumps({"seconds": 60.0 + seed}))
    return tmp_path


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["ablations.py", *arguments])
    return ablations.main()


def test_the_table_has_medians_and_ranges(runs, monkeypatch, capsys):
    assert call(monkeypatch, "dpmesh", "--table") == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert "| 100.0 (90.0 to 110.0) |" in row and "| dpmesh_random |" in row and "| 60 | 2 |" in row


def test_what_is_finished_is_not_trained_again(runs, monkeypatch):
    monkeypatch.setattr(ablations, "train", lambda *_: pytest.fail("it was trained"))
    assert call(monkeypatch, "dpmesh", "--only", "random", "--seeds", "0", "1") == 0


@pytest.mark.parametrize("epochs", [None, 1])
def test_runs_that_need_the_prior_ask_for_it(runs, monkeypatch, epochs):
    if epochs:
        folder = runs / "runs" / "dpmesh_prior"
        folder.mkdir()
        (folder / "fit.json").write_text(json.dumps({"epochs": epochs}))
        (folder / "config.yaml").write_text("trainer: {max_epochs: 2}")
    with pytest.raises(SystemExit, match=r"train the prior first: .*dpmesh_prior.yaml"):
        call(monkeypatch, "dpmesh", "--only", "context")


def test_unknown_experiments_are_refused(runs, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(monkeypatch, "dpmesh", "--only", "gmm_5")
    assert "--only gmm_5: expected some of z0, heatmap" in capsys.readouterr().err
