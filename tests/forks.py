"""Processes that tests kill. They are forks of a server that has imported what takes long.

A fork of the test process itself would inherit the locks of threads that do not exist in it, and may wait forever.
"""

import multiprocessing
import threading
from typing import Any

from tqdm import tqdm

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["methods.inference.annotation", "methods.inference.lifting", "scripts.fit_gmm"])


def start(function: Any, *arguments: Any) -> Any:
    """Starts the function, which is named at the top of its module, in a process; returns the process."""
    process = _CONTEXT.Process(target=_run, args=(function, arguments))
    process.start()
    return process


def _run(function: Any, arguments: tuple[Any, ...]) -> None:
    tqdm.set_lock(threading.RLock())  # tqdm's own lock is shared between processes, and a killed one keeps it
    function(*arguments)
