"""Train and test every ablation of a method with several seeds, and write the page of what is finished."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from noise2pose.errors import InputError
from noise2pose.files import write_text
from scripts.studies import diffannot, diffpose, dpmesh, page, records

DESCRIPTION = """Train and test every ablation of a method with several seeds, and write a page of what is finished.

diffpose  DiffPose, its baselines and controls, other methods and a sweep of calls, on people and on activities that
          were held out of motion capture, and on synthetic people. All rows of a seed and split start from one encoder;
          the seed also draws cameras, detection errors and the synthetic people.
diffannot what the losses L_3D and L_2D, conditions, front-end errors as noise and the paper's settings are worth, every
          row beside its null control. All runs refine one front end, hmr_people, which must be trained first.
dpmesh    configs/experiments/dpmesh_*.yaml: what heat-maps, context, reasoning and the diffusion prior are worth, and
          other backbones. All runs start from one prior, which must be trained first.

Finished rows are not run again and interrupted ones continue, so the command can be stopped and repeated. A row that
fails is named at the end, and the others go on. Several can run at once with different --seeds; --table then writes the
page of all. Beside the page lies a JSON file with what its rows measured; --add takes it over on another machine.

  noise2pose ablations diffpose                            all rows, splits and seeds: estimated: 15 hours of one core
  noise2pose ablations diffpose --seeds 0 1 --threads 1    and beside it, on the other core, --seeds 2 3 4
  noise2pose ablations diffpose --splits synthetic --rows encoder diffpose calls_1 calls_10
  noise2pose ablations diffpose --quick --seeds 0          tiny sizes, to see that everything runs
  noise2pose ablations diffannot --seeds 0                 the rows of one seed; then --seeds 1, ...
  noise2pose ablations dpmesh --table                      trains nothing, writes the page of what is finished
  noise2pose ablations diffpose --add docs/ablations_diffpose.json --seeds 0 1 2
"""
ROWS = {"diffpose": diffpose.ROWS, "dpmesh": dpmesh.ROWS, "diffannot": diffannot.ROWS}
_OTHERS: dict[str, Any] = {"dpmesh": dpmesh, "diffannot": diffannot}  # whose rows do not come in splits


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=list(ROWS), help="whose ablations")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: 0 to 4, dpmesh 0 to 2")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="rows to run (default: all)")
    parser.add_argument(
        "--splits",
        nargs="+",
        choices=list(diffpose.SPLITS),
        default=list(diffpose.SPLITS),
        help="diffpose only (default: all)",
    )
    parser.add_argument("--threads", type=int, default=1, help="of each training (default: 1)")
    parser.add_argument("--quick", action="store_true", help="diffpose only: tiny runs on synthetic people")
    parser.add_argument("--table", action="store_true", help="train nothing, write what is finished")
    parser.add_argument(
        "--add",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="rows measured elsewhere, which are not run again",
    )
    parser.add_argument("--output", type=Path, help="Markdown file (default: report/ablations_METHOD.md)")
    arguments = parser.parse_args(args)
    if arguments.method in _OTHERS and arguments.quick:
        parser.error(f"--quick is for diffpose; {arguments.method} has no smaller size")
    known = ROWS[arguments.method]
    if unknown := set(arguments.rows or ()) - set(known):
        parser.error(f"--rows {' '.join(sorted(unknown))}: expected some of {', '.join(known)}")
    rows = [row for row in known if row in (arguments.rows or known)]
    output = arguments.output or Path("report") / f"ablations_{arguments.method}.md"
    if arguments.threads < 1:
        parser.error(f"--threads is {arguments.threads}, expected at least 1")
    try:
        for file in arguments.add:
            records.add(file)
        failed = (_rows if arguments.method in _OTHERS else _diffpose)(arguments, rows, output)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    return 1 if failed else 0


def _diffpose(arguments: argparse.Namespace, rows: Sequence[str], output: Path) -> dict[str, str]:
    """Runs the rows, and writes the page after every split and seed; returns which failed, and why."""
    seeds = arguments.seeds or list(range(5))
    splits = ["synthetic"] if arguments.quick else arguments.splits
    failed: dict[str, str] = {}

    def write() -> str:
        measured = [
            diffpose.Measured(row, split, seed, arguments.quick)
            for split in splits
            for seed in seeds
            for row in ROWS["diffpose"]
        ]
        return _with_records(
            page.write_page(output, splits, seeds, arguments.quick), output, [one.name for one in measured]
        )

    if not arguments.table:
        diffpose.check_data(splits)
        for seed in seeds:
            for split in splits:
                for row in rows:
                    measured = diffpose.Measured(row, split, seed, arguments.quick)
                    _attempt(measured.name, lambda one=measured: diffpose.measure(one, arguments.threads), failed)
                write()
    _show(write(), output)
    return failed


def _rows(arguments: argparse.Namespace, rows: Sequence[str], output: Path) -> dict[str, str]:
    """Runs the rows, and writes the page; returns which failed, and why."""
    study = _OTHERS[arguments.method]
    seeds, failed = arguments.seeds or list(range(study.NUM_SEEDS)), {}
    for seed in [] if arguments.table else seeds:
        for row in rows:
            name = study.run_name(row, seed)
            _attempt(name, lambda row=row, seed=seed: study.measure(row, seed, arguments.threads), failed)
    text = study.table(seeds)
    if text:
        write_text(output, text + "\n")
    _show(
        _with_records(text, output, [study.run_name(row, seed) for seed in seeds for row in ROWS[arguments.method]]),
        output,
    )
    return failed


def _with_records(text: str, output: Path, names: list[str]) -> str:
    """Writes what the runs measured beside the page, unless it is empty; returns the page."""
    if text:
        records.save(output.with_suffix(".json"), names)
    return text


def _attempt(name: str, measure: Callable[[], None], failed: dict[str, str]) -> None:
    """Measures a row; the others do not wait in vain for one that fails."""
    try:
        measure()
    except InputError as error:
        failed[name] = str(error)
    except SystemExit:  # of a training or test, which has said why
        failed[name] = "see above"


def _show(text: str, output: Path) -> None:
    print(text if text else "no row of these seeds is finished yet")
    if text:
        print(f"\n{output}")


if __name__ == "__main__":
    sys.exit(main())
