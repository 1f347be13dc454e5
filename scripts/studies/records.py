"""What finished rows of a study measured, as one file: to put together the seeds of several machines."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from noise2pose.errors import InputError
from noise2pose.files import write_text
from scripts.studies import runs

# Of each run, what the pages of the studies read.
FILES = ("test.json", "fit.json", "best.json", "people.json", "changes.json", "report/numbers.json")


def save(path: Path, names: Iterable[str]) -> None:
    """Writes what the finished ones of some runs measured, a line a run.

    Args:
        path: JSON file, `{run: {file of its folder: content}}`.
        names: of runs; those without a test are left out.
    """
    found = {
        name: {file: content for file in FILES if (content := runs.record(name, file)) is not None} for name in names
    }
    lines = [
        f"{json.dumps(name)}: {json.dumps(of)}" for name, of in found.items() if of.keys() & {"test.json", FILES[-1]}
    ]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def add(path: Path) -> None:
    """Takes over the rows that were measured elsewhere; those that are finished here stay.

    Args:
        path: file that `save` wrote.

    Raises:
        InputError: if it is not one.
    """
    try:
        content: Any = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"--add {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"--add {path}: not the JSON file of an ablation ({error})") from error
    if not isinstance(content, dict) or not all(_is_run(name, of) for name, of in content.items()):
        raise InputError(f"--add {path}: expected the JSON file that `ablations` writes beside its page")
    for name, of in content.items():
        for file, values in of.items():
            if runs.record(name, file) is None:
                runs.write_record(name, file, values)


def _is_run(name: str, of: Any) -> bool:
    """Whether an entry can be one of `save`; names of other files or folders are none."""
    return name.startswith("ablation_") and Path(name).name == name and isinstance(of, dict) and of.keys() <= set(FILES)
