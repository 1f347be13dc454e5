"""Runs that were interrupted, killed or finished go on."""

import json
import os
import shlex
import shutil
import signal

import pytest
import torch
import yaml

from methods.diffpose import DiffPose
from tests import forks
from tests.scripts.train.runs import TINY, assert_same_weights, checkpoint, run_apart, run_in


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
    fit = json.loads((cut / "fit.json").read_text())
    assert (fit["steps"], fit["epochs"]) == (step + 1, (step + 1) * accumulated // 4) and fit["seconds"] > 0
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


def run_until_killed(folder, arguments, step):
    """Runs the command in this process, and kills it as the system would before a training step."""

    def killed(self, batch, batch_idx, step_of=DiffPose.training_step):
        if self.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return step_of(self, batch, batch_idx)

    DiffPose.training_step = killed
    run_in(folder, arguments)


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(folder, train):
    options = ("fit", "-c", "tiny.yaml", "--data.num_samples", "512", "--trainer.log_every_n_steps", "1")
    train(*options, "--name", "whole")
    process = forks.start(run_until_killed, folder, (*options, "--name", "cut"), 78)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    whole, cut = (folder / "runs" / name for name in ("whole", "cut"))
    assert checkpoint(cut)["global_step"] == 64
    assert "\n2,77," in (cut / "metrics.csv").read_text()  # rows that are not in the checkpoint
    run_apart(folder, *options, "--name", "cut", "--ckpt_path", "last")
    assert checkpoint(cut)["global_step"] == checkpoint(whole)["global_step"] == 96
    assert_same_weights(checkpoint(whole), checkpoint(cut))
    assert (whole / "metrics.csv").read_text() == (cut / "metrics.csv").read_text()


def test_every_epoch_is_kept_also_where_it_is_no_better(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a", "--model.learning_rate", "0.0")
    run = folder / "runs" / "a"
    assert checkpoint(run, "best")["epoch"] == 1 and checkpoint(run, "last")["epoch"] == 2


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


def test_other_options_of_a_resumed_run_take_effect_and_are_recorded(folder, train):
    options = ("-c", "tiny.yaml", "--name", "a", "--data.num_samples", "32")
    assert "other options" not in train("fit", *options, "--trainer.max_epochs", "2")
    run = folder / "runs" / "a"
    said = train("fit", *options, "--ckpt_path", "last", "--model.learning_rate", "0.5", "--trainer.max_epochs", "3")
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


def test_a_checkpoint_never_overrides_the_command_line(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a")
    file = "runs/a/checkpoints/last.ckpt"
    train(
        "fit",
        "-c",
        "tiny.yaml",
        "--name",
        "b",
        "--ckpt_path",
        file,
        "--model.learning_rate",
        "0.5",
        "--trainer.max_epochs",
        "4",
    )
    config = yaml.safe_load((folder / "runs" / "b" / "config.yaml").read_text())
    assert config["model"]["init_args"]["learning_rate"] == 0.5
    refused = train("test", "-c", "tiny.yaml", "--name", "a", "--ckpt_path", file, "--model.width", "24", status=2)
    assert "size mismatch" in refused and "runs/NAME/config.yaml" in refused


def test_resuming_fails_loudly_when_there_is_nothing_to_resume(folder, train):
    assert "last.ckpt does not exist" in train("fit", "-c", "tiny.yaml", "--ckpt_path", "last", status=2)
    assert "needs trained weights" in train("test", "-c", "tiny.yaml", status=2)
    assert "nowhere.ckpt does not exist" in train("test", "-c", "tiny.yaml", "--ckpt_path", "nowhere.ckpt", status=2)
    assert not (folder / "runs").exists()


def test_auto_starts_a_run_and_then_goes_on(folder, train):
    options = ("fit", "-c", "tiny.yaml", "--name", "a", "--ckpt_path", "auto")
    said = train(*options, "--trainer.max_epochs", "2")
    assert "a step takes 16 samples; learning rate 0.001; 8 steps in all, 0 done" in said
    train("fit", "-c", "tiny.yaml", "--name", "whole")
    said = train(*options)
    run = folder / "runs" / "a"
    assert "12 steps in all, 8 done" in said and checkpoint(run)["global_step"] == 12
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    train(*options)  # a job that is started again after its end
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_auto_continues_no_run_with_other_options(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a", "--trainer.max_epochs", "2")
    options = ("fit", "-c", "tiny.yaml", "--name", "a", "--ckpt_path", "auto")
    for other in ("--model.learning_rate", "0.5"), ("--data.num_samples", "32"):
        said = train(*options, *other, status=2)
        assert f"runs/a was trained with other options: {other[0][2:]} {other[1]} (was " in said
    assert checkpoint(folder / "runs" / "a")["global_step"] == 8
    assert "needs trained weights" in train("test", "-c", "tiny.yaml", "--ckpt_path", "auto", status=2)


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "other", "missing"])
def test_auto_falls_back_to_the_checkpoint_before_a_damaged_one(folder, train, damage):
    options = ("fit", "-c", "tiny.yaml", "--name", "a")
    train(*options, "--trainer.max_epochs", "2")
    checkpoints = folder / "runs" / "a" / "checkpoints"
    (checkpoints / "best.ckpt").unlink()
    last, content = checkpoints / "last.ckpt", (checkpoints / "last.ckpt").read_bytes()
    middle = len(content) // 2
    changed = content[:middle] + bytes(byte ^ 255 for byte in content[middle : middle + 64]) + content[middle + 64 :]
    last.write_bytes({"empty": b"", "cut": content[:middle], "changed": changed}.get(damage, b""))
    if damage == "other":
        torch.save({"weights": torch.ones(3)}, last)
    if damage == "missing":
        last.unlink()
    said = train(*options, "--ckpt_path", "auto")
    assert "12 steps in all, 4 done" in said and checkpoint(folder / "runs" / "a")["epoch"] == 2
    if damage != "missing":
        assert "last.ckpt" in said and f"resuming from {checkpoints.relative_to(folder)}/previous.ckpt" in said
    for path in checkpoints.iterdir():
        path.write_bytes(b"")
    assert "no checkpoint of runs/a can be read: " in train(*options, "--ckpt_path", "auto", status=2)


def test_auto_takes_the_checkpoint_of_slurm_if_it_was_trained_longest(folder, train):
    options = ("fit", "-c", "tiny.yaml", "--name", "a")
    train(*options, "--trainer.max_epochs", "2")
    run = folder / "runs" / "a"
    shutil.copy(run / "checkpoints" / "previous.ckpt", run / "hpc_ckpt_2.ckpt")
    shutil.move(run / "checkpoints" / "last.ckpt", run / "hpc_ckpt_1.ckpt")
    shutil.rmtree(run / "checkpoints")
    assert "already holds a run" in train(*options, status=2)
    assert "12 steps in all, 8 done" in train(*options, "--ckpt_path", "auto")
