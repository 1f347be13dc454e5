"""Files written whole or not at all, so that a killed process leaves nothing half-written; what made them."""

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

ASSETS = Path(__file__).resolve().parent / "assets"  # what ships with the project; see NOTICE there


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The place to write a file at: it becomes `path` when the block ends, and is removed when the block fails.

    A killed process leaves `path` as it was, and at most a `.partial` file beside it that the next attempt overwrites.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, path)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text)


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes an RGB image, (H, W, 3) uint8, whole or not at all."""
    from PIL import Image

    with replacing(path) as partial:
        Image.fromarray(image).save(partial, format="PNG")


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Writes an npz file whole or not at all."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def command() -> str:
    """The command line of this process, as a user would type it again."""
    called_by_name = Path(sys.argv[0]).name == "noise2pose"
    return shlex.join(["noise2pose", *sys.argv[1:]] if called_by_name else ["python", *sys.argv])


@cache
def commit() -> str | None:
    """The project's commit, with a `+` if files differ from it; None outside a checkout."""
    where = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=where,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None
