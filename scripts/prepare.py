"""Turn data sets as their publishers ship them into folders that the data modules read."""

import argparse
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datamodules import cmu_archive
from noise2pose.errors import InputError

CMU_HELP = f"""Convert the CMU motion capture database from ASF/AMC to 50 fps joints and body rotations.

  python scripts/prepare.py cmu_mocap --source allasfamc.zip --output data/cmu_mocap
  python scripts/prepare.py cmu_mocap --download --output data/cmu_mocap      (fetches {cmu_archive.URL})

The source is the official archive, the same unpacked, or any folder of NN/NN.asf with NN/NN_MM.amc.

written to OUTPUT:
  joints_3d.npy    (N, 17, 3) Human3.6M-17 joints, metres, z up
  rotations.npy    (N, 24, 3) SMPL-24 axis-angle
  translation.npy  (N, 3) pelvis, metres
  manifest.json    clips, counts, checksums, licence, and what was left out and why
Interrupt it when you like; the same command goes on where it stopped. Malformed files are named and left out.
"""


def download(url: str, target: Path) -> None:
    """Fetches a file, going on where an interrupted download stopped.

    Raises:
        InputError: if the server cannot be reached or answers with an error.
    """
    partial = target.with_name(target.name + ".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            if answer.status != 206:  # the server sends all of it
                have = 0
            size = have + int(answer.headers.get("Content-Length") or 0)
            with (
                partial.open("ab" if have else "wb") as file,
                tqdm(total=size or None, initial=have, unit="B", unit_scale=True, desc=target.name) as bar,
            ):
                for chunk in _chunks(answer):
                    file.write(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code != 416:  # all of it is here already
            raise InputError(f"{url}: {error}") from error
        size = have
    except OSError as error:
        raise InputError(f"{url}: {error}; the same command goes on where this one stopped") from error
    if size and partial.stat().st_size != size:
        raise InputError(f"{url}: the connection ended early; the same command goes on where this one stopped")
    os.replace(partial, target)


def _chunks(stream: Any) -> Iterator[bytes]:
    while chunk := stream.read(1 << 20):
        yield chunk


def cmu_mocap(arguments: argparse.Namespace) -> int:
    """The sub-command; returns the exit status."""
    source = arguments.source or arguments.output / "allasfamc.zip"
    if arguments.download and not source.exists():
        download(arguments.url, source)
    elif arguments.source is None and not source.exists():
        raise InputError("give --source ZIP_OR_FOLDER, or --download to fetch the archive")
    manifest = cmu_archive.prepare(source, arguments.output, arguments.source_fps)
    counts = manifest["counts"]
    print(
        f"{arguments.output}: {counts['clips']} clips of {counts['subjects']} subjects, {counts['frames']} frames "
        f"({counts['minutes']} minutes at {cmu_archive.FPS} fps); {counts['rejected']} clips left out, "
        f"{counts['frames_cut']} frames cut as tracking errors"
    )
    for clip in manifest["rejected"]:
        print(f"left out: {clip['reason']}")
    print("\n" + cmu_archive.LICENCE.split("\n\n", 1)[1].strip())
    return 0


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="DATASET")
    cmu = commands.add_parser(
        "cmu_mocap",
        help="CMU motion capture (ASF/AMC), free",
        description=CMU_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cmu.add_argument("--source", type=Path, metavar="ZIP_OR_FOLDER", help="official archive, or a folder of its files")
    cmu.add_argument("--download", action="store_true", help="fetch the archive first (about 1 GB)")
    cmu.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    cmu.add_argument("--source_fps", type=float, default=120.0, help="frame rate of the AMC files (120)")
    cmu.add_argument("--url", default=cmu_archive.URL, help="where --download fetches from")
    cmu.set_defaults(run=cmu_mocap)
    arguments = parser.parse_args()
    try:
        return arguments.run(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
