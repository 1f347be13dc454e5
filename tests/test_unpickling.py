"""No file is unpickled but by the restricted readers: a list of every place that could, to be read when it grows."""

import ast
from functools import cache

from tests.places import ROOT

# Where a pickle is read: the restricted reader itself; a file that the same command wrote, by its digest; and PyTorch's
# own restricted reader.
ALLOWED = {
    ("pickle", "loads"): {"datamodules/rendered/cache.py"},
    ("torch", "load"): {"methods/checkpoints.py", "methods/official_weights.py", "scripts/checkup/inventory.py"},
    ("yaml", "load"): {"noise2pose/reports/options.py"},  # the safe loader, in C
}
READERS = {"pickle", "torch", "joblib", "dill", "cloudpickle", "shelve", "marshal", "yaml"}
NEVER = {("", "eval"), ("", "exec"), ("os", "system"), ("os", "popen")}


@cache
def calls():
    """(file and line, file, module, function, keywords) of every call `module.function(...)` of the packages."""
    found = []
    for room in ("noise2pose", "methods", "datamodules", "scripts"):
        for path in (ROOT / room).rglob("*.py"):
            file = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                called = node.func
                module = getattr(called.value, "id", "an expression") if isinstance(called, ast.Attribute) else ""
                name = getattr(called, "attr", getattr(called, "id", ""))
                keywords = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
                found.append((f"{file}:{node.lineno}", file, module, name, keywords))
    return found


def test_pickles_are_read_by_restricted_readers_alone():
    for where, file, module, name, keywords in calls():
        if module in READERS and name in ("load", "loads", "unsafe_load", "full_load", "open"):
            assert file in ALLOWED.get((module, name), ()), where
            assert module != "torch" or keywords.get("weights_only") is True, where


def test_arrays_are_read_without_objects_and_nothing_is_evaluated():
    for where, _, module, name, keywords in calls():
        assert keywords.get("allow_pickle") is not True and keywords.get("shell") is not True, where
        assert (module, name) not in NEVER, where


def test_archives_are_never_unpacked_to_paths_that_they_name():
    assert not [where for where, _, _, name, _ in calls() if name in ("extractall", "unpack_archive")]
