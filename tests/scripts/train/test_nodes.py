"""Two machines, simulated by two torchrun agents on the loopback address, train and measure as one process does."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.places import ROOT
from tests.scripts.train.runs import ENCODER, checkpoint


@pytest.mark.slow
def test_two_agents_of_two_processes_train_as_one_process(folder, train):
    (folder / "encoder.yaml").write_text(ENCODER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    nodes = ["--trainer.strategy", "ddp", "--trainer.num_nodes", "2", "--trainer.devices", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    agents = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "2"]
            + ["--node_rank", str(rank), "--master_addr", "127.0.0.1", "--master_port", port]
            + [str(ROOT / "scripts" / "train.py"), "fit", "-c", "encoder.yaml", "--name", "nodes", *nodes],
            cwd=folder,
            env=environment,
        )
        for rank in range(2)
    ]
    assert [agent.wait() for agent in agents] == [0, 0]
    train("fit", "-c", "encoder.yaml", "--name", "one", "--data.batch_size", "16")
    errors = []
    for name in ("nodes", "one"):
        train("test", "-c", f"runs/{name}/config.yaml", "--ckpt_path", "last")
        errors.append(json.loads((folder / "runs" / name / "test.json").read_text())["metrics"])
    assert errors[0].keys() == errors[1].keys()
    assert all(errors[0][key] == pytest.approx(value, rel=1e-4) for key, value in errors[1].items())
    assert checkpoint(folder / "runs" / "nodes")["samples_of_batch"] == 16
