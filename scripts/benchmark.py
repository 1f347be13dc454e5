"""Measure the fast paths of a method, or of reading data, against the obvious way of doing the same."""

import argparse
import copy
import datetime
import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datamodules.base import BatchLoader
from datamodules.synthetic_motion import SyntheticMotion
from methods.diffpose.context import encoder_loss
from methods.diffpose.denoisers import GraphLifter
from noise2pose import skeletons
from noise2pose.batch import PoseBatch
from noise2pose.errors import InputError
from noise2pose.files import commit, write_text
from scripts.benchmarks import bodies as body_benchmarks
from scripts.benchmarks import diffannot as diffannot_benchmarks
from scripts.benchmarks import diffpose as diffpose_benchmarks
from scripts.benchmarks import dpmesh as dpmesh_benchmarks
from scripts.benchmarks import images
from scripts.benchmarks.measure import Checks, Comparison, Prepared, Side, machine, measure, not_run

DESCRIPTION = """Measure the fast paths of a method, or of reading data, against the obvious way of doing the same, in
one run on one machine.

examples:
  python scripts/benchmark.py diffpose
  python scripts/benchmark.py diffpose --device cuda         only the rows that run ours on a GPU
  python scripts/benchmark.py diffannot                      the search, bodies and their errors
  python scripts/benchmark.py dpmesh                         U-Net and ControlNet of full size: takes 7 GB of memory
  python scripts/benchmark.py dpmesh --rows "training step"  some of the rows only
  python -m scripts.benchmarks.dpmesh_memory                 memory of a training step of DPMesh, computed
  python scripts/benchmark.py data                           pictures: reading, cropping, augmenting
"""
EPILOG = """how to read it:
  ratio      median seconds of theirs over median seconds of ours; the two take turns, so that whatever else the machine
             does hits both. Absolute seconds compare within one run only.
  at least   the bar of a row; a row without one only informs
  result     reached, or what was missed: the ratio, or answers worse than theirs

The exit status is 0 if every row that was run and has a bar reached it, else 1. GPU rows say "not run" where there is
no GPU. The rows are also written to OUTPUT/METHOD.json.
"""
SKELETON = "h36m_17"
DEVICES = ("cpu", "cuda")
BATCH_SIZE = 1024  # the release's
NUM_WORKERS = 2


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method", choices=list(ROWS), help="whose fast paths")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/benchmarks"), help="folder to write (default: docs/benchmarks)"
    )
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], help="measure the rows of this device only (default: both)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of both sides on the CPU (default: all cores)")
    parser.add_argument("--rows", metavar="TEXT", help="measure only the rows whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="small sizes: tries the benchmark, measures nothing")
    arguments = parser.parse_args(args)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    try:
        devices = [device for device in DEVICES if arguments.device in (None, device)]
        rows = [row for device in devices for row in run(arguments.method, device, arguments.quick, arguments.rows)]
        if not rows:
            raise InputError(f"--rows {arguments.rows}: no row of {arguments.method} has this in its name")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = {
        "method": arguments.method,
        "quick": arguments.quick,
        "machine": machine(),
        "commit": commit(),
        "command": shlex.join(["python", "scripts/benchmark.py", *(sys.argv[1:] if args is None else args)]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rows": rows,
    }
    path = arguments.output / f"{arguments.method}.json"
    write_text(path, json.dumps(report, indent=2) + "\n")
    print(table(rows))
    print(f"\n{path}")
    short = [row["name"] for row in rows if row["result"].startswith("missed")]
    if short:
        print(f"bar not reached: {', '.join(short)}", file=sys.stderr)
    return 1 if short else 0


def run(method: str, device: str, quick: bool, named: str | None = None) -> list[dict[str, Any]]:
    """Measures every row of a method on a device; without that device each row says so.

    Args:
        method: one of `ROWS`.
        device: `cpu` or `cuda`, where ours runs. Training is measured on the CPU only: there the loader costs most.
        quick: small sizes and two repeats.
        named: measure only rows with this in their name.
    """
    rows = [row for row in ROWS[method](torch.device(device), quick) if named is None or named in row.name]
    if device == "cuda" and not torch.cuda.is_available():
        return [not_run(row, "no CUDA device") for row in rows]
    repeats = 2 if quick else None
    progress = tqdm(rows, file=sys.stderr, unit="row")
    measured = []
    for row in progress:
        progress.set_description(row.name)
        measured.append(measure(row, repeats))
        progress.write(f"{row.name}: {measured[-1]['ratio']:.2f}x, {measured[-1]['result']}", file=sys.stderr)
    return measured


def _diffpose(device: torch.device, quick: bool) -> list[Comparison]:
    rows = diffpose_benchmarks.comparisons(device, quick)
    if device.type == "cpu":
        rows += [
            training_epoch(quick, width=16, num_blocks=1, at_least=2.0),
            training_epoch(quick, width=64, num_blocks=3, at_least=None),
        ]
    return rows


def _diffannot(device: torch.device, quick: bool) -> list[Comparison]:
    return diffannot_benchmarks.comparisons(device, quick) + body_benchmarks.comparisons(device, quick)


ROWS = {
    "diffpose": _diffpose,
    "diffannot": _diffannot,
    "dpmesh": dpmesh_benchmarks.comparisons,
    "data": images.comparisons,
}


def training_epoch(quick: bool, width: int, num_blocks: int, at_least: float | None) -> Comparison:
    """One epoch of the context encoder: batches cut from whole tensors against samples collated by workers."""

    def prepare() -> Prepared:
        module = SyntheticMotion(clips_per_activity=1 if quick else 6, batch_size=BATCH_SIZE)
        module.setup("fit")
        ours = module.train_dataloader()
        assert isinstance(ours, BatchLoader)
        theirs = DataLoader(
            SampleDataset(module.load("train")), BATCH_SIZE, shuffle=True, drop_last=True, num_workers=NUM_WORKERS
        )
        torch.manual_seed(0)
        network = GraphLifter(width, num_blocks, 2, 0.25, skeletons.get(SKELETON).parents)
        samples = len(ours) * BATCH_SIZE
        checks = Checks({"batches": len(ours)}, "" if len(ours) == len(theirs) else "epochs of different length")
        return Prepared(Side(Training(network, ours), samples), Side(Training(network, theirs), samples), checks)

    return Comparison(
        name=f"training epoch, width {width}, {num_blocks} block{'s' if num_blocks > 1 else ''}",
        setting=f"context encoder with 2 heads on synthetic motion, batch {BATCH_SIZE}, Adam",
        against=f"the same loop over a DataLoader of single samples, {NUM_WORKERS} workers",
        at_least=at_least,
        unit="sample",
        prepare=prepare,
    )


class SampleDataset(Dataset):
    """The samples of a split one by one, as data sets are usually written."""

    def __init__(self, samples: PoseBatch) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples["keypoints_2d"])

    def __getitem__(self, index: int) -> Any:
        return _at(self.samples, index)


def _at(tree: Any, index: int) -> Any:
    return {key: _at(value, index) for key, value in tree.items()} if isinstance(tree, dict) else tree[index]


class Training:
    """Trains a copy of a network, one epoch a call."""

    def __init__(self, network: GraphLifter, batches: BatchLoader | DataLoader) -> None:
        self.network = copy.deepcopy(network)
        self.batches = batches
        self.skeleton = skeletons.get(SKELETON)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        self.epoch = 0

    def __call__(self) -> None:
        if isinstance(self.batches, BatchLoader):
            self.batches.sampler.set_epoch(self.epoch)
        self.epoch += 1
        batches: Iterable[PoseBatch] = self.batches
        for batch in batches:
            loss = encoder_loss(self.network, batch, self.skeleton, num_frames=1)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [("row", "ratio", "at least", "ours", "theirs", "per", "result")]
    for row in rows:
        measured = "ratio" in row
        lines.append(
            (
                row["name"],
                f"{row['ratio']:.2f}x" if measured else "-",
                "-" if row["at_least"] is None else f"{row['at_least']:g}x",
                f"{1e3 * row['our_seconds']:.4f} ms" if measured else "-",
                f"{1e3 * row['their_seconds']:.4f} ms" if measured else "-",
                row["unit"],
                row["result"],
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(line.rstrip() for line in aligned)


if __name__ == "__main__":
    sys.exit(main())
