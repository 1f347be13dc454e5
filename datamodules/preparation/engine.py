"""Turns data sets into prepared folders: in parts, by several processes, resumed after a kill.

A data set says what there is to read (`Plan`); this module reads it and writes

  COLUMN.npy      one row a person in an image, or a frame of motion; see `COLUMNS`
  index.npz       names of the images, relative to the image root (`datamodules.prepared.folder.Names`)
  LICENSE.txt     the publisher's terms
  dataset.json    what is in the folder, where it came from, counts, what was skipped and why; written last

The bytes depend on the source and the options, not on the number of processes or on how often they were killed.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from datamodules.preparation.joining import Joined, Rows, join, write_part
from datamodules.prepared.folder import COLUMNS, MANIFEST, read_manifest
from noise2pose.errors import InputError
from noise2pose.files import sha256, write_text

_PARTS = ".parts"  # of an unfinished folder
_FORMAT = 1  # of the folder, to be raised when older folders cannot be read any more


class Expected(NamedTuple):
    """A count that the literature gives, printed beside the one found."""

    what: str  # key of `Rows.counts`
    number: int


class Part(NamedTuple):
    """A piece of work that is done and kept as a whole.

    Attributes:
        name: unique among the parts, and valid as a file name.
        read: function of a module; what it raises is the reason for which the part is skipped.
        arguments: of `read`.
        files: that it reads, whose checksums are recorded; images and videos are too large for that.
    """

    name: str
    read: Callable[..., Rows]
    arguments: tuple[Any, ...]
    files: tuple[Path, ...]


class Plan(NamedTuple):
    """What there is to read.

    Attributes:
        dataset: name of the data set.
        licence: its name and where it is asked for.
        facts: plain values for users and data modules; `skeletons` names the joint order of every column of joints.
        image_root: folder of the images, which stay there; None without images.
        parts: in the order of the rows.
        expected: counts of the literature.
        skipped: what was found missing while planning.
    """

    dataset: str
    licence: str
    facts: dict[str, Any]
    image_root: Path | None
    parts: list[Part]
    expected: list[Expected]
    skipped: list[tuple[str, str]]


def prepare(plan: Plan, output: Path, num_workers: int) -> dict[str, Any]:
    """Reads every part and writes the folder.

    Args:
        plan: what to read.
        output: folder to write. Interrupted work is resumed; finished work of the same source is left as it is.
        num_workers: processes in addition to this one; 0 reads in this one.

    Returns:
        What `dataset.json` says.

    Raises:
        InputError: if the folder holds something else, or no part can be read; reasons are named.
    """
    done = _finished(plan, output)
    if done is not None:
        return done
    home = output / _PARTS
    home.mkdir(parents=True, exist_ok=True)
    files = {part.name: home / f"{part.name}.{_fingerprint(part)}.npz" for part in plan.parts}
    if len(files) < len(plan.parts):
        raise ValueError("two parts have the same name")
    skipped = list(plan.skipped)
    failed: dict[str, str] = {}
    todo = [part for part in plan.parts if not files[part.name].exists()]
    with tqdm(total=len(plan.parts), initial=len(plan.parts) - len(todo), unit="part", desc=plan.dataset) as bar:
        for part, reason in _read_all(todo, files, num_workers):
            if reason is not None:
                failed[part.name] = reason
            bar.update()
    read = [part for part in plan.parts if part.name not in failed]
    skipped += _failures(plan.parts, failed)
    if not read:
        raise InputError(f"nothing could be prepared; {_examples(skipped)}")
    joined = join([files[part.name] for part in read], output)
    skipped = list(dict.fromkeys([*skipped, *joined.skipped]))  # every camera names the same joint
    if joined.rows == 0:
        raise InputError(f"nothing could be prepared; {_examples(skipped) or 'the source holds no rows'}")
    manifest = _manifest(plan, output, joined, skipped)
    for column in set(COLUMNS) - set(joined.columns) - {"sequence"}:  # of an earlier preparation with other options
        (output / f"{column}.npy").unlink(missing_ok=True)
    write_text(output / "LICENSE.txt", plan.licence + "\n")
    write_text(output / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(home)
    return read_manifest(output)


def _manifest(plan: Plan, output: Path, joined: Joined, skipped: list[tuple[str, str]]) -> dict[str, Any]:
    counts = joined.counts
    return {
        "dataset": plan.dataset,
        "format": _FORMAT,
        "rows": joined.rows,
        "columns": joined.columns,
        "counts": counts,
        "expected": [{"what": what, "expected": count, "found": counts.get(what, 0)} for what, count in plan.expected],
        "facts": plan.facts,
        "picture_root": _place(plan.image_root, output),
        "pictures": joined.images,
        "licence": plan.licence,
        "skipped": skipped,
        "sources": _checksums(plan.parts),
        "parts": _identities(plan),
        "sequences": joined.sequences,
    }


def _place(root: Path | None, output: Path) -> str | None:
    """The image root as the manifest gives it: relative if it is inside the folder, else absolute."""
    if root is None:
        return None
    root, output = root.absolute(), output.absolute()
    return root.relative_to(output).as_posix() if root.is_relative_to(output) else root.as_posix()


def _failures(parts: list[Part], failed: dict[str, str]) -> list[tuple[str, str]]:
    """Parts that could not be read and why; those of one broken file are one line."""
    named: dict[str, list[str]] = {}
    for part in parts:
        if part.name in failed:
            named.setdefault(failed[part.name], []).append(part.name)
    return [
        (names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more parts", reason)
        for reason, names in named.items()
    ]


def _examples(skipped: list[tuple[str, str]]) -> str:
    shown = "; ".join(f"{file}: {reason}" if file not in reason else reason for file, reason in skipped[:3])
    return shown + (f"; and {len(skipped) - 3} more" if len(skipped) > 3 else "")


def _finished(plan: Plan, output: Path) -> dict[str, Any] | None:
    """What an earlier, complete run wrote from the same source."""
    if output.exists() and not output.is_dir():
        raise InputError(f"--output: {output} is a file, expected a folder")
    path = output / MANIFEST
    if not path.exists():
        return None
    manifest = read_manifest(output)
    if manifest["dataset"] != plan.dataset:
        raise InputError(f"--output: {output} holds {manifest['dataset']}, expected {plan.dataset} or an empty folder")
    same_images = manifest["picture_root"] == _place(plan.image_root, output)
    if same_images and manifest["parts"] == _identities(plan) and manifest["sources"] == _checksums(plan.parts):
        if not manifest["skipped"]:
            shutil.rmtree(output / _PARTS, ignore_errors=True)
            print(f"{output}: already prepared from this source (delete {path} to do it again)", file=sys.stderr)
            return manifest
        print(f"{output}: something was skipped last time; reading it all again", file=sys.stderr)
    else:
        print(
            f"{output}: prepared from another source or with other options; reading everything again", file=sys.stderr
        )
    path.unlink()  # otherwise a kill would leave a folder that looks complete
    return None


def _read_all(todo: list[Part], files: dict[str, Path], num_workers: int) -> Iterator[tuple[Part, str | None]]:
    """Parts as they are done, with the reason why one could not be read."""
    if num_workers == 0 or len(todo) < 2:
        for part in todo:
            yield part, _read(part, files[part.name])
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(num_workers, len(todo)), context)
    try:
        waiting = {pool.submit(_read, part, files[part.name]): part for part in todo}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool:
        raise InputError(
            "a reading process was ended from outside, perhaps because memory ran out; the same command continues "
            "where this one stopped, and needs less memory with --num_workers 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _read(part: Part, path: Path) -> str | None:
    """Reads one part into its file; returns why it cannot be read."""
    try:
        rows = part.read(*part.arguments)
    except InputError as error:
        return str(error)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, ArithmeticError) as error:
        return f"cannot be read ({type(error).__name__}: {error})".splitlines()[0]
    _check(part, rows)
    write_part(path, rows)
    return None


def _check(part: Part, rows: Rows) -> None:
    """Refuses rows that break the contract of `Rows`: a bug in the reader, not a fault of the user's files."""
    number = len(rows.of)
    for name, array in rows.arrays.items():
        if name not in COLUMNS:
            raise AssertionError(f"{part.name}: there is no column {name}")
        if len(array) != number:
            raise AssertionError(f"{part.name}: {name} has {len(array)} rows, expected {number}")
    if number and (np.any(np.diff(rows.of) < 0) or rows.of[0] < 0 or rows.of[-1] >= len(rows.sequences)):
        raise AssertionError(f"{part.name}: the rows of its sequences do not lie together in order")


def _identities(plan: Plan) -> dict[str, list[str]]:
    """Function and arguments of each part, without the place of its files."""
    return {
        part.name: [
            part.read.__name__,
            *(argument.name if isinstance(argument, Path) else repr(argument) for argument in part.arguments),
        ]
        for part in plan.parts
    }


def _fingerprint(part: Part) -> str:
    """A checksum of everything that the rows of a part depend on."""
    files = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in part.files if file.exists()]
    text = json.dumps([part.read.__module__, part.read.__name__, repr(part.arguments), files])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _checksums(parts: list[Part]) -> dict[str, str]:
    """SHA-256 of each file that is read, under its name below the folder that they all lie in."""
    files = sorted({file.absolute() for part in parts for file in part.files if file.is_file()})
    home = os.path.commonpath([file.parent for file in files]) if files else ""
    return {file.relative_to(home).as_posix(): sha256(file) for file in files}
