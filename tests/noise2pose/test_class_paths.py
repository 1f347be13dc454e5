"""Files name classes; only those that are expected are imported and called."""

import sys
import webbrowser

import pytest

from datamodules.base import PoseDataModule
from methods.base import PoseMethod
from methods.checkpoints import make_method
from methods.diffpose import DiffPose
from noise2pose.class_paths import named_class


def test_a_subclass_is_found():
    assert named_class("methods.diffpose.DiffPose", PoseMethod) is DiffPose


@pytest.mark.parametrize(
    "path",
    [
        "os.system", "subprocess.Popen", "builtins.eval", "methods.diffpose.DiffPose", "torch.nn.Linear", "torch.load",
        "DiffPose", "", ".", "a..B", "datamodules.base.", "datamodules.base.PoseDataModule.load", "os;x.Y", None, 3,
    ],
)  # fmt: skip
def test_anything_else_is_refused(path):
    with pytest.raises((TypeError, ImportError), match="expected a subclass|No module"):
        named_class(path, PoseDataModule)


def test_modules_of_python_are_not_imported(monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda *_: pytest.fail("a browser was opened"))
    sys.modules.pop("antigravity", None)
    with pytest.raises(TypeError, match="is a part of Python"):
        make_method("antigravity.Method", {})
    assert "antigravity" not in sys.modules
