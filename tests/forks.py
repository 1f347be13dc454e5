"""Forks that tests kill: processes of their own that need no imports."""

import multiprocessing
import threading
from typing import Any

from tqdm import tqdm


def start(function: Any, *arguments: Any) -> Any:
    """Starts the function in a fork; returns its process."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(function, arguments))
    process.start()
    return process


def _run(function: Any, arguments: tuple[Any, ...]) -> None:
    tqdm.set_lock(threading.RLock())  # tqdm's own lock is shared between processes, and a killed one keeps it
    function(*arguments)
