"""What of the project's requirements is installed, without importing more than is asked for."""

import importlib.metadata
import json
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

_PROJECT = "noise2pose"
_FILE = Path(__file__).resolve().parents[2] / "pyproject.toml"
# Imports what its arguments name and prints what went wrong with each; a crash of one must not take this process along.
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


class Package(NamedTuple):
    """A requirement of the project.

    Attributes:
        name: of the distribution.
        extra: that asks for it; empty for what every installation needs.
        wanted: versions, such as `>=2.13,<3`.
        version: installed one; empty if there is none.
        problem: why it is of no use; empty if it is installed in a fitting version (and can be imported, if that was
            tried).
    """

    name: str
    extra: str
    wanted: str
    version: str
    problem: str


def requirements() -> list[tuple[str, str, str]]:
    """Name, versions and extra of every package, as `pyproject.toml` beside the code says, else the installation."""
    if _FILE.is_file():
        project = tomllib.loads(_FILE.read_text())["project"]
        lines = [(line, "") for line in project["dependencies"]]
        lines += [(line, extra) for extra, more in project["optional-dependencies"].items() for line in more]
    else:
        lines = []
        for line in importlib.metadata.requires(_PROJECT) or []:
            line, _, condition = line.partition(";")
            extra = re.search(r"extra == ['\"](.+?)['\"]", condition)
            lines.append((line, extra[1] if extra else ""))
    found = []
    for line, extra in lines:
        match = re.match(r"([\w.-]+)(?:\[.*?\])?\s*(.*)", line)
        assert match is not None, f"{line} is no requirement"
        found.append((match[1], match[2].strip(), extra))
    return found


def check_packages(imports: bool = False) -> list[Package]:
    """Every requirement and what is wrong with it.

    Args:
        imports: import each of them as well, in a process of its own.
    """
    packages = []
    for name, wanted, extra in requirements():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages.append(Package(name, extra, wanted, "", "not installed"))
            continue
        problem = "" if _fits(version, wanted) else f"version {version}, needs {wanted}"
        packages.append(Package(name, extra, wanted, version, problem))
    if not imports:
        return packages
    installed = [package.name for package in packages if package.version]
    problems = _import_problems(installed)
    return [package._replace(problem=package.problem or problems.get(package.name, "")) for package in packages]


def python_version() -> str:
    """Of this interpreter, with its platform."""
    return f"{platform.python_version()} ({platform.system()} {platform.machine()})"


def devices() -> list[str]:
    """Where PyTorch can compute: its names of devices, with the product behind each.

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


def _fits(version: str, wanted: str) -> bool:
    """Whether a version is among those wanted; true where it cannot be told."""
    try:
        from packaging.specifiers import SpecifierSet  # comes with Lightning
    except ImportError:
        return True
    return not wanted or SpecifierSet(wanted).contains(version, prereleases=True)


def _import_problems(distributions: list[str]) -> dict[str, str]:
    """Why distributions cannot be imported, by name; those without a module that can be are left out."""
    modules: dict[str, str] = {}
    for module, owners in importlib.metadata.packages_distributions().items():
        for owner in owners:
            if module.isidentifier() and not module.startswith("_"):
                modules.setdefault(_normal(owner), module)
    wanted = {name: modules[_normal(name)] for name in distributions if _normal(name) in modules}
    done = subprocess.run([sys.executable, "-c", _TRY, *wanted.values()], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    problems = dict(json.loads(line) for line in lines)
    return {name: problems.get(module, "crashes when it is imported") for name, module in wanted.items()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
