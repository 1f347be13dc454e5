"""The scripts for SLURM, with stand-ins for its commands and the signals that it sends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.places import ROOT
from tests.scripts.train.runs import TINY, checkpoint

SCRIPTS = ROOT / "scripts" / "slurm"


@pytest.fixture
def cluster(tmp_path):
    """A folder of the project as jobs see it, with commands that note what they were given."""
    commands = tmp_path / "bin"
    commands.mkdir()
    stand_ins = {
        "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
        "scontrol": 'echo "$@" >> requeued',
        "noise2pose": 'echo "$@" >> trained; exit $(cat status)',
    }
    for name, script in stand_ins.items():
        (commands / name).write_text(f"#!/bin/bash\n{script}\n")
        (commands / name).chmod(0o755)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "status").write_text("0")
    return tmp_path


def submit(cluster, script, *arguments, **variables):
    """Runs a script as SLURM would, in the folder that it was submitted from."""
    path = f"{cluster / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLURM_JOB_ID": "17", "SLURM_NNODES": "1", **variables}
    command = ["bash", str(SCRIPTS / script), *arguments]
    return subprocess.Popen(command, cwd=cluster, env=environment, start_new_session=True)


@pytest.mark.parametrize(
    "status, variables, requeued",
    [
        ("138", {}, "requeue 17\n"),
        ("138", {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}, "requeue 12_3\n"),
        ("0", {}, None),
        ("143", {}, None),  # SLURM itself brings the job back, or it was cancelled
        ("2", {}, None),
    ],
)
def test_a_job_whose_time_was_up_comes_back(cluster, status, variables, requeued):
    (cluster / "status").write_text(status)
    job = submit(cluster, "train.sh", "-c", "a b.yaml", "--name", "x", **variables)
    assert job.wait(60) == int(status)
    told = (cluster / "trained").read_text()
    assert told == "train fit -c a b.yaml --name x -c configs/trainers/slurm.yaml --ckpt_path auto\n"
    found = cluster / "requeued"
    assert (found.read_text() if found.exists() else None) == requeued


def test_an_array_covers_every_seed_of_every_experiment_once(cluster):
    experiments = ("configs/experiments/one.yaml", "configs/experiments/two.yaml")
    for task in range(4):
        job = submit(
            cluster, "array.sh", "0 5", *experiments, "--", "--trainer.max_epochs", "3", SLURM_ARRAY_TASK_ID=f"{task}"
        )
        assert job.wait(60) == 0
    runs = [
        f"-c configs/experiments/{name}.yaml --trainer.max_epochs 3 --name {name}_seed{seed} --seed_everything {seed}"
        for name in ("one", "two")
        for seed in (0, 5)
    ]
    lines = (cluster / "trained").read_text().splitlines()
    assert lines == [f"train fit {run} -c configs/trainers/slurm.yaml --ckpt_path auto" for run in runs]
    assert submit(cluster, "array.sh", "0 5", *experiments, SLURM_ARRAY_TASK_ID="4").wait(60) == 2


@pytest.mark.long
def test_a_run_goes_on_after_the_signal_before_the_time_is_up(cluster):
    command = f'exec {sys.executable} {ROOT / "scripts" / "train.py"} "${{@:2}}"'
    (cluster / "bin" / "noise2pose").write_text(f"#!/bin/bash\n{command}\n")
    (cluster / "tiny.yaml").write_text(TINY)
    one = {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    one |= {"SLURM_NODEID": "0", "SLURM_JOB_NAME": "noise2pose", "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    options = ("-c", "tiny.yaml", "--name", "a", "--data.num_samples", "1024", "--trainer.max_epochs", "4")
    options += ("-c", str(ROOT / "configs" / "loggers" / "wandb.yaml"))
    job = submit(cluster, "train.sh", *options, **one)
    run = cluster / "runs" / "a"
    while job.poll() is None and not (run / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.1)
    os.kill(int(subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True).stdout), signal.SIGUSR1)
    status = job.wait()
    assert status == 138 and (cluster / "requeued").read_text() == "requeue 17\n"
    before = checkpoint(run)["global_step"]
    assert 64 <= before < 256
    assert submit(cluster, "train.sh", *options, **one).wait() == 0
    assert checkpoint(run)["global_step"] == 256
    assert len(list((run / "wandb").glob("offline-run-*-a"))) == 2  # two parts of one run of W&B
