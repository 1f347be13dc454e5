"""What publishers ship, and how it is read: layouts, containers, traps. Nothing here is used while training.

Every publisher is a module, or a package with a light `__init__.py` and a module `files`; what several share is in
`common`. The module, or the `__init__.py`, says as plain strings

  SUMMARY    what the data set is, in one line
  PAGE       where the data and its licence are asked for
  DOWNLOAD   address of the archive, only where everybody may fetch it
  SOURCE     what --source takes, only where that is not the folder that the publisher ships; with `...` behind it where
             --source takes several, which `plan` is given as a list

and the module, or `files`, has what `scripts/prepare.py` calls: `DESCRIPTION`, `add_options` and `plan`.
"""

import ast
from pathlib import Path
from typing import NamedTuple

_HOME = Path(__file__).parent
_SHARED = "common"


class Publisher(NamedTuple):
    """A data set that `scripts/prepare.py` knows.

    Attributes:
        name: of the command.
        module: full name of the module that has `DESCRIPTION`, `add_options` and `plan`.
        summary: what it is, in one line.
        page: where the data and its licence are asked for.
        download: address of the archive; empty where the data cannot be fetched without asking.
        source: what `--source` takes, in capitals, with `...` where it takes several.
    """

    name: str
    module: str
    summary: str
    page: str
    download: str
    source: str


def publishers() -> dict[str, Publisher]:
    """Every publisher by name. Read from the text of the files, since importing all of them takes seconds."""
    modules = [path for path in _HOME.glob("*.py") if path.stem != "__init__"]
    packages = [path for path in _HOME.glob("*/__init__.py") if path.parent.name != _SHARED]
    found = {path.stem: (path, path.stem) for path in modules}
    found |= {path.parent.name: (path, f"{path.parent.name}.files") for path in packages}
    return {name: _publisher(name, *found[name]) for name in sorted(found)}


def _publisher(name: str, path: Path, module: str) -> Publisher:
    said = {
        target.id: node.value.value
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    told = {key: str(said.get(key, default)) for key, default in (("DOWNLOAD", ""), ("SOURCE", "DIR"))}
    return Publisher(name, f"{__name__}.{module}", str(said["SUMMARY"]), str(said["PAGE"]), *told.values())
