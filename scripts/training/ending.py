"""How `train` ends before its work is done: what is wrong in one line, its other processes, and its exit status."""

import os
import shlex
import sys
import textwrap
import time
import traceback
from contextlib import suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

import lightning as L
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from methods.callbacks.stopping import Interrupted
from noise2pose.errors import InputError
from noise2pose.files import unwritable
from scripts import program


def reason_of(error: Exception) -> InputError | str | None:
    """What a user can do about an error, in a line; None if it is none of the user's."""
    return _input_error(error) or _other_sizes(error) or _trainer_error(error) or unwritable(error)


def interrupted(stop: Interrupted, arguments: list[str]) -> int:
    """Says how the command continues; returns the exit status."""
    if rank_zero_only.rank != 0:  # whose status would make Lightning kill the first process; SLURM takes the highest
        return 128 + stop.signum if "SLURM_PROCID" in os.environ else 0
    told = f"stopped by {stop}"
    if stop.checkpoint is not None:
        pairs = zip(["", *arguments], arguments, strict=False)
        kept = [x for before, x in pairs if before != "--ckpt_path" and not x.startswith("--ckpt_path")]
        told += f"; to continue from {stop.checkpoint}:\n  {program('train')} {shlex.join(kept)} --ckpt_path auto"
    print(told, file=sys.stderr)
    return 128 + stop.signum


def end_processes(launcher: Any) -> None:
    """Ends the processes that this one launched, which may wait for it, within 20 seconds."""
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    processes = [*launcher.procs]
    launcher.procs.clear()  # Lightning kills this process when it sees one of them end otherwise than well
    for seconds, end in ((8.0, Popen.terminate), (12.0, Popen.kill)):
        until = time.monotonic() + seconds
        for process in processes:
            with suppress(TimeoutExpired):
                process.wait(max(until - time.monotonic(), 0.0))
            if process.poll() is None:
                end(process)


def _other_sizes(error: BaseException) -> str | None:
    """What to do if a checkpoint does not fit the method; None if that is not the error."""
    first, *rest = str(error).splitlines() or [""]
    if not isinstance(error, RuntimeError) or not first.startswith("Error(s) in loading state_dict"):
        return None
    about = textwrap.shorten(rest[0] if rest else first, 160, placeholder=" ...")
    return (
        "the checkpoint was made by another method, or with other options; give those, or the run's configuration: "
        f"-c runs/NAME/config.yaml ({about}{f', and {len(rest) - 1} more' if len(rest) > 1 else ''})"
    )


def _trainer_error(error: BaseException) -> str | None:
    """What Lightning finds wrong with the options of its Trainer; None if that is not the error."""
    frames = traceback.extract_tb(error.__traceback__)
    refused = isinstance(error, ValueError) and Path(L.__file__).parent in Path(frames[-1].filename).parents
    return f"trainer: {error}" if refused or isinstance(error, MisconfigurationException) else None


def _input_error(error: BaseException | None) -> InputError | None:
    """The user's mistake in an exception that the parser or the Trainer may have wrapped; None if there is none."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error
