"""Say what is installed, found and ready to run, and how to get what is missing.

It must start with any of its requirements missing, to say so.
"""

import argparse
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from noise2pose.errors import InputError
from scripts.checkup import readiness
from scripts.checkup.page import as_text, is_damaged
from scripts.checkup.readiness import Experiment

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
DESCRIPTION = """Say what is installed, which bodies, data sets, detector and checkpoints are there and whether they are
whole, which experiments could run now, and the command for everything that is missing.

  noise2pose doctor
  noise2pose doctor --data /disk/data        (prepared folders elsewhere)
  noise2pose doctor --imports                (imports every package for real; takes seconds)
  noise2pose doctor --json > doctor.json     (the same for programs; attach it when you report a problem)
"""
EPILOG = """how to read it:
  ready       would run as it is: noise2pose train fit -c configs/experiments/NAME.yaml
  needs ...   what is not there yet; the last section has the command for each, and where a licence is asked for
  unfinished  a preparation was interrupted; the same command continues where it stopped
  damaged     a file is missing, cut off or not what it should be; the line says which one

Nothing is changed, fetched or run. Experiments are read from configs/experiments: your own files there count as well.

exit status: 0 the installation works and nothing that was found is damaged, 1 something is damaged or needed packages
are missing, 2 the command is wrong.
"""
_PROJECT = "noise2pose"
# Imports the modules that it is given and prints what went wrong with each; a crash ends this process only.
_TRY = """
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        problem = ""
    except BaseException as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
    print(json.dumps([name, problem]), flush=True)
"""


def examine(data: Path, runs: Path, imports: bool) -> dict[str, Any]:
    """The whole report as plain values.

    Args:
        data: folder of prepared data sets, bodies and the detector.
        runs: folder of runs.
        imports: import every package for real.
    """
    packages = check_packages(imports)
    report: dict[str, Any] = {
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        "packages": [package._asdict() for package in packages],
        "damaged": [f"{p.name}: {p.problem}; pip install -e ." for p in packages if p.problem and not p.extra],
    }
    try:
        report["devices"] = find_devices()
        _examine_files(report, data, runs)
    except ImportError as error:  # then nothing else can be looked at
        if not report["damaged"]:
            report["damaged"].append(f"{error.name} cannot be imported: {error}".splitlines()[0])
    return report


def _examine_files(report: dict[str, Any], data: Path, runs: Path) -> None:
    from datamodules.sources import publishers
    from scripts.checkup import inventory  # imports PyTorch, which may not be installed

    folders, known = inventory.find_folders(data), publishers()
    shipped = inventory.shipped()
    detector = {"path": str(data / "detector"), "problem": inventory.detector_problem(data / "detector")}
    report["bodies"] = inventory.find_bodies(data / "bodies")
    report["data_sets"] = [folder._asdict() for folder in folders]
    report["detector"] = detector
    report["checkpoints"] = [checkpoint._asdict() for checkpoint in (*shipped, *inventory.trained(runs))]
    found = (*report["data_sets"], *report["bodies"], *report["checkpoints"])
    damaged = [entry for entry in found if is_damaged(entry["problem"])]
    damaged += [detector] if detector["problem"].startswith("damaged") else []
    report["damaged"] += [f"{entry.get('path') or entry['name']}: {entry['problem']}" for entry in damaged]
    extras = {package["extra"] for package in report["packages"] if package["extra"]}
    there = readiness.Found(
        data=data,
        folders={folder.path: folder for folder in folders},
        data_sets=known,
        extras={extra: not any(p["problem"] for p in report["packages"] if p["extra"] == extra) for extra in extras},
        checkpoints=frozenset(checkpoint.name for checkpoint in shipped),
    )
    missing = _examine_experiments(report, there)
    names = {folder.dataset for folder in folders}
    missing += [readiness.missing_folder(data / name, name, there) for name in known if name not in names]
    if detector["problem"]:
        command = f"noise2pose prepare detector --output {detector['path']}"
        missing.append(readiness.Missing("detector", detector["path"], command))
    if len(report["bodies"]) == 1:
        missing.append(readiness.missing_body(data, "neutral"))
    missing += [readiness.missing_extra(extra) for extra in extras - {"dev"} if not there.extras[extra]]
    once = {lack.what: lack for lack in reversed(missing)}.values()  # the first of those that name the same thing
    once = sorted(once, key=lambda lack: (readiness.KINDS.index(lack.kind), lack.what))
    report["missing"] = [lack._asdict() for lack in once]


