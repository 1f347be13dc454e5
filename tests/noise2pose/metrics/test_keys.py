"""The list of metric keys: that it agrees with the classes, is documented, and is the only one."""

import ast
import doctest

import pytest

from noise2pose.metrics import pose_errors
from noise2pose.metrics.keys import CALIBRATION, POSE_ERRORS, main_error, named, oracle_key
from tests.places import ROOT

KEYS = {key.name for key in (*POSE_ERRORS, *CALIBRATION)}


@pytest.mark.parametrize("key", POSE_ERRORS, ids=lambda key: key.name)
def test_a_key_agrees_with_its_class(key):
    metric = getattr(pose_errors, key.metric)
    assert metric.higher_is_better == (key.best == "max")
    assert {"mm": 1000.0, "mm/frame": 1000.0, "%": 100.0, "px": 1.0}[key.unit] == metric.scale


def test_every_key_is_documented():
    text = (ROOT / "docs" / "protocols.md").read_text()
    for name in (*KEYS, oracle_key("best_of_N", "mpjpe"), oracle_key("best_of_N", "mpjpe", null=True)):
        assert f"`{name}`" in text, name


def test_no_other_file_lists_the_keys():
    for room in ("noise2pose", "methods", "datamodules", "scripts"):
        for path in (ROOT / room).rglob("*.py"):
            strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
            named_here = KEYS & strings
            assert len(named_here) <= 3 or path.name == "keys.py", f"{path.relative_to(ROOT)} lists {named_here}"


def test_runs_are_ranked_by_the_joints_error():
    assert [main_error(dimensions).name for dimensions in (3, 2)] == ["mpjpe", "mpjpe_2d"]
    assert named("pve", "auc")[0].caption == "PVE" and named("pve", "auc")[1].text(50.25) == "50.2"


def test_the_examples_of_the_classes():
    assert doctest.testmod(pose_errors) == (0, 4)
