"""Say what is installed, found and ready to run, and how to get what is missing."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from noise2pose.errors import InputError
from scripts.checkup import installation, readiness
from scripts.checkup.experiments import Experiment, read_data, read_experiment
from scripts.checkup.installation import Package
from scripts.checkup.page import as_text, is_damaged

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
DESCRIPTION = """Say what is installed, which bodies, data sets, detector and checkpoints are there and whether they are
whole, which experiments could run now, and the command for everything that is missing.

  python scripts/doctor.py
  python scripts/doctor.py --data /disk/data        (prepared folders elsewhere)
  python scripts/doctor.py --imports                (imports every package for real; takes seconds)
  python scripts/doctor.py --json > doctor.json     (the same for programs; attach it when you report a problem)
"""
EPILOG = """how to read it:
  ready       would run as it is: python scripts/train.py fit -c configs/experiments/NAME.yaml
  needs ...   what is not there yet; the last section has the command for each, and where a licence is asked for
  unfinished  a preparation was interrupted; the same command continues where it stopped
  damaged     a file is missing, cut off or not what it should be; the line says which one

Nothing is changed, fetched or run. Experiments are read from configs/experiments: your own files there count as well.

exit status: 0 the installation works and nothing that was found is damaged, 1 something is damaged or needed packages
are missing, 2 the command is wrong.
"""


def examine(data: Path, runs: Path, imports: bool) -> dict[str, Any]:
    """The whole report as plain values.

    Args:
        data: folder of prepared data sets, bodies and the detector.
        runs: folder of runs.
        imports: import every package for real.
    """
    packages = installation.check_packages(imports)
    report: dict[str, Any] = {
        "python": installation.python_version(),
        "packages": [package._asdict() for package in packages],
        "damaged": [f"{p.name}: {p.problem}; pip install -e ." for p in packages if p.problem and not p.extra],
    }
    try:
        report["devices"] = installation.devices()
        _examine_files(report, data, runs, packages)
    except ImportError as error:  # then nothing else can be looked at
        if not report["damaged"]:
            report["damaged"].append(f"{error.name} cannot be imported: {error}".splitlines()[0])
    return report


def _examine_files(report: dict[str, Any], data: Path, runs: Path, packages: list[Package]) -> None:
    from datamodules.sources import publishers
    from scripts.checkup import inventory  # imports PyTorch, which may not be installed

    folders = inventory.find_folders(data)
    known = publishers()
    report["bodies"] = _bodies(data / "bodies")
    report["data_sets"] = [{**folder._asdict(), "path": str(folder.path)} for folder in folders]
    report["detector"] = {"path": str(data / "detector"), "problem": inventory.detector_problem(data / "detector")}
    shipped, trained = inventory.shipped(), inventory.trained(runs)
    report["checkpoints"] = [{**c._asdict(), "shipped": c in shipped} for c in (*shipped, *trained)]
    report["damaged"] += [f"{e['path']}: {e['problem']}" for e in report["data_sets"] if is_damaged(e["problem"])]
    report["damaged"] += [f"{e['path']}: {e['problem']}" for e in report["bodies"] if e["problem"]]
    report["damaged"] += [f"{e['name']}: {e['problem']}" for e in report["checkpoints"] if e["problem"]]
    if report["detector"]["problem"].startswith("damaged"):
        report["damaged"].append(f"{report['detector']['path']}: {report['detector']['problem']}")
    extras = {package.extra for package in packages if package.extra}
    found = readiness.Found(
        data=data,
        folders={str(folder.path): folder for folder in folders},
        data_sets=known,
        extras={extra: not any(p.problem for p in packages if p.extra == extra) for extra in extras},
        checkpoints=frozenset(checkpoint.name for checkpoint in shipped),
    )
    _examine_experiments(report, found)
    names = {folder.dataset for folder in folders}
    for name in known:
        if name not in names:
            _want(report, readiness.missing_folder(data / name, name, found))
    if report["detector"]["problem"]:
        detector = f"python scripts/prepare.py detector --output {data / 'detector'}"
        _want(report, readiness.Missing("detector", report["detector"]["path"], detector))
    if len(report["bodies"]) == 1:
        _want(report, readiness.missing_body(data, "neutral"))
    for extra in sorted(extras - {"dev"}):
        if not found.extras[extra]:
            _want(report, readiness.missing_extra(extra))
    report["missing"].sort(key=lambda lack: (readiness.KINDS.index(lack["kind"]), lack["what"]))


def _examine_experiments(report: dict[str, Any], found: readiness.Found) -> None:
    report["experiments"], report["missing"] = [], []
    experiments = list(_read(CONFIGS / "experiments", read_experiment, report))
    used = {experiment.data for experiment in experiments}
    data = [piece for piece in _read(CONFIGS / "data", read_data, report) if piece.data not in used]
    here = Path.cwd()
    for experiment in experiments:
        file = experiment.file
        found.experiments[experiment.name] = file.relative_to(here) if file.is_relative_to(here) else file
    for experiment in (*experiments, *data):
        lacks = readiness.missing_for(experiment, found)
        for lack in lacks:
            _want(report, lack)
        is_data = experiment in data
        file = experiment.file.relative_to(CONFIGS / ("data" if is_data else "experiments")).with_suffix("")
        report["experiments"].append(
            {
                "file": str(file),
                "method": "" if is_data else experiment.method,
                "data": experiment.data,
                "missing": [lack.what for lack in lacks],
            }
        )


def _read(folder: Path, reader: Callable[[Path], Experiment], report: dict[str, Any]) -> Iterator[Experiment]:
    """Everything below a folder that can be read; the other files are reported as damaged."""
    for file in sorted(folder.rglob("*.yaml")):
        try:
            yield reader(file)
        except InputError as error:
            report["damaged"].append(str(error))


def _want(report: dict[str, Any], lack: readiness.Missing) -> None:
    if all(other["what"] != lack.what for other in report["missing"]):
        report["missing"].append(dataclasses.asdict(lack))


def _bodies(folder: Path) -> list[dict[str, Any]]:
    from noise2pose.bodies import files as body_files

    found = []
    for path in [body_files.FREE_BODY, *sorted(folder.glob("*.npz"))]:
        name = "free" if path == body_files.FREE_BODY else str(path)
        entry: dict[str, Any] = {"path": name, "model": "", "gender": "", "problem": ""}
        try:
            body = body_files.read(path)
            entry |= {"model": body.model_type, "gender": body.gender, "regressors": sorted(body.regressors)}
        except InputError as error:
            entry["problem"] = str(error).replace(f"{path}: ", "")
        found.append(entry)
    return found


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), metavar="DIR", help="folder of what was prepared (default: data)"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs (default: runs)")
    parser.add_argument("--imports", action="store_true", help="import every package for real, which takes seconds")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    arguments = parser.parse_args(args)
    report = examine(arguments.data, arguments.runs, arguments.imports)
    print(json.dumps(report, indent=1) if arguments.json else as_text(report, arguments.data))
    return 1 if report["damaged"] else 0


if __name__ == "__main__":
    sys.exit(main())
