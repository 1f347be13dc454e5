"""Imports go one way: noise2pose <- datamodules, noise2pose <- methods, {methods, datamodules} <- scripts."""

import ast

import pytest

from tests.places import ROOT

ALLOWED = {
    "noise2pose": {"noise2pose"},
    "datamodules": {"noise2pose", "datamodules"},
    "methods": {"noise2pose", "methods"},
    "scripts": {"noise2pose", "datamodules", "methods"},
}
TRAINER = {"lightning", "pytorch_lightning"}


def imported(path):
    """Dotted names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_lies_before_it(room):
    rooms = set(ALLOWED)
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            top = name.split(".")[0]
            if top in rooms and not (room == "scripts" and top == "scripts"):
                assert top in ALLOWED[room], f"{path.relative_to(ROOT)} imports {name}"
            if room == "noise2pose":
                assert top not in TRAINER, f"{path.relative_to(ROOT)} knows the Trainer"


def test_a_method_never_imports_another_method():
    for folder in (path for path in (ROOT / "methods").iterdir() if (path / "__init__.py").is_file()):
        for path in folder.rglob("*.py"):
            for name in imported(path):
                parts = name.split(".")
                if parts[0] == "methods" and len(parts) > 1 and (ROOT / "methods" / parts[1]).is_dir():
                    assert parts[1] == folder.name, f"{path.relative_to(ROOT)} imports {name}"


def test_files_have_one_job():
    for room in ALLOWED:
        for path in (ROOT / room).rglob("*.py"):
            lines = len(path.read_text().splitlines())
            assert lines <= 320, f"{path.relative_to(ROOT)} has {lines} lines; a file over 300 has two jobs"
