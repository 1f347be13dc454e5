"""Imports go one way: noise2pose <- datamodules, noise2pose <- methods, {methods, datamodules} <- scripts."""

import ast
import re

import pytest

from tests.places import ROOT

ALLOWED = {
    "noise2pose": {"noise2pose"},
    "datamodules": {"noise2pose", "datamodules"},
    "methods": {"noise2pose", "methods"},
    "scripts": {"noise2pose", "datamodules", "methods"},
}
TRAINER = {"lightning", "pytorch_lightning"}
SHARED = {"networks"}  # folders below methods/ that are no method's
NO_DATA_SET = {"__init__", "__pycache__", "common"}


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


def test_the_kit_names_no_method_no_data_set_and_no_script():
    """Comments and docstrings may cite them; `noise2pose COMMAND` is how the kit names what a user has to type."""
    methods = {path.parent.name for path in (ROOT / "methods").glob("*/README.md")}
    data_sets = {path.stem for path in (ROOT / "datamodules" / "sources").iterdir() if path.stem not in NO_DATA_SET}
    assert {"hmr"} <= methods and {"coco", "human36m"} <= data_sets
    for path in sorted((ROOT / "noise2pose").rglob("*.py")):
        text = path.read_text()
        assert not re.search(r"\b(scripts|configs)/|\b(methods|datamodules|scripts)\.\w", text), path
        words = {word for string in strings(ast.parse(text)) for word in re.findall(r"\w+", string)}
        if path.parent.name in ("keypoints", "export"):
            words -= {"coco", "bvh"}  # formats of files
        assert not words & (methods | data_sets), f"{path.relative_to(ROOT)} names {words & (methods | data_sets)}"


def strings(tree):
    """Names and texts of a file, without its docstrings."""
    stated = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in stated:
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id


def test_a_method_never_imports_another_method():
    folders = {path.name for path in (ROOT / "methods").iterdir() if (path / "__init__.py").is_file()}
    for folder in folders:
        for path in (ROOT / "methods" / folder).rglob("*.py"):
            for name in imported(path):
                parts = name.split(".")
                if parts[0] == "methods" and len(parts) > 1 and parts[1] in folders - SHARED:
                    assert parts[1] == folder, f"{path.relative_to(ROOT)} imports {name}"


def test_files_have_one_job():
    for room in ALLOWED:
        for path in (ROOT / room).rglob("*.py"):
            lines = len(path.read_text().splitlines())
            assert lines <= 320, f"{path.relative_to(ROOT)} has {lines} lines; a file over 300 has two jobs"
