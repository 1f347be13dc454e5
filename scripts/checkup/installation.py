"""Which of the project's requirements are installed, without importing more than is asked for."""

import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from typing import NamedTuple

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


class Package(NamedTuple):
    """A requirement of the project.

    Attributes:
        name: of the distribution.
        extra: that asks for it; empty for what every installation needs.
        version: installed one; empty if there is none.
        problem: why it cannot be used; empty if it is installed in a fitting version, and can be imported if that was
            tried.
    """

    name: str
    extra: str
    version: str
    problem: str


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
    modules: dict[str, str] = {}
    for module, owners in importlib.metadata.packages_distributions().items():
        for owner in owners:
            if module.isidentifier() and not module.startswith("_"):
                modules.setdefault(_normal(owner), module)
    wanted = {name: modules[_normal(name)] for name in distributions if _normal(name) in modules}
    done = subprocess.run([sys.executable, "-c", _TRY, *wanted.values()], capture_output=True, text=True)
    problems = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    return {name: problems.get(module, "crashes when it is imported") for name, module in wanted.items()}


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def python_version() -> str:
    """Of this interpreter, with its platform."""
    return f"{platform.python_version()} ({platform.system()} {platform.machine()})"


def devices() -> list[str]:
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
