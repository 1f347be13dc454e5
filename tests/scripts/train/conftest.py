import pytest

from scripts.train import main
from tests.scripts.train.runs import TINY


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, with a small experiment."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


@pytest.fixture
def train(folder, capfd):
    """Runs the command in this process, which saves the imports; returns what it printed."""

    def run(*arguments, status=0):
        try:
            returned = main(list(arguments))
        except SystemExit as stop:
            returned = stop.code
        captured = capfd.readouterr()
        assert returned == status, captured.err
        return captured.out + captured.err

    return run
