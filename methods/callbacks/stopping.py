"""How a signal ends a command."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L

# SLURM sends SIGTERM before it takes a machine away, and the signal that `--signal` names before the time is up.
STOPPING = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]


def last_checkpoint(trainer: L.Trainer) -> Path:
    """Where a run keeps the checkpoint that it is resumed from."""
    return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"


class Interrupted(BaseException):
    """A signal ended the command.

    Attributes:
        signum: the signal.
        checkpoint: from which a training continues; None if there is none.
    """

    def __init__(self, signum: int, checkpoint: Path | None = None) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.checkpoint = checkpoint if checkpoint is not None and checkpoint.is_file() else None


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Calls a function at the signals that stop a command, where Python allows it: in the main thread."""
    try:
        before = {number: signal.signal(number, handler) for number in STOPPING}
    except ValueError:  # another thread
        before = {}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def interrupt(signum: int, frame: Any) -> None:
    """A handler that ends the command at once."""
    raise Interrupted(signum)
