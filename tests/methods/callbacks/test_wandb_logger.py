"""When a run of W&B begins, and that it goes on without W&B."""

import pytest
import requests
import wandb

from methods.callbacks import RunWandbLogger


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
