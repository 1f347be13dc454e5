"""A training that is killed at random moments, while it computes or saves, ends with the weights of one that is not."""

import os
import random
import signal
import threading

import pytest
import yaml

from methods.base import PoseMethod
from tests import forks
from tests.methods.test_contract import CONTRACTS, data_for, make
from tests.scripts.train.runs import assert_same_weights, checkpoint, run_in

NAMES = [next(iter(contract.METHODS)) for contract in CONTRACTS] + ["diffpose_release"]  # one of each folder, and this
STEPS = 96


def write_experiment(folder, name):
    method = make(name)
    data = data_for(method)
    arguments = {key: value for key, value in method.hparams.items() if not key.startswith("_") and value is not None}
    frames = {"num_frames": method.num_frames} if method.body is None else {}
    experiment = {
        "model": {"class_path": f"{type(method).__module__}.{type(method).__name__}", "init_args": arguments},
        "data": {
            "class_path": f"tests.tiny.{type(data).__name__}",
            "init_args": {"num_samples": STEPS, "batch_size": 4, "eval_batch_size": 32, **frames},
        },
        "trainer": {"max_epochs": 4, "accelerator": "cpu", "log_every_n_steps": 1},
    }
    experiment["trainer"] |= {"enable_progress_bar": False, "enable_model_summary": False}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))


def live(folder, arguments, step, delay):
    """Trains until the process is killed, some time after it began a step."""

    def begin(method, batch, batch_idx, begin_of=PoseMethod.on_train_batch_start):
        begin_of(method, batch, batch_idx)
        if method.global_step == step:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    PoseMethod.on_train_batch_start = begin
    run_in(folder, arguments)


def trained_in_spite_of(folder, kills, seed):
    """Kills the training again and again, and starts it by the same command; returns how often it was killed."""
    draws = random.Random(seed)
    options = ("fit", "-c", "experiment.yaml", "--name", "cut", "--ckpt_path", "auto", "--saving.minutes", "1e-9")
    last = folder / "runs" / "cut" / "checkpoints" / "last.ckpt"
    for life in range(10 * kills):
        at = checkpoint(folder / "runs" / "cut")["global_step"] if last.is_file() else 0
        step = at + draws.randint(0, 3) if life < kills else STEPS
        process = forks.start(live, folder, options, step, draws.uniform(0.0, 0.05))
        process.join()
        if process.exitcode == 0:
            return life
        assert process.exitcode == -signal.SIGKILL
    raise AssertionError("the training never ends")


@pytest.mark.parametrize(
    "name, kills",
    [pytest.param("diffpose_release", 2, marks=pytest.mark.long)]
    + [pytest.param(name, 20, marks=pytest.mark.long) for name in NAMES],
)
def test_a_killed_training_ends_with_the_weights_of_one_that_is_not(tmp_path, name, kills):
    write_experiment(tmp_path, name)
    forks.call(run_in, tmp_path, ("fit", "-c", "experiment.yaml", "--name", "whole"))
    assert trained_in_spite_of(tmp_path, kills, seed=1) == kills
    whole, cut = (tmp_path / "runs" / each for each in ("whole", "cut"))
    assert checkpoint(whole)["global_step"] == STEPS
    for which in ("last", "best"):
        assert_same_weights(checkpoint(whole, which), checkpoint(cut, which))
    curves = [set((run / "metrics.csv").read_text().splitlines()) for run in (whole, cut)]
    assert curves[1] <= curves[0]
