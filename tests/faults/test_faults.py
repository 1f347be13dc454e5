"""What goes wrong around a training: its disk, its folder, its clock, its data, W&B."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from methods.callbacks.finite import FiniteTraining
from methods.diffpose import DiffPose
from scripts.train import main
from tests import forks
from tests.places import ROOT
from tests.scripts.train.runs import assert_same_weights, checkpoint

FIT = ("fit", "-c", "tiny.yaml", "--name", "a")


def fill(monkeypatch, step):
    """From a step on the disk takes only the first bytes of a checkpoint, which PyTorch reports without a number."""

    def save(content, path, save_to=torch.save):
        if content.get("global_step", 0) < step:
            return save_to(content, path)
        path.write_bytes(b"PK")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", save)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 1 << 40, 0))


def test_a_disk_that_is_full_while_a_checkpoint_is_written_leaves_the_one_before(folder, train, monkeypatch):
    train(*FIT[:-1], "whole")
    with monkeypatch.context() as patch:
        fill(patch, step=6)
        said = train(*FIT, "--saving.minutes", "1e-9", status=2)
    run = folder / "runs" / "a"
    assert "last.ckpt cannot be written" in said and "is full" in said and "Traceback" not in said
    assert not list(run.rglob("*.partial")) and checkpoint(run)["global_step"] == 5
    train(*FIT, "--ckpt_path", "auto")
    assert_same_weights(checkpoint(run), checkpoint(folder / "runs" / "whole"))


def broken(monkeypatch, steps):
    """Makes the loss of some steps infinite."""

    def step_of(method, batch, batch_idx, compute=DiffPose.training_step):
        loss = compute(method, batch, batch_idx)
        return loss * torch.inf if method.global_step in steps else loss

    monkeypatch.setattr(DiffPose, "training_step", step_of)


def test_a_loss_that_is_not_finite_stops_the_training_and_keeps_the_batch(folder, train, monkeypatch):
    broken(monkeypatch, {6})
    said = train(*FIT, status=2)
    run = folder / "runs" / "a"
    assert "the loss of epoch 1, batch 2 is inf" in said and "the batch is kept in runs/a/not_finite.pt" in said
    kept = torch.load(run / "not_finite.pt", weights_only=True)
    assert kept["batch_idx"] == 2 and all(name in said for name in kept["batch"]["sample_id"][:3])
    assert kept["batch"]["keypoints_2d"].shape == (16, 17, 3) and checkpoint(run)["global_step"] == 4


def test_steps_whose_loss_is_not_finite_are_skipped_if_that_is_wanted(folder, train, monkeypatch):
    seen = []

    def note(self, trainer, method, *_):
        seen.append((trainer.global_step, [p.detach().clone() for p in method.parameters() if p.requires_grad]))

    monkeypatch.setattr(FiniteTraining, "on_train_batch_end", note, raising=False)
    broken(monkeypatch, {5, 6})
    said = train(*FIT, "--finite.skip", "2")
    assert "skipped a step (1 in a row)" in said and "skipped a step (2 in a row)" in said
    weights = dict(seen)
    assert checkpoint(folder / "runs" / "a")["global_step"] == 12
    same = [all(map(torch.equal, weights[step], weights[step + 1])) for step in range(1, 12)]
    assert same == [step + 1 in (6, 7) for step in range(1, 12)]
    broken(monkeypatch, {5, 6, 7})
    said = train(*FIT[:-1], "b", "--finite.skip", "2", status=2)
    assert "after 2 steps in a row that were skipped" in said


def test_names_that_are_not_ascii(folder, train):
    place = folder / "Ünïcödé 実験"
    place.mkdir()
    (place / "tiny.yaml").write_text((folder / "tiny.yaml").read_text())
    os.chdir(place)
    train("fit", "-c", "tiny.yaml", "--name", "läuft 走る", "--trainer.max_epochs", "2")
    train("fit", "-c", "tiny.yaml", "--name", "läuft 走る", "--ckpt_path", "auto")
    train("test", "-c", "runs/läuft 走る/config.yaml", "--ckpt_path", "best")
    assert (place / "runs" / "läuft 走る" / "test.json").is_file()


def test_a_clock_that_is_set_back_changes_nothing(folder, train):
    train(*FIT, "--trainer.max_epochs", "2")
    run = folder / "runs" / "a"
    for path in (run / "checkpoints").iterdir():  # the newest now looks the oldest
        age = 1e6 if path.name == "last.ckpt" else 0.0
        os.utime(path, (time.time() - age, time.time() - age))
    assert "12 steps in all, 8 done" in train(*FIT, "--ckpt_path", "auto")


def test_a_run_folder_that_cannot_be_written_is_refused_before_the_training(folder, train, monkeypatch):
    train(*FIT, "--trainer.max_epochs", "2")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    open_of = type(folder).open

    def refuse(path, *args, **options):
        if path.is_relative_to(folder / "runs" / "a") or str(path).startswith("runs/a"):
            mode = args[0] if args else options.get("mode", "r")
            if set(mode) & set("wa+"):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return open_of(path, *args, **options)

    monkeypatch.setattr(type(folder), "open", refuse)  # the tests may run as root, whom no permission stops
    said = train(*FIT, "--ckpt_path", "auto", status=2)
    assert "cannot be written (Read-only file system)" in said and "Traceback" not in said
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def race(folder, number):
    """Trains the run `a`, and notes the exit status."""
    os.chdir(folder)
    status = main([*FIT, "--ckpt_path", "auto", "--trainer.max_epochs", "20"])
    (folder / f"status_{number}").write_text(str(status))


def test_of_two_runs_of_one_name_one_is_refused(folder):
    processes = [forks.start(race, folder, number) for number in range(2)]
    for process in processes:
        process.join()
    assert sorted((folder / f"status_{number}").read_text() for number in range(2)) == ["0", "2"]
    assert checkpoint(folder / "runs" / "a")["global_step"] == 80


def unreachable(folder, when):
    """Trains with a W&B whose server is not there, or whose service is killed in step 6."""
    os.chdir(folder)
    if when == "start":
        os.environ |= {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
        os.environ.pop("WANDB_MODE", None)
    else:

        def killed(method, batch, batch_idx, step_of=DiffPose.training_step):
            if method.global_step == 6:
                found = subprocess.run(["pgrep", "-f", "wandb-core", "-P", str(os.getpid())], capture_output=True)
                os.kill(int(found.stdout), signal.SIGKILL)
            return step_of(method, batch, batch_idx)

        DiffPose.training_step = killed
    config = str(ROOT / "configs" / "loggers" / "wandb.yaml")
    status = main([*FIT, "-c", config, "--trainer.log_every_n_steps", "1", "--ckpt_path", "auto"])
    (folder / "status").write_text(str(status))


@pytest.mark.long
def test_a_training_goes_on_without_the_server_of_wandb(folder):
    process = forks.start(unreachable, folder, "start")
    process.join()
    assert process.exitcode == 0 and (folder / "status").read_text() == "0"
    assert checkpoint(folder / "runs" / "a")["global_step"] == 12


@pytest.mark.skipif(sys.platform != "linux", reason="needs pgrep")
@pytest.mark.long
def test_a_run_goes_on_by_the_same_command_after_the_service_of_wandb_died(folder, train):
    forks.start(unreachable, folder, "middle").join()
    assert 4 <= checkpoint(folder / "runs" / "a")["global_step"] < 12
    train(*FIT, "--ckpt_path", "auto")
    assert checkpoint(folder / "runs" / "a")["global_step"] == 12
