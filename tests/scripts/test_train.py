"""The command line's promises, each through the command line."""

import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
import yaml

from methods.diffpose import DiffPose
from noise2pose.files import lock
from scripts import compare
from scripts.train import main, says_something
from scripts.train_parser import MOVED
from tests.places import ROOT

TINY = """
model:
  class_path: methods.diffpose.DiffPose
  init_args: {width: 16, num_blocks: 1, num_heads: 2, context_width: 16, context_blocks: 1, context_epochs: 1,
              warmup_steps: 2}
data: {class_path: tests.tiny.TinyPoses}
trainer: {max_epochs: 3, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, with a small experiment."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


@pytest.fixture
def train(folder, capfd):
    """Runs the command in this process, which saves the imports; returns what it printed."""

    def run(*arguments, status=0):
        try:
            returned = main(list(arguments))
        except SystemExit as stop:
            returned = stop.code
        captured = capfd.readouterr()
        assert returned == status, captured.err
        return captured.out + captured.err

    return run


def start(folder, *arguments):
    """Starts the command in a process of its own."""
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return output


def cpu_seconds():
    """What ended child processes have computed: unlike the clock, it does not go on while others have the processor."""
    spent = os.times()
    return spent.children_user + spent.children_system


def checkpoint(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def assert_same_weights(left, right):
    for part in ("state_dict", "current_model_state"):
        assert left[part].keys() == right[part].keys()
        for key, value in left[part].items():
            assert torch.equal(value, right[part][key]), key


def test_one_run_is_one_folder_and_is_never_overwritten(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a")
    run = folder / "runs" / "a"
    assert {path.name for path in run.iterdir()} == {"config.yaml", "metrics.csv", "fit.json", "checkpoints", ".lock"}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["ckpt_path"] is None and config["trainer"]["default_root_dir"] == "runs/a"
    fit = json.loads((run / "fit.json").read_text())
    assert fit["steps"] == 12 and fit["epochs"] == 3 and fit["protocols"][0]["dataset"] == "tiny" and fit["seconds"] > 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    shutil.copy(run / "checkpoints" / "last.ckpt", folder / "elsewhere.ckpt")
    for more in ((), ("--ckpt_path", "elsewhere.ckpt")):
        message = train("fit", "-c", "tiny.yaml", "--name", "a", *more, status=2)
        assert "runs/a already holds a run" in message and "--ckpt_path last" in message
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_run_is_trained_by_one_process_at_a_time(folder, train):
    with lock(folder / "runs" / "a", ""):
        said = train("fit", "-c", "tiny.yaml", "--name", "a", status=2)
        assert f"runs/a is in use by process {os.getpid()}" in said and "--name NEW" in said
        train("fit", "-c", "tiny.yaml", "--name", "b")
    train("fit", "-c", "tiny.yaml", "--name", "a")


@pytest.mark.parametrize("name", ["", " ", ".", "..", "../b", "a/../../b", "/tmp/b"])
def test_a_name_that_leads_elsewhere_is_refused(folder, train, name):
    assert "is not the name of a folder below runs/" in train("fit", "-c", "tiny.yaml", f"--name={name}", status=2)
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


def test_the_configuration_of_a_run_makes_another(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a", "--trainer.max_epochs", "2")
    before = {path: path.read_bytes() for path in (folder / "runs" / "a").rglob("*") if path.is_file()}
    train("fit", "-c", "runs/a/config.yaml", "--name", "b")
    train("test", "-c", "runs/a/config.yaml", "--name", "c", "--ckpt_path", "runs/a/checkpoints/best.ckpt")
    assert before == {path: path.read_bytes() for path in (folder / "runs" / "a").rglob("*") if path.is_file()}
    assert (folder / "runs" / "b" / "checkpoints" / "last.ckpt").is_file()
    assert (folder / "runs" / "b" / "metrics.csv").is_file() and (folder / "runs" / "c" / "test.json").is_file()


def test_runs_from_before_the_callbacks_moved_are_tested_and_resumed(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a", "--trainer.max_epochs", "2")
    config = folder / "runs" / "a" / "config.yaml"
    text = config.read_text()
    for old in ("methods.run.RunCSVLogger", "methods.checkpoints.WarmupEMA"):
        assert MOVED[old] in text
        text = text.replace(MOVED[old], old)
    config.write_text(text)
    train("test", "-c", "runs/a/config.yaml", "--ckpt_path", "best")
    train("fit", "-c", "runs/a/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert checkpoint(folder / "runs" / "a")["epoch"] == 2 and "methods.run" not in config.read_text()


def test_runs_from_before_data_sets_were_put_together_find_them(folder, train):
    moved = {old: new for old, new in MOVED.items() if old.startswith("datamodules.")}
    parts = "".join(f"      - class_path: {old}\n" for old in moved)
    data = f"data:\n  class_path: datamodules.mixture.Mixture\n  init_args:\n    datasets:\n{parts}"
    (folder / "old.yaml").write_text(data)
    config = yaml.safe_load(train("fit", "-c", "tiny.yaml", "-c", "old.yaml", "--print_config"))
    assert [part["class_path"] for part in config["data"]["init_args"]["datasets"]] == list(moved.values())


def test_an_experiment_changes_options_of_another(folder, train):
    (folder / "sub").mkdir()
    (folder / "sub" / "b.yaml").write_text("config: ../tiny.yaml\nname: b\nmodel.init_args.width: 24\n")
    (folder / "c.yaml").write_text("config: sub/b.yaml\nname: c\ntrainer.max_epochs: 1\n")
    config = yaml.safe_load(train("fit", "-c", "c.yaml", "--model.num_blocks", "2", "--print_config"))
    tiny = yaml.safe_load(train("fit", "-c", "tiny.yaml", "--name", "c", "--print_config"))
    tiny["model"]["init_args"] |= {"width": 24, "num_blocks": 2}
    tiny["trainer"]["max_epochs"] = 1
    assert config == tiny
    (folder / "d.yaml").write_text("config: c.yaml\ntrainer: {max_epochs: 5}\n")
    assert "write `trainer.max_epochs: ...` instead of a block" in train("fit", "-c", "d.yaml", status=2)
    (folder / "d.yaml").write_text("name: d\nconfig: c.yaml\n")
    assert "d.yaml: `config: c.yaml` must be the first line" in train("fit", "-c", "d.yaml", status=2)


def test_runs_can_be_kept_elsewhere(folder, train):
    (folder / "elsewhere.yaml").write_text("trainer: {default_root_dir: 'disk/${name}', max_epochs: 2}\n")
    train("fit", "-c", "tiny.yaml", "-c", "elsewhere.yaml", "--name", "a")
    train("fit", "-c", "disk/a/config.yaml", "--name", "b")
    assert {path.name for path in (folder / "disk").iterdir()} == {"a", "b"} and not (folder / "runs").exists()


def test_a_resumed_run_needs_no_file_that_it_started_from(folder, train):
    model = "model: {class_path: methods.diffpose.ContextEncoder, init_args: {width: 16, num_blocks: 1, num_heads: 2}}"
    (folder / "encoder.yaml").write_text(model + TINY[TINY.index("\ndata:") :])
    train("fit", "-c", "encoder.yaml", "--name", "a", "--trainer.max_epochs", "1")
    start_from = ("--model.context_epochs", "0", "--model.context_checkpoint", "runs/a/checkpoints/best.ckpt")
    train("fit", "-c", "tiny.yaml", "--name", "b", "--trainer.max_epochs", "1", *start_from)
    shutil.rmtree(folder / "runs" / "a")
    train("fit", "-c", "tiny.yaml", "--name", "b", "--trainer.max_epochs", "2", "--ckpt_path", "last", *start_from)
    assert checkpoint(folder / "runs" / "b")["epoch"] == 1
    assert "best.ckpt does not exist" in train("fit", "-c", "tiny.yaml", "--name", "c", *start_from, status=2)


def test_every_epoch_is_kept_also_where_it_is_no_better(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a", "--model.learning_rate", "0.0")
    run = folder / "runs" / "a"
    assert checkpoint(run, "best")["epoch"] == 1 and checkpoint(run, "last")["epoch"] == 2


def test_other_options_of_a_resumed_run_take_effect_and_are_recorded(folder, train):
    options = ("-c", "tiny.yaml", "--name", "a", "--data.num_samples", "32")
    assert "other options" not in train("fit", *options, "--trainer.max_epochs", "2")
    run = folder / "runs" / "a"
    said = train("fit", *options, "--ckpt_path", "last", "--model.learning_rate", "0.5")
    assert "trainer.max_epochs 3 (was 2)" in said and "model.learning_rate 0.5 (was " in said
    assert checkpoint(run)["lr_schedulers"][0]["base_lrs"] == [0.5, 0.5]
    (change,) = json.loads((run / "fit.json").read_text())["changes"]
    assert change.startswith("from epoch 2 (step 4) on: ") and "model.learning_rate 0.5 (was " in change
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["learning_rate"] == 0.5 and config["trainer"]["max_epochs"] == 3
    more = ("--model.learning_rate", "0.5", "--trainer.max_epochs", "4", "--trainer.log_every_n_steps", "1")
    assert "options, kept in fit.json: trainer.max_epochs 4 (was 3)\n" in train(
        "fit", *options, "--ckpt_path", "last", *more
    )
    assert len(json.loads((run / "fit.json").read_text())["changes"]) == 2


def test_a_run_never_goes_on_with_other_data(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a", "--trainer.max_epochs", "2")
    before = {path: path.read_bytes() for path in (folder / "runs" / "a").rglob("*") if path.is_file()}
    options = ("-c", "tiny.yaml", "--data", "tests.tiny.TinyPeople", "--ckpt_path", "last")
    said = train("fit", *options, "--name", "a", status=2)
    assert "tests.tiny.TinyPeople instead of tests.tiny.TinyPoses" in said and "--name NEW" in said
    assert before == {path: path.read_bytes() for path in (folder / "runs" / "a").rglob("*") if path.is_file()}
    said = train("fit", *options[:-1], "runs/a/checkpoints/last.ckpt", "--name", "b")
    assert "data.class_path tests.tiny.TinyPeople (was tests.tiny.TinyPoses)" in said
    assert checkpoint(folder / "runs" / "b")["epoch"] == 2


@pytest.mark.parametrize("name, accumulated, step", [("SIGTERM", 1, 5), ("SIGINT", 2, 4), ("SIGTERM", 1, 7)])
def test_an_interrupted_run_is_saved_and_goes_on_bit_for_bit(folder, train, monkeypatch, name, accumulated, step):
    options = ("-c", "tiny.yaml", "--trainer.log_every_n_steps", "1")
    options += ("--trainer.accumulate_grad_batches", str(accumulated), "--model.variant", "paper")
    train("fit", *options, "--name", "whole")

    def interrupted(self, batch, batch_idx, step_of=DiffPose.training_step):
        if self.global_step == step and batch_idx % accumulated == 0:
            os.kill(os.getpid(), signal.Signals[name])
        return step_of(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(DiffPose, "training_step", interrupted)
        said = train("fit", *options, "--name", "cut", status=128 + signal.Signals[name])
    assert "Traceback" not in said and f"stopped by {name}; to continue from runs/cut/checkpoints/last.ckpt:" in said
    whole, cut = (folder / "runs" / each for each in ("whole", "cut"))
    assert checkpoint(cut)["global_step"] == step + 1
    command = shlex.split(said.splitlines()[-1])
    assert command[:3] == ["python", "scripts/train.py", "fit"]
    train(*command[2:])
    assert_same_weights(checkpoint(whole), checkpoint(cut))
    assert_same_weights(checkpoint(whole, "best"), checkpoint(cut, "best"))
    assert (whole / "metrics.csv").read_text() == (cut / "metrics.csv").read_text()


def test_an_interrupted_test_ends_at_once(folder, train, monkeypatch):
    train("fit", "-c", "tiny.yaml", "--trainer.max_epochs", "2")
    before = signal.getsignal(signal.SIGINT)  # ignored in a job in the background
    monkeypatch.setattr(DiffPose, "predict_step", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert train("test", "-c", "tiny.yaml", "--ckpt_path", "best", status=130).endswith("stopped by SIGINT\n")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(folder):
    long = ("-c", "tiny.yaml", "--data.num_samples", "4096", "--trainer.max_epochs", "4")
    whole = start(folder, "fit", *long, "--name", "whole")
    cut = start(folder, "fit", *long, "--name", "cut")
    curve, last = (folder / "runs" / "cut" / name for name in ("metrics.csv", "checkpoints/last.ckpt"))
    deadline = time.monotonic() + 600
    while (
        cut.poll() is None
        and time.monotonic() < deadline
        and not (last.is_file() and len(curve.read_text().splitlines()) > 20)
    ):
        time.sleep(0.02)
    cut.send_signal(signal.SIGKILL)
    cut.communicate()
    finish(whole)
    assert 0 < checkpoint(folder / "runs" / "cut")["global_step"] < 1024
    finish(start(folder, "fit", *long, "--name", "cut", "--ckpt_path", "last"))
    whole, resumed = (folder / "runs" / name for name in ("whole", "cut"))
    assert checkpoint(resumed)["global_step"] == checkpoint(whole)["global_step"] == 1024
    assert_same_weights(checkpoint(whole), checkpoint(resumed))
    assert (whole / "metrics.csv").read_text() == (resumed / "metrics.csv").read_text()


@pytest.mark.slow
def test_two_processes_test_like_one(folder, train):
    """Also trains in two processes, through both phases, for both variants."""
    for variant in ("release", "paper"):
        options = ("-c", "tiny.yaml", "--name", variant, "--model.variant", variant)
        two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
        finish(start(folder, "fit", *options, *two))
        test, results = ("test", *options, "--ckpt_path", "best"), folder / "runs" / variant / "test.json"
        train(*test)
        by_one = json.loads(results.read_text())["metrics"]
        finish(start(folder, *test, *two))
        by_two = json.loads(results.read_text())["metrics"]
        assert by_one.keys() == by_two.keys() and "test/tiny/mpjpe" in by_one
        for key, value in by_one.items():
            assert by_two[key] == pytest.approx(value, abs=1e-4), key
    predicted = []
    for more in ((), two):
        finish(start(folder, "predict", *options, *more, "--ckpt_path", "best", "--data.eval_batch_size", "6"))
        predicted.append(dict(np.load(folder / "runs" / "paper" / "predictions.npz")))
    assert [path.name for path in (folder / "runs" / "paper").glob("predictions*")] == ["predictions.npz"]
    assert (predicted[0]["sample_id"] == predicted[1]["sample_id"]).all()
    assert np.abs(predicted[0]["joints_3d"] - predicted[1]["joints_3d"]).max() < 1e-5


def test_a_checkpoint_never_overrides_the_command_line(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a")
    file = "runs/a/checkpoints/last.ckpt"
    train("fit", "-c", "tiny.yaml", "--name", "b", "--ckpt_path", file, "--model.learning_rate", "0.5")
    config = yaml.safe_load((folder / "runs" / "b" / "config.yaml").read_text())
    assert config["model"]["init_args"]["learning_rate"] == 0.5
    refused = train("test", "-c", "tiny.yaml", "--name", "a", "--ckpt_path", file, "--model.width", "24", status=2)
    assert "size mismatch" in refused and "runs/NAME/config.yaml" in refused


def test_resuming_fails_loudly_when_there_is_nothing_to_resume(folder, train):
    assert "last.ckpt does not exist" in train("fit", "-c", "tiny.yaml", "--ckpt_path", "last", status=2)
    assert "needs trained weights" in train("test", "-c", "tiny.yaml", status=2)
    assert "nowhere.ckpt does not exist" in train("test", "-c", "tiny.yaml", "--ckpt_path", "nowhere.ckpt", status=2)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--model.widht", "3"), "model: methods.diffpose.DiffPose: Option 'widht' is not accepted"),
        (
            ("--model.width", "x"),
            "DiffPose: width: Expected a <class 'int'>; Given value: x\nall options: python scripts/train.py fit",
        ),
        (("--trainer.max_epoch", "x"), "max_epoch"),
        (("-c", "nowhere.yaml"), "nowhere.yaml"),
        (("-c", "broken.yaml"), "in broken.yaml, line 1, column 12"),
        (("--trainer.strategy", "nowhere"), "error: trainer: You selected an invalid strategy"),
        (("--trainer.devices", "99999"), "error: trainer.devices is 99999, and this machine has"),
        (
            ("--trainer.strategy", "ddp_spawn", "--trainer.devices", "2"),
            "error: trainer.strategy: processes that are co",
        ),
        (("--trainer.check_val_every_n_epoch", "0"), "trainer.check_val_every_n_epoch must be at least 1"),
        (("--trainer.val_check_interval", "100"), "error: trainer:  `val_check_interval` (100)"),
        (("--seed_everything", "-1"), "error: --seed_everything: -1 is not in bounds"),
        (("--model.learning_rate", "-1"), "error: model.learning_rate is -1.0, expected at least 0"),
        (("-c", "binary.yaml"), "error: binary.yaml is not a configuration: it is no text in UTF-8"),
        (("-c", "bomb.yaml"), "error: bomb.yaml: with its aliases written out it has more than 100,000 entries"),
        (("--trainer.devices", "0"), "error: trainer: `Trainer(devices='0')` value is not a valid input"),
        (("--model.skeleton", "octopus"), "octopus"),
        (("--data.batch_size", "0"), "data.batch_size and data.eval_batch_size must be at least 1"),
        (("--data.num_joints", "16"), "17 joints in the order of h36m_17"),
        (("--model.context_epochs", "0"), "model.context_checkpoint"),
        (("--model.context_checkpoint", "nowhere.ckpt"), "nowhere.ckpt does not exist"),
        (("--model.context_epochs", "3"), "trainer.max_epochs (3) must exceed model.context_epochs (3)"),
    ],
)
def test_a_wrong_argument_is_named(folder, train, arguments, message):
    (folder / "broken.yaml").write_text("model: {a: ]")
    (folder / "binary.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    bomb = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    (folder / "bomb.yaml").write_text(f"a0: &a0 [b]\n{bomb}")
    output = train("fit", "-c", "tiny.yaml", *arguments, status=2)
    assert message in output and "Traceback" not in output and "usage:" not in output


def test_options_of_slurm_that_lightning_does_not_take_are_named(folder, train, monkeypatch):
    for name, value in {"NTASKS": "2", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NAME": "job"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    said = train("fit", "-c", "tiny.yaml", status=2)
    assert "`--ntasks=2`" in said and "--ntasks-per-node=2" in said and "Traceback" not in said


def test_a_run_folder_that_cannot_be_written_to_is_named(folder, train):
    (folder / "runs").write_text("a file instead of the folder")
    assert "error: runs/a cannot be used (Not a directory)" in train("fit", "-c", "tiny.yaml", "--name", "a", status=2)


def test_interpolation_crosses_files_and_the_command_line(folder, train):
    (folder / "more.yaml").write_text("model: {init_args: {width: '${data.init_args.batch_size}'}}\n")
    train("fit", "-c", "tiny.yaml", "-c", "more.yaml", "--data.batch_size", "24", "--name", "x")
    config = yaml.safe_load((folder / "runs" / "x" / "config.yaml").read_text())
    assert config["model"]["init_args"]["width"] == 24


def test_wandb_offline_keeps_the_best_value_and_the_protocol(folder):
    config = str(ROOT / "configs" / "loggers" / "wandb.yaml")
    # In a process of its own: W&B's service writes relative to the folder that it was started in.
    finish(start(folder, "fit", "-c", "tiny.yaml", "-c", config, "--name", "w", "--trainer.log_every_n_steps", "2"))
    run = folder / "runs" / "w"
    assert (run / "metrics.csv").is_file()
    folder = next((run / "wandb").glob("offline-run-*-w"))
    inspect = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--summary", "--json", str(folder)]
    found = json.loads(subprocess.run(inspect, capture_output=True, check=True, text=True).stdout)
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    column = rows[0].index("val/tiny/mpjpe")
    best = min(float(row[column]) for row in rows[1:] if row[column])
    assert found["summary"]["val/tiny/mpjpe"]["min"] == pytest.approx(best)
    assert {"train/loss", "val/tiny/pa_mpjpe", "val/tiny/pck", "val/tiny/auc"} <= set(found["summary"])
    assert found["config"]["method"] == "DiffPose (release)" and found["config"]["num_steps"] == 2
    (protocol,) = found["config"]["protocols"]
    assert protocol["dataset"] == "tiny" and protocol["keypoints_2d"] == "gt"
    assert found["config"]["model"]["init_args"]["width"] == 16
    assert found["run_id"] == "w"


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


def test_help_is_quick_and_teaches(folder):
    started = cpu_seconds()
    subprocess.run([sys.executable, "-c", "import lightning.pytorch.cli"], check=True, env=ENVIRONMENT)
    lightning = cpu_seconds() - started
    started = cpu_seconds()
    text = finish(start(folder, "--help"))
    assert cpu_seconds() - started < 1.3 * lightning + 1.0
    assert "--ckpt_path last" in text and "configs/loggers/wandb.yaml" in text


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


def test_the_screen_shows_what_is_about_the_run(tmp_path):
    records = [
        ("lightning.pytorch.utilities.rank_zero", "GPU available: False, used: False", False),
        ("lightning.pytorch.utilities.rank_zero", "\U0001f4a1 Tip: For seamless cloud logging", False),
        ("lightning.pytorch.utilities.rank_zero", "Restoring states from the checkpoint path at x", True),
    ]
    for name, message, shown in records:
        assert says_something(logging.LogRecord(name, logging.INFO, "", 0, message, (), None)) == shown
