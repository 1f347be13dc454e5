"""Processes of their own for tests: ones that are killed, meet each other, or settle something for the whole process.

They are forks of a server that has imported what takes long, which a new interpreter would import again. A fork of the
test process itself would inherit the locks of threads that do not exist in it, and may wait forever.
"""

import multiprocessing
import os
import socket
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from torch.multiprocessing.spawn import start_processes
from tqdm import tqdm

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "datamodules.sources.cmu_mocap",
        "methods.diffpose",
        "methods.inference.annotation",
        "methods.inference.lifting",
        "pytest",
        "scripts.fit_gmm",
        "scripts.prepare",
        "scripts.train",
    ]
)


def start(function: Any, *arguments: Any) -> Any:
    """Starts the function, which is named at the top of its module, in a process; returns the process."""
    process = CONTEXT.Process(target=_run, args=(function, arguments))
    process.start()
    return process


def call(function: Any, *arguments: Any) -> Any:
    """What the function returns in a process of its own; also raises what it raises."""
    with ProcessPoolExecutor(1, mp_context=CONTEXT) as pool:
        return pool.submit(_run, function, arguments).result()


def call_in_two(function: Any, *arguments: Any) -> None:
    """Calls `function(rank, *arguments)` in two processes; ends both, and raises, if one of them fails.

    A Trainer of two devices with the strategy `ddp` takes them for processes that its launcher has started.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(_run_rank, args=(port, function, arguments), nprocs=2, start_method="forkserver")


def _run(function: Any, arguments: tuple[Any, ...]) -> Any:
    multiprocessing.set_start_method(None, force=True)  # of processes that this one starts: the system's, as ever
    tqdm.set_lock(threading.RLock())  # tqdm's own lock is shared between processes, and a killed one keeps it
    torch.set_num_threads(1)  # as in the tests' own process
    torch.manual_seed(0)
    return function(*arguments)


def _run_rank(rank: int, port: int, function: Any, arguments: tuple[Any, ...]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    _run(function, (rank, *arguments))
