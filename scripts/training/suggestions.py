"""What somebody probably meant who mistyped an option, a key, a class or a configuration."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from jsonargparse import ArgumentParser

from scripts import ROOT

CONFIGS = ROOT / "configs"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like another, or that it abbreviates as `lr` does; None if there is none."""
    known = list(known)
    abbreviated = [each for each in known if "_" in each and "".join(word[:1] for word in each.split("_")) == name]
    return next(iter(difflib.get_close_matches(name, known, n=1) or abbreviated), None)


def nearest_option(option: str, known: Iterable[str]) -> str | None:
    """The option that was probably meant.

    Args:
        option: such as `--trainer.max_epoch` or `--modle.width`.
        known: options of the subcommand; those of method and data are not among them.
    """
    _, dot, rest = option.partition(".")
    pieces = [f"--{piece}{dot}{rest}" for piece in ("model", "data")] if rest else []
    return nearest(option, [*known, *pieces])


def options_of(class_path: str) -> list[str]:
    """Names of the options of a class; empty if there is no such class."""
    with suppress(Exception):  # whatever the module of the class raises
        module, _, name = class_path.rpartition(".")
        added = ArgumentParser().add_class_arguments(getattr(importlib.import_module(module), name), "its")
        return [option.removeprefix("its.") for option in added]
    return []


def nearest_class(class_path: str) -> str | None:
    """The class path that was probably meant, each of its parts the nearest to the one that was given."""
    found: list[str] = []
    thing: object = None
    for number, part in enumerate(class_path.split(".")):
        names = list(_inside(thing)) if number else [part]
        near = part if part in names else nearest(part, names)
        if near is None:
            return None
        found.append(near)
        try:
            thing = importlib.import_module(".".join(found))
        except ImportError:
            thing = getattr(thing, near, None)
            if thing is None:
                return None
    return ".".join(found)


def _inside(thing: object) -> Iterator[str]:
    """Names of what a module or class holds, also of modules that are not imported."""
    yield from getattr(thing, "__all__", None) or (name for name in dir(thing) if not name.startswith("_"))
    if isinstance(thing, ModuleType) and hasattr(thing, "__path__"):
        yield from (module.name for module in pkgutil.iter_modules(thing.__path__))


def missing_configuration(path: Path) -> str:
    """What to type instead of a configuration that does not exist: the nearest, where it lies."""
    shipped = {file.relative_to(CONFIGS.parent).as_posix(): file for file in sorted(CONFIGS.rglob("*.yaml"))}
    parts = path.parts
    start = max((number for number, part in enumerate(parts) if part == CONFIGS.name), default=0)
    wanted = Path(*parts[start:]).as_posix()
    stems = {file.stem: file for file in shipped.values()}
    found = shipped.get(wanted) or stems.get(path.stem)
    if found is None and (name := nearest(wanted, shipped)):
        found = shipped[name]
    if found is None and (name := nearest(path.stem, stems)):
        found = stems[name]
    if found is None:
        return f"the project's configurations are in {_shown(CONFIGS)}"
    return f"did you mean {_shown(found)}?"


def _shown(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