def _examine_experiments(report: dict[str, Any], found: readiness.Found) -> list[readiness.Missing]:
    """Adds the experiments to the report; returns what they lack."""
    experiments = list(_read(CONFIGS / "experiments", readiness.read_experiment, report))
    used = {experiment.data for experiment in experiments}
    data = [piece for piece in _read(CONFIGS / "data", readiness.read_data, report) if piece.data not in used]
    here = Path.cwd()
    for experiment in experiments:
        file = experiment.file
        found.experiments[experiment.name] = file.relative_to(here) if file.is_relative_to(here) else file
    report["experiments"], missing = [], []
    for folder, experiment in (*(("experiments", each) for each in experiments), *(("data", each) for each in data)):
        lacks = readiness.missing_for(experiment, found)
        missing += lacks
        report["experiments"].append(
            {
                "file": str(experiment.file.relative_to(CONFIGS / folder).with_suffix("")),
                "method": experiment.method,
                "data": experiment.data,
                "missing": [lack.what for lack in lacks],
            }
        )
    return missing


def _read(folder: Path, reader: Callable[[Path], Experiment], report: dict[str, Any]) -> Iterator[Experiment]:
    """Everything below a folder that can be read; the other files are reported as damaged."""
    for file in sorted(folder.rglob("*.yaml")):
        try:
            yield reader(file)
        except InputError as error:
            report["damaged"].append(str(error))


class Package(NamedTuple):
    """A requirement of the project."""

    name: str  # of the distribution
    extra: str  # that asks for it; empty for what every installation needs
    version: str  # installed one; empty if there is none
    problem: str  # why it cannot be used: it is missing, does not fit or, if that was tried, cannot be imported


def check_packages(imports: bool = False) -> list[Package]:
    """Every requirement of the installed project and what is wrong with it.

    Args:
        imports: import each of them as well, in a process of its own.
    """
    try:
        from packaging.requirements import Requirement

        lines = importlib.metadata.requires(_PROJECT) or []
    except (ImportError, importlib.metadata.PackageNotFoundError):
        return [Package(_PROJECT, "", "", "not installed")]
    packages = []
    for requirement in map(Requirement, lines):
        extra = re.search(r"extra == ['\"](.+?)['\"]", str(requirement.marker))
        problem = version = ""
        try:
            version = importlib.metadata.version(requirement.name)
            if not requirement.specifier.contains(version, prereleases=True):
                problem = f"version {version}, needs {requirement.specifier}"
        except importlib.metadata.PackageNotFoundError:
            problem = "not installed"
        packages.append(Package(requirement.name, extra[1] if extra else "", version, problem))
    if imports:
        problems = import_problems([package.name for package in packages if package.version])
        packages = [package._replace(problem=package.problem or problems.get(package.name, "")) for package in packages]
    return packages


def import_problems(distributions: list[str]) -> dict[str, str]:
    """Why distributions cannot be imported, by name; those without a module of their own are left out."""
    from packaging.utils import canonicalize_name

    modules: dict[str, str] = {}
    for module, owners in importlib.metadata.packages_distributions().items():
        for owner in owners:
            if module.isidentifier() and not module.startswith("_"):
                modules.setdefault(canonicalize_name(owner), module)
    names = {name: modules.get(canonicalize_name(name)) for name in distributions}
    wanted = {name: module for name, module in names.items() if module is not None}
    done = subprocess.run([sys.executable, "-c", _TRY, *wanted.values()], capture_output=True, text=True)
    problems = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    return {name: problems.get(module, "crashes when it is imported") for name, module in wanted.items()}


def find_devices() -> list[str]:
    """The devices that PyTorch can compute on, each with the name of its product.

    Raises:
        ImportError: if PyTorch is not installed, or broken.
    """
    try:
        import torch
    except OSError as error:  # one of its libraries
        raise ImportError(str(error), name="torch") from error

    found = []
    if torch.cuda.is_available():
        found = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps Apple GPU")
    return [*found, f"cpu, {torch.get_num_threads()} threads"]


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
