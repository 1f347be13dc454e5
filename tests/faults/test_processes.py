"""Several processes of one training, of which one is stopped or killed: all end soon, and the run goes on."""

import os
import signal
import time
from pathlib import Path

import pytest

from methods.diffpose import DiffPose
from scripts.train import main
from tests import forks
from tests.scripts.train.runs import TINY, checkpoint, run_in_two

SOON = 60.0  # seconds


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def stopped(rank: int, folder: Path, where: str, signum: int) -> None:
    """Trains in this process, whose first one gets a signal in its sanity check or in training step 5."""

    step_of = getattr(DiffPose, where)

    def patched(method, batch, batch_idx, *more):
        if rank == 0 and method.trainer.global_step == {"validation_step": 0, "training_step": 5}[where]:
            (folder / "signalled").write_text(str(time.time()))
            os.kill(os.getpid(), signum)
        return step_of(method, batch, batch_idx, *more)

    setattr(DiffPose, where, patched)
    os.chdir(folder)
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    status: object
    try:
        status = main(["fit", "-c", "tiny.yaml", "--data.num_samples", "256", *two])
    except RuntimeError as error:  # the other process has gone
        status = type(error).__name__
    (folder / f"status_{rank}").write_text(str(status))


def seconds_since_signal(folder: Path) -> float:
    return time.time() - float((folder / "signalled").read_text())


@pytest.mark.long
@pytest.mark.parametrize("where", ["validation_step", "training_step"])
def test_a_signal_to_the_first_process_ends_all(folder, where):
    forks.call_in_two(stopped, folder, where, signal.SIGTERM)
    assert seconds_since_signal(folder) < SOON
    assert (folder / "status_0").read_text() == "143"
    last = folder / "runs" / "run" / "checkpoints" / "last.ckpt"
    assert last.is_file() == (where == "training_step")
    if last.is_file():
        assert (folder / "status_1").read_text() == "0"
        assert 6 <= checkpoint(folder / "runs" / "run")["global_step"] < 24
        run_in_two(folder, "fit", "-c", "tiny.yaml", "--data.num_samples", "256", "--ckpt_path", "auto")
        assert checkpoint(folder / "runs" / "run")["global_step"] == 24


@pytest.mark.long
def test_a_killed_process_ends_the_others_and_the_run_goes_on(folder):
    with pytest.raises(Exception, match="signal SIGKILL"):
        forks.call_in_two(stopped, folder, "training_step", signal.SIGKILL)
    assert seconds_since_signal(folder) < SOON
    run_in_two(folder, "fit", "-c", "tiny.yaml", "--data.num_samples", "256", "--ckpt_path", "auto")
    assert checkpoint(folder / "runs" / "run")["global_step"] == 24
