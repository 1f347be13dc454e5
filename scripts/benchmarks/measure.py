"""Speed of ours over speed of theirs, measured in turns, so that the noise of a shared machine affects both."""

import importlib.metadata
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Side(NamedTuple):
    """One of the two things compared: what does the work once, and how many units of work that is."""

    run: Callable[[], object]
    units: int


class Prepared(NamedTuple):
    """The two sides of a comparison, whose answers have been compared."""

    ours: Side
    theirs: Side
    checks: dict[str, float]  # numbers to report, by name
    complaint: str = ""  # what is wrong with them, empty if nothing; the ratio counts only then


@dataclass(frozen=True)
class Comparison:
    """One row of a benchmark."""

    name: str  # where ours runs on a GPU, the command adds that
    setting: str  # sizes, in words
    against: str  # what theirs is
    at_least: float | None  # the ratio that ours must reach; None for a row that only informs
    unit: str  # of the work whose seconds are reported
    prepare: Callable[[], Prepared]  # does everything that is not timed
    repeats: int = 5  # timed runs of each side; more where the two are nearly equal


def measure(comparison: Comparison, repeats: int | None = None) -> dict[str, Any]:
    """Times both sides alternately, after one untimed run of each.

    Args:
        comparison: what to measure.
        repeats: timed runs of each side, instead of the comparison's own number.

    Returns:
        The row: the median seconds of one unit on each side with their range, `ratio` (theirs over ours), the checks,
        and `result`, which is `reached`, `no bar`, or what was missed.
    """
    repeats = repeats or comparison.repeats
    prepared = comparison.prepare()
    prepared.ours.run()
    prepared.theirs.run()
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(_seconds(prepared.ours))
        theirs.append(_seconds(prepared.theirs))
    our_seconds, their_seconds = statistics.median(ours), statistics.median(theirs)
    ratio = their_seconds / our_seconds
    missed = [prepared.complaint] if prepared.complaint else []
    if comparison.at_least is not None and ratio < comparison.at_least:
        missed.append(f"{ratio:.2f}x is below {comparison.at_least:g}x")
    result = f"missed: {'; '.join(missed)}" if missed else "no bar" if comparison.at_least is None else "reached"
    return {
        **describe(comparison),
        "ratio": ratio,
        "our_seconds": our_seconds,
        "their_seconds": their_seconds,
        "our_range": [min(ours), max(ours)],
        "their_range": [min(theirs), max(theirs)],
        "repeats": repeats,
        "checks": prepared.checks,
        "result": result,
    }


def describe(comparison: Comparison) -> dict[str, Any]:
    """What a row says before it is measured."""
    return {key: getattr(comparison, key) for key in ("name", "setting", "against", "at_least", "unit")}


def _seconds(side: Side) -> float:
    """Seconds of one unit of work, all of it finished."""
    _wait_for_device()
    start = time.perf_counter()
    side.run()
    _wait_for_device()
    return (time.perf_counter() - start) / side.units


def _wait_for_device() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def machine() -> dict[str, Any]:
    """Everything that the seconds depend on: processor, cores, GPU, versions and threads."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{package: _version(package) for package in ("torch", "numpy", "scikit-learn")},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    table = Path("/proc/cpuinfo")  # Linux; `platform.processor` is empty there
    names = re.findall(r"^model name\s*: (.+)$", table.read_text(), re.MULTILINE) if table.is_file() else []
    return names[0].strip() if names else platform.processor() or platform.machine()
