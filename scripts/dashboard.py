"""A dashboard of runs: a report and a workspace of W&B where it can be reached, and the comparison page in any case."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from noise2pose.errors import InputError
from noise2pose.reports.pages import write_report
from noise2pose.reports.runs import Run, load_run, run_folder
from noise2pose.reports.wandb_report import build_report, build_workspace, shown_of

DESCRIPTION = """Writes a dashboard of runs that were logged to W&B: a report and a saved workspace of the project, with
bars of the tests and curves of the validations, grouped by experiment. The comparison page is written in any case, and
is all there is where W&B cannot be used.

examples:
  noise2pose dashboard runs/* --project noise2pose
  noise2pose dashboard runs/* --entity my-team --title "Lifting on CMU motion"
  WANDB_MODE=offline noise2pose dashboard runs/*

Online needs a login (wandb login) and pip install 'noise2pose[dashboard]'. Runs that were kept offline are uploaded
with `wandb sync` first.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or its name below runs/")
    parser.add_argument("--project", default="noise2pose", help="of W&B (default: noise2pose)")
    parser.add_argument("--entity", help="user or team of W&B (default: yours)")
    parser.add_argument("--title", default="noise2pose", help="of the report (default: noise2pose)")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder of the page (default: report)")
    arguments = parser.parse_args(args)
    try:
        runs = _loaded(arguments.runs)
        print(write_report(runs, arguments.output, arguments.title))
        if reason := _why_offline():
            print(f"no dashboard on W&B: {reason}", file=sys.stderr)
            return 0
        for address in _save(runs, arguments):
            print(address)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _loaded(names: Sequence[str]) -> list[Run]:
    """The runs among files and folders, each once."""
    kept = [name for name in names if run_folder(Path(name)) is not None or not Path(name).exists()]
    return list({run.folder.resolve(): run for run in map(load_run, kept or names)}.values())


def _why_offline() -> str | None:
    """Why W&B cannot be used; None if it can."""
    if os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
        return f"WANDB_MODE is {os.environ['WANDB_MODE']}"
    import requests
    import wandb

    if not wandb.login(prompt=False, verify=False):
        return "you are not logged in (wandb login)"
    server = wandb.setup().settings.base_url
    try:
        with suppress(requests.exceptions.SSLError):  # wandb may know other certificates
            requests.head(server, timeout=5)
    except requests.RequestException as error:
        return f"{server} cannot be reached ({type(error).__name__})"
    return None


def _save(runs: Sequence[Run], arguments: argparse.Namespace) -> list[str]:
    """Saves the report and the workspace; returns their addresses.

    Raises:
        InputError: if W&B refuses them, or wandb-workspaces is not installed.
    """
    import wandb

    entity = arguments.entity or wandb.Api().default_entity
    if not entity:
        raise InputError("--entity is missing, and your account has no default: give a user or team of W&B")
    about = (entity, arguments.project, arguments.title, shown_of(runs))
    built = [build_report(*about), build_workspace(*about)]
    try:
        for one in built:
            one.save()
    except Exception as error:  # wandb-workspaces raises whatever its requests raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"W&B did not save the dashboard of {entity}/{arguments.project}: {reason}") from error
    return [str(one.url) for one in built]


if __name__ == "__main__":
    sys.exit(main())
