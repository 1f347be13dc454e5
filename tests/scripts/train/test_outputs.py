"""What test and predict write, in one process and in two, and what W&B is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb

from methods.callbacks.wandb_record import KEYS
from methods.diffpose import DiffPose
from scripts import compare
from tests import forks
from tests.places import ROOT
from tests.scripts.train.runs import run_in, run_in_two


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["release", "paper"])
def test_two_processes_test_like_one(folder, train, variant):
    """Also trains in two processes, through both phases."""
    options = ("-c", "tiny.yaml", "--name", variant, "--model.variant", variant)
    run_in_two(folder, "fit", *options)
    test, results = ("test", *options, "--ckpt_path", "best"), folder / "runs" / variant / "test.json"
    train(*test)
    by_one = json.loads(results.read_text())["metrics"]
    run_in_two(folder, *test)
    by_two = json.loads(results.read_text())["metrics"]
    assert by_one.keys() == by_two.keys() and "test/tiny/mpjpe" in by_one
    for key, value in by_one.items():
        assert by_two[key] == pytest.approx(value, abs=1e-4), key


@pytest.mark.slow
def test_the_command_starts_two_processes_which_predict_like_one(folder, train):
    options = ("-c", "tiny.yaml", "--name", "a", "--model.variant", "paper")
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "fit", *options]
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *two], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    predict = ("predict", *options, "--ckpt_path", "best", "--data.eval_batch_size", "6")
    predicted = []
    for run in (train, lambda *arguments: run_in_two(folder, *arguments)):
        run(*predict)
        predicted.append(dict(np.load(folder / "runs" / "a" / "predictions.npz")))
    assert [path.name for path in (folder / "runs" / "a").glob("predictions*")] == ["predictions.npz"]
    assert (predicted[0]["sample_id"] == predicted[1]["sample_id"]).all()
    assert np.abs(predicted[0]["joints_3d"] - predicted[1]["joints_3d"]).max() < 1e-5


def test_predictions_do_not_depend_on_the_batch(folder, train):
    options = ("-c", "tiny.yaml", "--name", "p", "--model.variant", "paper")
    train("fit", *options)
    found = []
    for batch_size in ("35", "7"):
        train("predict", *options, "--ckpt_path", "best", "--data.eval_batch_size", batch_size)
        found.append(dict(np.load(folder / "runs" / "p" / "predictions.npz")))
    assert found[0]["hypotheses"].shape == (35, 5, 17, 3)
    assert (found[0]["sample_id"] == found[1]["sample_id"]).all()
    scale = np.abs(found[0]["hypotheses"]).max()
    assert np.abs(found[0]["hypotheses"] - found[1]["hypotheses"]).max() < 1e-4 * scale


def test_clips_are_trained_tested_predicted_and_compared(train, folder):
    clip = ["-c", "tiny.yaml", "--name", "clip", "--model.variant", "paper", "--model.encoder", "mixste"]
    clip += ["--model.num_frames", "4", "--data.num_frames", "4", "--model.flip_test", "true"]
    train("fit", *clip, "--trainer.check_val_every_n_epoch", "2", "--trainer.max_epochs", "4")
    train("test", *clip, "--ckpt_path", "best")
    record = json.loads((folder / "runs" / "clip" / "test.json").read_text())
    assert {"test/tiny/mpjve", "test/tiny/calibration/crps"} <= set(record["metrics"])
    curve = record["calibration"]
    assert len(curve["removed"]) == len(curve["error"]) == 20 and len(curve["crps_per_joint"]) == 17
    train("predict", *clip, "--ckpt_path", "best")
    with np.load(folder / "runs" / "clip" / "predictions.npz") as predictions:
        assert predictions["joints_3d"].shape == (35, 4, 17, 3) and predictions["hypotheses"].shape == (35, 5, 4, 17, 3)
    assert compare.main(["runs/clip", "--output", "report"]) == 0
    assert "Does the spread" in (folder / "report" / "report.md").read_text()
    message = train("test", *clip, "--ckpt_path", "best", "--data.num_frames", "1", status=2)
    assert "set model.num_frames and data.num_frames to the same number" in message


def test_one_batch_is_not_all_batches(train, folder):
    train("fit", "-c", "tiny.yaml", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches=1")
    assert json.loads((folder / "runs" / "run" / "fit.json").read_text())["steps"] == 3  # one in each of three epochs
    train("test", "-c", "tiny.yaml", "--ckpt_path", "best", "--trainer.limit_test_batches", "1")
    record = json.loads((folder / "runs" / "run" / "test.json").read_text())
    assert record["protocols"][0]["split"].endswith("ONLY 1 BATCHES")  # so that no table shows it as the whole


def run_and_finish(folder, arguments, key=None):
    if key is not None:
        os.environ["WANDB_API_KEY"] = key
    run_in(folder, arguments)
    wandb.finish()  # which W&B does by itself where an interpreter ends


def inspected(folder):
    """What `wandb` reads back from the files of an offline run."""
    inspect = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--summary", "--json", str(folder)]
    return json.loads(subprocess.run(inspect, capture_output=True, check=True, text=True).stdout)


def test_wandb_is_told_the_same_of_every_method_and_keeps_the_best_value(folder):
    """Read back from the files of offline runs, in which no credential stands."""
    config, secret = str(ROOT / "configs" / "loggers" / "wandb.yaml"), "0123456789abcdef" * 2 + "01234567"
    options = ("-c", "tiny.yaml", "-c", config, "--trainer.log_every_n_steps", "2")
    found = {}
    # In processes of their own: W&B's service writes relative to the folder that it was started in.
    for name, more in (
        ("mine_seed1", ("--model.variant", "paper")),
        ("other", ("--model", "methods.diffpose.ContextEncoder")),
    ):
        arguments = (*options, "--name", name, "--seed_everything", "1", *more)
        forks.call(run_and_finish, folder, ("fit", *arguments), secret)
        forks.call(run_and_finish, folder, ("test", *arguments, "--ckpt_path", "best"), secret)
        run = folder / "runs" / name
        for job, of_id in (("fit", name), ("test", f"{name}-test")):
            (offline,) = (run / "wandb").glob(f"offline-run-*-{of_id}")
            found[name, job] = inspected(offline)
            assert list(offline.glob("files/media/images/val/pictures_*.png")) or job == "test"
        assert not [path for path in run.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    config_of = {key: one["config"] for key, one in found.items()}
    assert len({frozenset(one) for one in config_of.values()}) == 1, "every command of every method has the same keys"
    mine = config_of["mine_seed1", "fit"]
    assert {key: mine[key] for key in KEYS if key not in ("parameters", "commit", "num_steps")} == {
        "name": "mine_seed1", "experiment": "mine", "method": "DiffPose (paper)", "dataset": "tiny",
        "protocol": "tiny", "input_2d": "gt", "num_hypotheses": 5, "seed": 1, "job": "fit",
    }  # fmt: skip
    assert mine["model"]["init_args"]["width"] == 16 and mine["parameters"] > 0
    first, test = found["mine_seed1", "fit"], found["mine_seed1", "test"]
    assert (first["run_id"], test["run_id"]) == ("mine_seed1", "mine_seed1-test")
    rows = [line.split(",") for line in (folder / "runs" / "mine_seed1" / "metrics.csv").read_text().splitlines()]
    column = rows[0].index("val/tiny/mpjpe")
    best = min(float(row[column]) for row in rows[1:] if row[column])
    assert first["summary"]["val/tiny/mpjpe"]["min"] == pytest.approx(best)
    for name in ("mine_seed1", "other"):
        assert {"train/loss", "val/tiny/pa_mpjpe", "val/tiny/pck"} <= set(found[name, "fit"]["summary"])
        assert {"test/tiny/mpjpe", "test/tiny/per_joint_table"} <= set(found[name, "test"]["summary"])
    assert "test/tiny/sparsification_table" in test["summary"], "of the method with several hypotheses"


def test_a_training_that_is_refused_at_its_first_batch_leaves_no_run_of_wandb(folder, train, monkeypatch):
    monkeypatch.setattr(DiffPose, "training_step", lambda self, *_: sum(p.sum() for p in self.parameters()) * torch.nan)
    config = str(ROOT / "configs" / "loggers" / "wandb.yaml")
    assert "the loss of epoch 0, batch 0 is nan" in train("fit", "-c", "tiny.yaml", "-c", config, status=2)
    assert wandb.run is None and not list(folder.rglob("wandb"))


def test_people_in_pictures_are_drawn_for_the_folder_and_for_wandb(folder, train):
    people = """
model: {class_path: tests.body_method.BodyMethod, init_args: {input: image}}
data: {class_path: tests.tiny.TinyPeople, init_args: {num_samples: 4, batch_size: 4}}
trainer: {max_epochs: 2, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""
    (folder / "people.yaml").write_text(people)
    config = str(ROOT / "configs" / "loggers" / "wandb.yaml")
    train("fit", "-c", "people.yaml", "-c", config, "--name", "w", "--pictures.people", "2")
    wandb.finish()
    run = folder / "runs" / "w"
    assert sorted(path.name for path in (run / "pictures").iterdir()) == ["epoch_0000.png", "epoch_0001.png"]
    offline = next((run / "wandb").glob("offline-run-*-w"))
    assert len(list(offline.glob("files/media/images/val/pictures_*.png"))) == 2
    train("fit", "-c", "people.yaml", "--name", "none", "--pictures.people", "0")
    assert not (folder / "runs" / "none" / "pictures").exists()
    curves = [(folder / "runs" / name / "metrics.csv").read_text() for name in ("w", "none")]
    assert curves[0] == curves[1]
