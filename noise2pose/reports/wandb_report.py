"""A dashboard of W&B for a project: the report and the workspace that show what the comparison page shows.

`wandb-workspaces` builds them; nothing is sent before `save`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from noise2pose.errors import InputError
from noise2pose.metrics.keys import CALIBRATION, POSE_ERRORS
from noise2pose.reports.runs import Run

_GROUPED = "config.experiment"  # so that seeds are one line
_NOTE = (
    "One colour an experiment; lines and bars are medians over its seeds, with the range. Compare rows of one data "
    "set, protocol and 2-D source only: `dataset`, `protocol` and `input_2d` of each run's configuration say which. "
    "Numbers under `oracle/` were chosen with the ground truth and are not shown here."
)


@dataclass(frozen=True)
class Shown:
    """What a dashboard shows of a data set.

    Attributes:
        dataset: of the evaluation.
        metrics: keys after `val/<dataset>/` and `test/<dataset>/`, the main error first.
    """

    dataset: str
    metrics: tuple[str, ...]


def shown_of(runs: Iterable[Run]) -> list[Shown]:
    """The data sets that runs were validated and tested on, with every deployable metric that one of them has."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for tested in run.evaluation_sets():
            found.setdefault(tested.protocol.dataset, set()).update(tested.metrics(), tested.calibration())
        for dataset, curves in run.curves.items():
            if dataset:
                found.setdefault(dataset, set()).update(curves)
    names = [key.name for key in (*POSE_ERRORS, *CALIBRATION)]
    return [Shown(dataset, tuple(name for name in names if name in metrics)) for dataset, metrics in found.items()]


def build_report(entity: str, project: str, title: str, shown: Iterable[Shown]) -> Any:
    """The report, not saved yet.

    Args:
        entity: user or team of W&B.
        project: of W&B.
        title: of the report.
        shown: at least one data set.

    Raises:
        InputError: if wandb-workspaces is not installed, or there is nothing to show.
    """
    reports, _ = _packages()
    shown = _something(shown)
    blocks: list[Any] = [reports.P(text=_NOTE)]
    for each in shown:
        trained, tested = (
            reports.Runset(
                entity=entity,
                project=project,
                name=name,
                filters=f"Config('job') = '{job}' and Config('dataset') = {_quoted(each.dataset)}",
                groupby=[_GROUPED],
            )
            for name, job in (("trainings", "fit"), ("tests", "test"))
        )
        panels = _panels(reports, each)
        blocks += [reports.H1(text=each.dataset), reports.H2(text="Tests")]
        blocks += [reports.PanelGrid(runsets=[tested], panels=panels["test"]), reports.H2(text="Validation")]
        blocks.append(reports.PanelGrid(runsets=[trained], panels=panels["val"]))
    return reports.Report(entity=entity, project=project, title=title, blocks=blocks, width="fluid")


def build_workspace(entity: str, project: str, title: str, shown: Iterable[Shown]) -> Any:
    """The workspace, a saved view of the project; arguments and errors as of `build_report`."""
    reports, workspaces = _packages()
    sections = []
    for each in _something(shown):
        panels = _panels(reports, each)
        sections.append(workspaces.Section(name=f"{each.dataset}: tests", panels=panels["test"], is_open=True))
        sections.append(workspaces.Section(name=f"{each.dataset}: validation", panels=panels["val"], is_open=True))
    grouped = [workspaces.Config(_GROUPED.removeprefix("config."))]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=title,
        sections=sections,
        runset_settings=workspaces.RunsetSettings(groupby=grouped),
    )


def _panels(reports: Any, shown: Shown) -> dict[str, list[Any]]:
    """Panels of the tests and of the validations of a data set."""
    tests, curves = [], []
    keys = {key.name: key for key in (*POSE_ERRORS, *CALIBRATION)}
    for name in shown.metrics:
        title = f"{keys[name].caption} ({keys[name].unit})"
        grouped = {"groupby": _GROUPED, "groupby_aggfunc": "median", "groupby_rangefunc": "minmax"}
        tests.append(reports.BarPlot(title=title, metrics=[f"test/{shown.dataset}/{name}"], **grouped))
        curves.append(
            reports.LinePlot(title=title, x="trainer/global_step", y=[f"val/{shown.dataset}/{name}"], **grouped)
        )
    curves.append(reports.MediaBrowser(title="pictures", media_keys=["val/pictures"]))
    return {"test": tests, "val": curves}


def _something(shown: Iterable[Shown]) -> list[Shown]:
    found = [each for each in shown if each.metrics]
    if not found:
        raise InputError("no run has been validated or tested yet, so there is nothing to show")
    return found


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _packages() -> tuple[Any, Any]:
    try:
        reports, workspaces = (import_module(f"wandb_workspaces.{name}") for name in ("reports.v2", "workspaces"))
    except ImportError as error:
        raise InputError("wandb-workspaces is not installed: pip install 'noise2pose[dashboard]'") from error
    return reports, workspaces
