"""Progress of long work: a bar in a terminal, a line every ten seconds in a file or a pipe."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

EVERY = 10.0  # seconds between two lines where there is no terminal


class _Lines:
    """A stream to which each state of a bar is written as a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.before = stream, ""

    def write(self, text: str) -> None:
        shown = text.strip()
        if shown and shown != self.before:
            self.stream.write(f"{shown}\n")
            self.before = shown

    def flush(self) -> None:
        self.stream.flush()


def progress(iterable: Iterable[Any] | None = None, **options: Any) -> "tqdm[Any]":
    """A `tqdm` on stderr.

    Without a terminal it is silent for `EVERY` seconds, so that short work prints nothing, and writes no control
    characters.

    Args:
        iterable: what is gone through; None to call `update`.
        options: of `tqdm`.
    """
    if sys.stderr.isatty():
        return tqdm(iterable, **options)
    lines: Any = _Lines(sys.stderr)
    return tqdm(iterable, file=lines, mininterval=EVERY, maxinterval=EVERY, delay=EVERY, ncols=0, **options)
