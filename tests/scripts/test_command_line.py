"""`noise2pose COMMAND`: each command is found, says how it was called, and imports no more than it needs."""

import importlib
import subprocess
import sys
import tomllib

import pytest

from scripts import command_line
from scripts.command_line import COMMANDS
from scripts.completion import whole_parser
from tests.places import ROOT

# Commands that explain themselves without PyTorch.
LIGHT = (
    "ablations",
    "annotator-report",
    "benchmark",
    "compare",
    "demo",
    "doctor",
    "export",
    "fit-gmm",
    "import",
    "predict",
    "prepare",
    "sweep",
    "train",
    "view",
)


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls the installed command in this process; returns status and output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["/somewhere/bin/noise2pose", *arguments])
        try:
            status = command_line.main()
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def test_the_help_lists_every_command_with_an_example(call):
    for arguments in ([], ["--help"]):
        status, output = call(*arguments)
        assert status == 0
        for name, command in COMMANDS.items():
            assert f"  {name} " in output and command.about in output
            assert f"noise2pose {name} {command.example}".strip() in output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(call, name):
    status, output = call(name, "--help")
    assert status == 0 and f"usage: noise2pose {name} " in output


def test_a_command_that_does_not_exist_is_answered_with_the_nearest(call):
    assert call("comapre", "runs/a") == (
        2, "error: there is no command comapre; did you mean compare? All: noise2pose --help\n"
    )  # fmt: skip
    assert "did you mean fit-gmm?" in call("fit_gmm")[1]


def test_the_exit_status_is_that_of_the_command(call):
    assert call("compare", "no_such_run")[0] == 2
    assert call("train", "fit") == (
        2,
        "error: --model is missing: give an experiment with -c configs/experiments/NAME.yaml\n"
        "all options: noise2pose train --help\n",
    )


def test_the_command_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    module, _, function = project["project"]["scripts"]["noise2pose"].partition(":")
    assert getattr(importlib.import_module(module), function) is command_line.main
    assert "scripts*" in project["tool"]["setuptools"]["packages"]["find"]["include"]
    for command in COMMANDS.values():
        assert (ROOT / "scripts" / f"{command.script}.py").is_file()


@pytest.mark.parametrize("name", [None, *LIGHT])
def test_help_imports_no_more_than_it_needs(name):
    code = "import sys; from scripts.command_line import main; sys.argv = ['noise2pose', *sys.argv[1:]]; main()"
    command = [sys.executable, "-X", "importtime", "-c", code, *([name] if name else []), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "usage: noise2pose" in done.stdout
    assert not imported & ({"torch", "lightning"} if name else {"torch", "lightning", "numpy"})


def test_completion_knows_commands_options_choices_and_files(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["noise2pose"])
    parser = whole_parser({"bash": "files"})

    def sub(parser, name):
        return next(action for action in parser._actions if isinstance(action.choices, dict)).choices[name]

    def option(parser, name):
        return next(action for action in parser._actions if name in action.option_strings)

    assert all(sub(parser, name) for name in COMMANDS)
    fit = sub(sub(parser, "train"), "fit")
    assert option(fit, "--config").complete == {"bash": "files"} and option(fit, "--trainer.max_epochs")
    threedpw = sub(sub(parser, "prepare"), "threedpw")
    assert option(threedpw, "--source").complete == {"bash": "files"}
    assert "cuda" in option(sub(parser, "benchmark"), "--device").choices
