"""Fetching large files over HTTP."""

import os
import urllib.error
import urllib.request
from functools import partial
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from noise2pose.errors import InputError

_AGAIN = "the same command continues where this one stopped"
_CHUNK = 1 << 20


def download(url: str, target: Path, timeout: float = 60.0) -> None:
    """Fetches a file, resuming an interrupted download; `target` is there only when it is whole.

    Args:
        url: of the file.
        target: where to put it; until it is whole it is `target` with `.partial` after its name.
        timeout: in seconds, without a sign of life.

    Raises:
        InputError: if the server cannot be reached, refuses, or hangs up early.
    """
    part = target.with_name(target.name + ".partial")
    part.parent.mkdir(parents=True, exist_ok=True)
    present = part.stat().st_size if part.is_file() else 0
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={present}-"} if present else {})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            if answer.status != 206:  # the server knows no ranges and sends all of it
                present = 0
            length = answer.headers.get("Content-Length")
            size = present + int(length) if length else None
            with (
                part.open("ab" if present else "wb") as file,
                tqdm(total=size, initial=present, unit="B", unit_scale=True, desc=target.name) as bar,
            ):
                for chunk in iter(partial(answer.read, _CHUNK), b""):
                    file.write(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise InputError(f"{url}: {error}") from error
        # The range began at or behind the end: everything is here already, or the file has changed.
        size = int((error.headers.get("Content-Range") or "").rpartition("/")[2] or -1)
        if size != present:
            part.unlink()
            raise InputError(
                f"{url}: has {size} bytes and {part} had {present}; run again to fetch all of it"
            ) from error
    except (OSError, HTTPException, ValueError) as error:
        raise InputError(f"{url}: {error}; {_AGAIN}") from error
    if size is not None and part.stat().st_size != size:
        raise InputError(f"{url}: ended after {part.stat().st_size} of {size} bytes; {_AGAIN}")
    os.replace(part, target)
