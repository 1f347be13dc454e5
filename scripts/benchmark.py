"""Measure the fast paths of a method, of the bodies or of reading data, against the obvious way of doing the same."""

import argparse
import ast
import dataclasses
import datetime
import importlib
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from noise2pose.errors import InputError
from noise2pose.files import commit, write_text
from scripts import benchmarks

DESCRIPTION = """Measure fast paths against the obvious way of doing the same, in one run on one machine.

examples:
  noise2pose benchmark diffpose
  noise2pose benchmark diffpose --device cuda         only the rows that run ours on a GPU
  noise2pose benchmark dpmesh --rows "training step"  some of the rows only
  python -m scripts.benchmarks.dpmesh_memory                 memory of a training step of DPMesh, computed
"""
EPILOG = """how to read it:
  ratio      median seconds of theirs over median seconds of ours; the two take turns, so that whatever else the machine
             does slows down both. Absolute seconds compare within one run only.
  at least   the bar of a row; a row without one only informs
  result     reached, or what was missed: the ratio, or answers worse than theirs

The exit status is 0 if every row that was run and has a bar reached it, else 1. GPU rows say "not run" where there is
no GPU. The rows are also written to OUTPUT/WHAT.json.
"""
DEVICES = ("cpu", "cuda")


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    measurable = find_benchmarks()
    given = sys.argv[1:] if args is None else list(args)
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=f"what can be measured:\n{_listed(measurable, given)}\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=list(measurable), help="a module of scripts/benchmarks, see below")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/benchmarks"), help="folder to write (default: docs/benchmarks)"
    )
    parser.add_argument("--device", choices=DEVICES, help="measure the rows of this device only (default: both)")
    parser.add_argument("--threads", type=int, metavar="N", help="of both sides on the CPU (default: all cores)")
    parser.add_argument("--rows", metavar="TEXT", help="measure only the rows whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="small sizes: tries the benchmark, measures nothing")
    arguments = parser.parse_args(args)
    import torch  # here and below, so that `--help` need not wait for it

    from scripts.benchmarks.measure import machine

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    benchmark = _module(arguments.what)
    try:
        devices = [device for device in DEVICES if arguments.device in (None, device)]
        rows = [row for device in devices for row in run(benchmark, device, arguments.quick, arguments.rows)]
        if not rows:
            raise InputError(f"--rows {arguments.rows}: no row of {arguments.what} has this in its name")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = {
        "method": arguments.what,
        "quick": arguments.quick,
        "machine": machine(),
        "commit": commit(),
        "command": shlex.join(["python", "scripts/benchmark.py", *given]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rows": rows,
    }
    path = arguments.output / f"{arguments.what}.json"
    write_text(path, json.dumps(report, indent=2) + "\n")
    print(table(rows))
    print(f"\n{path}")
    short = [row["name"] for row in rows if row["result"].startswith("missed")]
    if short:
        print(f"bar not reached: {', '.join(short)}", file=sys.stderr)
    return 1 if short else 0


def find_benchmarks() -> dict[str, str]:
    """What each module of `scripts/benchmarks` that has `comparisons(device, quick)` measures; none is imported.

    Ours runs on the device, theirs on the CPU unless a module says otherwise; `quick` sizes are small, for tests.
    """
    found = {}
    for path in sorted(Path(benchmarks.__path__[0]).glob("*.py")):
        tree = ast.parse(path.read_text())
        if any(isinstance(node, ast.FunctionDef) and node.name == "comparisons" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{benchmarks.__name__}.{name}")


def _listed(measurable: dict[str, str], given: Sequence[str]) -> str:
    """Each benchmark with what it measures; the rows on the CPU of one that the command asks about."""
    lines = [f"  {name:<10} {about}" for name, about in measurable.items()]
    named = next((argument for argument in given if argument in measurable), None)
    if named is None or not {"-h", "--help"} & set(given):
        return "\n".join([*lines, "rows of one: noise2pose benchmark WHAT --help"])
    import torch

    rows = _module(named).comparisons(torch.device("cpu"), False)
    return "\n".join([*lines, f"rows of {named}:", *(f"  {row.name}" for row in rows)])


def run(benchmark: ModuleType, device: str, quick: bool, named: str | None = None) -> list[dict[str, Any]]:
    """Measures the rows of a benchmark on a device; without that device each row says so.

    Args:
        benchmark: one of `find_benchmarks`.
        device: `cpu` or `cuda`, where ours runs.
        quick: small sizes, each side timed once.
        named: measure only rows with this in their name.
    """
    import torch
    from tqdm import tqdm

    from scripts.benchmarks.measure import describe, measure

    rows = benchmark.comparisons(torch.device(device), quick)
    if device == "cuda":
        rows = [dataclasses.replace(row, name=f"{row.name} on a GPU") for row in rows]
    rows = [row for row in rows if named is None or named in row.name]
    if device == "cuda" and not torch.cuda.is_available():
        return [{**describe(row), "result": "not run: no CUDA device"} for row in rows]
    repeats = 1 if quick else None
    progress = tqdm(rows, file=sys.stderr, unit="row")
    measured = []
    for row in progress:
        progress.set_description(row.name)
        measured.append(measure(row, repeats))
        progress.write(f"{row.name}: {measured[-1]['ratio']:.2f}x, {measured[-1]['result']}", file=sys.stderr)
    return measured


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [("row", "ratio", "at least", "ours", "theirs", "per", "result")]
    for row in rows:
        ratio = f"{row['ratio']:.2f}x" if "ratio" in row else "-"
        at_least = "-" if row["at_least"] is None else f"{row['at_least']:g}x"
        ours, theirs = (f"{1e3 * row[key]:.4f} ms" if key in row else "-" for key in ("our_seconds", "their_seconds"))
        lines.append((row["name"], ratio, at_least, ours, theirs, row["unit"], row["result"]))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(line.rstrip() for line in aligned)


if __name__ == "__main__":
    sys.exit(main())
