"""Two machines, simulated by two torchrun agents on the loopback address, train and measure as one process does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.places import ROOT
from tests.scripts.train.runs import ENCODER, checkpoint


def agents(folder, processes, *options):
    """Starts the training on two machines with so many processes each; returns their agents."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    run = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", str(processes)]
    run += ["--master_addr", "127.0.0.1", "--master_port", port]
    train = [str(ROOT / "scripts" / "train.py"), "fit", "-c", "encoder.yaml", "--name", "nodes", *options]
    train += ["--trainer.strategy", "ddp", "--trainer.num_nodes", "2", "--trainer.devices", str(processes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, *run, "--node_rank", str(rank), *train],
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        for rank in range(2)
    ]


@pytest.mark.long
def test_two_agents_of_two_processes_train_as_one_process(folder, train):
    (folder / "encoder.yaml").write_text(ENCODER)
    assert [agent.wait() for agent in agents(folder, 2)] == [0, 0]
    train("fit", "-c", "encoder.yaml", "--name", "one", "--data.batch_size", "16")
    alone = ("--trainer.num_nodes", "1", "--trainer.devices", "1", "--trainer.strategy", "auto")
    errors = []
    for name in ("nodes", "one"):
        train("test", "-c", f"runs/{name}/config.yaml", "--ckpt_path", "last", *alone)
        errors.append(json.loads((folder / "runs" / name / "test.json").read_text())["metrics"])
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)
    assert checkpoint(folder / "runs" / "nodes")["samples_of_batch"] == 16


@pytest.mark.long
def test_a_killed_machine_ends_the_run_which_goes_on(folder, train):
    (folder / "encoder.yaml").write_text(ENCODER)
    first, second = agents(folder, 1, "--trainer.max_epochs", "10000", "--data.batch_size", "8")
    last = folder / "runs" / "nodes" / "checkpoints" / "last.ckpt"
    while not last.is_file() and first.poll() is None:
        time.sleep(0.1)
    workers = subprocess.run(["pgrep", "-P", str(second.pid)], capture_output=True, text=True).stdout.split()
    killed = time.monotonic()
    for process in (second.pid, *map(int, workers)):
        os.kill(process, signal.SIGKILL)
    assert first.wait(120) != 0 and time.monotonic() - killed < 60.0
    second.wait()
    epochs = checkpoint(folder / "runs" / "nodes")["epoch"] + 3
    options = ("--data.batch_size", "16", "--trainer.max_epochs", str(epochs), "--ckpt_path", "auto")
    train("fit", "-c", "encoder.yaml", "--name", "nodes", *options)
    assert checkpoint(folder / "runs" / "nodes")["epoch"] == epochs - 1
