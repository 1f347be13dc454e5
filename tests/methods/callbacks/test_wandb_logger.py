"""When a run of W&B begins, and that it goes on without W&B."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import wandb

from methods.callbacks import RunWandbLogger
from methods.callbacks.wandb_record import Job, experiment_of, log_model
from tests.fake_runs import write_run


def out_of_reach(*_, **__):
    raise requests.ConnectionError


@pytest.mark.parametrize("logged_in, reason", [(False, "you are not logged in"), (True, "cannot be reached (Conn")])
def test_without_login_or_network_a_run_goes_on_offline(tmp_path, monkeypatch, capsys, logged_in, reason):
    monkeypatch.setattr(wandb, "login", lambda **_: logged_in)
    monkeypatch.setattr(requests, "head", out_of_reach)
    logger = RunWandbLogger(save_dir=str(tmp_path), name="a", id="a", mode="online")
    logger.log_hyperparams({"width": 3})
    logger.begin()
    logger.log_metrics({"train/loss": 1.0}, 1)
    wandb.finish()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*-a")
    said = capsys.readouterr().out
    assert reason in said and f"wandb sync {folder}\n" in said and logger.experiment.config["width"] == 3


def test_a_run_that_never_begins_leaves_nothing(tmp_path):
    logger = RunWandbLogger(save_dir=str(tmp_path), name="a", id="a", mode="offline")
    logger.log_hyperparams({"width": 3})
    assert logger.experiment is not None and not list(tmp_path.iterdir())


def test_jobs_have_a_group_tags_and_a_run_of_their_own(tmp_path):
    for kind, name in (("fit", "a"), ("test", "a-test")):
        logger = RunWandbLogger(save_dir=str(tmp_path), name="a", id="a", mode="offline", tags=["mine"])
        logger.begin(Job(kind, "experiment", ("DiffPose", "toy", "mine")))
        run = logger.experiment
        assert (run.id, run.group, run.job_type, run.name) == (name, "experiment", kind, "a")
        assert sorted(run.tags) == ["DiffPose", "mine", "toy"]
        wandb.finish()


def test_a_group_that_was_given_is_kept(tmp_path):
    logger = RunWandbLogger(save_dir=str(tmp_path), name="a", id="a", mode="offline", group="sweep", job_type="trial")
    logger.begin(Job("fit", "experiment", ()))
    assert (logger.experiment.group, logger.experiment.job_type) == ("sweep", "trial")
    wandb.finish()


@pytest.mark.parametrize("name", ["mine", "mine_s3", "mine_seed12", "mine-seed-3", "mine.s0"])
def test_runs_that_differ_in_their_seed_are_one_experiment(name):
    assert experiment_of(name) == "mine"


@pytest.mark.parametrize("name", ["mine_27", "frames81", "seeds", "s1", "dpmesh_z0"])
def test_other_numbers_stay_in_the_name(name):
    assert experiment_of(name) == name


def test_a_model_folder_is_an_artifact_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run, model = write_run(tmp_path / "mine_seed1"), tmp_path / "my model"
    model.mkdir()
    (model / "config.yaml").write_text("class_path: a.B\n")
    log_model(model, run, json.loads((run / "test.json").read_text()))
    (folder,) = (run / "wandb").glob("offline-run-*-mine_seed1-export")
    inspect = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(folder)]
    records = subprocess.run(inspect, capture_output=True, check=True, text=True).stdout
    assert '"my_model"' in records and "config.yaml" in records
