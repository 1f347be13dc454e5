"""The state of runs, read from their folders alone: no process is asked, and no checkpoint is opened."""

import json
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noise2pose.errors import InputError
from noise2pose.metrics.keys import MetricKey, main_error
from noise2pose.reports.curves import LOSSES, read_curves
from noise2pose.reports.options import first_stage_epochs, read_configuration

State = Literal["running", "finished", "stopped", "killed", "new"]
_FILES = ("config.yaml", "metrics.csv", "fit.json", "test.json", ".lock")
_SILENT = 900.0  # seconds after which a run of another machine without a word is taken for dead
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True)
class Status:
    """What is known of a run.

    Attributes:
        folder: of the run.
        state: `running`; `finished`, its training came to its end; `stopped`, by Ctrl-C or a signal, after which it
            saved itself; `killed`, it ended in any other way; `new`, it was never trained here.
        method: its title, or its class.
        epoch: finished epochs; None if none was recorded.
        epochs: that it was asked for; None without a limit.
        best: lowest main error of its validations, with its key; None if there was none.
        tested: whether it has been tested.
        changed: when one of its files was written last, seconds since 1970.
    """

    folder: Path
    state: State
    method: str
    epoch: int | None
    epochs: int | None
    best: tuple[MetricKey, float] | None
    tested: bool
    changed: float


def status_of(folder: Path) -> Status | None:
    """The status of a run, also while it is written; None if the folder holds no run."""
    files = [folder / name for name in (*_FILES, "checkpoints/last.ckpt")]
    times = []
    for path in files:
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    if not times:
        return None
    fit, config = _json(folder / "fit.json"), _configuration(folder)
    trainer = config.get("trainer") or {}
    most = trainer.get("max_epochs")
    epochs = most if isinstance(most, int) and most > 0 else None
    epoch = fit.get("epochs")
    changed = max(times)
    if _is_running(folder, changed):
        state: State = "running"
    elif not fit and not (folder / "metrics.csv").is_file():
        state = "killed" if config else "new"
    elif fit.get("finished") or _reached(fit, trainer):
        state = "finished"
    else:
        state = "stopped" if fit.get("stopped") else "killed"
    title = fit.get("method") or _json(folder / "test.json").get("method")
    method = title or str((config.get("model") or {}).get("class_path", "unknown")).rpartition(".")[2]
    tested = (folder / "test.json").is_file()
    return Status(folder, state, method, epoch, epochs, _best(folder), tested, changed)


def statuses(places: Iterable[Path]) -> list[Status]:
    """The runs of some folders, each a run or a folder of runs at any depth, the one that changed last first.

    Raises:
        InputError: if a place does not exist.
    """
    found: dict[Path, Status] = {}
    for place in places:
        if not place.is_dir():
            raise InputError(f"{place}: no such folder; expected a run, or a folder of runs such as runs")
        for folder in _run_folders(place):
            if status := status_of(folder):
                found[folder] = status
    return sorted(found.values(), key=lambda status: -status.changed)


def table(rows: Iterable[Status], now: float | None = None) -> str:
    """One line a run; empty for no runs."""
    now = time.time() if now is None else now
    lines = [["run", "state", "epoch", "best", "tested", "age", "method"]]
    for row in rows:
        best = f"{row.best[1]:.1f} {row.best[0].unit}" if row.best else "-"
        epoch = "-" if row.epoch is None else str(row.epoch)
        of = "" if row.epochs is None else f"/{row.epochs}"
        cells = [_printable(str(row.folder)), row.state, f"{epoch}{of}", best, "yes" if row.tested else "no"]
        lines.append([*cells, age(now - row.changed), _printable(row.method)])
    if len(lines) == 1:
        return ""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    right = (2, 3, 5)
    return "\n".join(
        "  ".join(
            text.rjust(width) if i in right else text.ljust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def age(seconds: float) -> str:
    """A duration in its largest unit; 0 where a clock was set back."""
    seconds = max(seconds, 0.0)
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def _run_folders(place: Path) -> list[Path]:
    found = []
    for folder, inner, files in os.walk(place):
        if any(name in files for name in _FILES):
            found.append(Path(folder))
            inner.clear()  # what is in a run is the run's
        inner.sort()
    return found


def _is_running(folder: Path, changed: float) -> bool:
    """Whether a process holds the lock of a run.

    The lock is only tried where the process that wrote its name may be alive, so that a training which starts at this
    moment is never refused because of this question.
    """
    try:
        import fcntl

        with (folder / ".lock").open("r") as file:
            words = file.read().split()  # process NUMBER on HOST
            if len(words) != 4 or not words[1].isdigit():
                return False
            here = words[3] == socket.gethostname()
            if here and not _alive(int(words[1])):
                return False
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:  # a file system without locks
                return here or time.time() - changed < _SILENT
            # A lock of another machine may not be seen here.
            return not here and time.time() - changed < _SILENT
    except (OSError, UnicodeDecodeError, ImportError):
        return False


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _reached(fit: dict[str, Any], trainer: dict[str, Any]) -> bool:
    """Whether it has all the epochs or steps that it was asked for, also if a signal came in the last one."""
    for done, key in (("epochs", "max_epochs"), ("steps", "max_steps")):
        most, number = trainer.get(key), fit.get(done)
        if isinstance(most, int) and isinstance(number, int) and 0 < most <= number:
            return True
    return False


def _best(folder: Path) -> tuple[MetricKey, float] | None:
    try:
        curves = read_curves(folder / "metrics.csv", first_stage_epochs(folder / "config.yaml"))
    except InputError:  # half a line of a run that is being written
        return None
    for dataset, metrics in curves.items():
        for key in (main_error(3), main_error(2)):
            if dataset != LOSSES and key.name in metrics:
                values = metrics[key.name][1]
                finite = values[np.isfinite(values)]
                return (key, float(finite.min())) if len(finite) else None
    return None


def _configuration(folder: Path) -> dict[str, Any]:
    try:
        return read_configuration(folder / "config.yaml")
    except InputError:
        return {}


def _json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _printable(text: str) -> str:
    """The text without what would command the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
