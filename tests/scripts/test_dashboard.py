"""The dashboard of W&B, built without an account, and the page in its place where W&B cannot be used."""

import sys
import types

import pytest

from noise2pose.errors import InputError
from noise2pose.reports.runs import load_run
from noise2pose.reports.wandb_report import Shown, build_report, build_workspace, shown_of
from scripts import dashboard
from tests.fake_runs import write_run


class Built:
    """Stands for everything of wandb-workspaces: remembers how it was made."""

    saved: list["Built"] = []
    url = "https://wandb.example/view"

    def __init__(self, **given):
        self.__dict__.update(given)

    def save(self):
        Built.saved.append(self)


def kind(name):
    return type(name, (Built,), {})


@pytest.fixture
def packages(monkeypatch):
    """wandb-workspaces, as far as it is used."""
    names = ("P", "H1", "H2", "Runset", "PanelGrid", "Report", "BarPlot", "LinePlot", "MediaBrowser")
    reports = types.ModuleType("wandb_workspaces.reports.v2")
    workspaces = types.ModuleType("wandb_workspaces.workspaces")
    for module, kinds in ((reports, names), (workspaces, ("Workspace", "Section", "RunsetSettings"))):
        for name in kinds:
            setattr(module, name, kind(name))
    workspaces.Config = lambda name: name
    parents = {name: types.ModuleType(name) for name in ("wandb_workspaces", "wandb_workspaces.reports")}
    parents["wandb_workspaces"].workspaces = workspaces
    parents["wandb_workspaces.reports"].v2 = reports
    for name, module in {**parents, reports.__name__: reports, workspaces.__name__: workspaces}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Built, "saved", [])


def test_every_deployable_metric_has_a_panel_and_no_oracle_number(packages, tmp_path):
    (shown,) = shown_of([load_run(write_run(tmp_path / "a"))])
    assert shown.dataset == "toy" and shown.metrics[:2] == ("mpjpe", "pa_mpjpe") and "calibration/crps" in shown.metrics
    report = build_report("team", "project", "title", [shown])
    grids = [block for block in report.blocks if type(block).__name__ == "PanelGrid"]
    bars = [metric for panel in grids[0].panels for metric in panel.metrics]
    assert bars[0] == "test/toy/mpjpe" and not any("oracle" in metric for metric in bars)
    assert "Config('job') = 'test'" in grids[0].runsets[0].filters and "'fit'" in grids[1].runsets[0].filters
    workspace = build_workspace("team", "project", "title", [shown])
    assert [section.name for section in workspace.sections] == ["toy: tests", "toy: validation"]


def test_names_of_data_sets_do_not_end_the_filter(packages):
    report = build_report("team", "project", "title", [Shown('a" or Config("x") = "', ("mpjpe",))])
    grid = next(block for block in report.blocks if type(block).__name__ == "PanelGrid")
    assert grid.runsets[0].filters.endswith(r'Config(\"x\") = \""')


def test_the_real_package_takes_what_is_built():
    pytest.importorskip("wandb_workspaces")
    build_report("team", "project", "title", [Shown("toy", ("mpjpe", "pck"))])
    build_workspace("team", "project", "title", [Shown("toy", ("mpjpe", "pck"))])


def test_nothing_to_show_and_a_missing_package_are_said(packages, monkeypatch):
    with pytest.raises(InputError, match="nothing to show"):
        build_report("team", "project", "title", [Shown("toy", ())])
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports", None)
    with pytest.raises(InputError, match=r"pip install 'noise2pose\[dashboard\]'"):
        build_report("team", "project", "title", [Shown("toy", ("mpjpe",))])


def test_without_wandb_the_page_is_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = write_run(tmp_path / "a")
    assert dashboard.main([str(run), "--output", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr()
    assert (tmp_path / "report" / "index.html").is_file() and "index.html" in printed.out
    assert printed.err == "no dashboard on W&B: WANDB_MODE is offline\n"


def test_online_both_are_saved_and_a_refusal_is_one_line(packages, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dashboard, "_why_offline", lambda: None)
    command = [str(write_run(tmp_path / "a")), "--output", str(tmp_path / "report"), "--entity", "team"]
    assert dashboard.main(command) == 0
    assert [type(one).__name__ for one in Built.saved] == ["Report", "Workspace"]
    assert capsys.readouterr().out.splitlines()[1:] == [Built.url] * 2

    def refuse(self):
        raise RuntimeError("permission denied\nmore")

    monkeypatch.setattr(Built, "save", refuse)
    assert dashboard.main(command) == 2
    assert capsys.readouterr().err == "error: W&B did not save the dashboard of team/noise2pose: permission denied\n"
