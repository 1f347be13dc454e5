"""Search options of a training with optuna, and write the page that compares the trials."""

import argparse
import csv
import io
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from noise2pose.errors import InputError
from noise2pose.files import lock
from scripts import ROOT, compare

DESCRIPTION = """Search options of a training with optuna, and write the page that compares the best trials.

  pip install -e '.[sweeps]'
  noise2pose sweep configs/sweeps/diffpose.yaml --trials 20
  noise2pose sweep configs/sweeps/diffpose.yaml --trials 20 --name long -- --trainer.max_epochs 80 --seed_everything 1

The file is one of W&B, and `wandb sweep FILE` runs the same search with a server. Trials are the runs NAME/trial_0000
and so on below runs/, where optuna keeps the search as study.db (SQLite). The command can be stopped and repeated: the
trial that was interrupted goes on first. Options behind -- are given to every trial.
"""
_WANDB = "configs/loggers/wandb.yaml"
_STOPPED = 128  # exit status from which on a signal ended the training


class Search(NamedTuple):
    """A search, as a file describes it."""

    metric: str  # column of metrics.csv
    maximize: bool
    parameters: dict[str, dict[str, Any]]
    arguments: list[str]  # of every training


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    given = list(sys.argv[1:] if args is None else args)
    cut = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help="the search, such as configs/sweeps/diffpose.yaml")
    parser.add_argument("--trials", type=int, default=20, help="trained in all, with those of before (default: 20)")
    parser.add_argument("--name", help="of the folder below runs/ (default: sweep_FILE)")
    parser.add_argument("--tested", type=int, default=3, help="of the best, for the page (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the search (default: 0)")
    parser.add_argument("--output", type=Path, help="folder of the page (default: report/NAME)")
    arguments = parser.parse_args(given[:cut])
    name = arguments.name or f"sweep_{arguments.file.stem}"
    try:
        search = read_search(arguments.file)
        search.arguments.extend(given[cut + 1 :])
        with lock(Path("runs") / name, "wait for its end, or take another --name"):
            study = open_study(Path("runs") / name, search, arguments.seed)
            if status := run_trials(study, search, name, arguments.trials):
                return status
            return finish(study, name, arguments.tested, arguments.output or Path("report") / name)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def read_search(path: Path) -> Search:
    """Reads a search in W&B's format.

    Raises:
        InputError: if it is missing or no search, or asks for what cannot be done here; the key is named.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        metric, goal = str(tree["metric"]["name"]), tree["metric"]["goal"]
        parameters = {str(key): dict(values) for key, values in tree["parameters"].items()}
        command = [str(word) for word in tree["command"]]
        start = command.index("${program}") + 1
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: expected metric, parameters and command of a W&B sweep ({error!r})") from error
    if goal not in ("minimize", "maximize"):
        raise InputError(f"{path}: metric.goal is {goal}, expected minimize or maximize")
    for key, values in parameters.items():
        drawn_by(values, f"{path}: parameters.{key}")
    kept = [word for word in command[start:] if not word.startswith(("${", "--name="))]
    if _WANDB in kept:  # trials are compared here
        del kept[kept.index(_WANDB) - 1 : kept.index(_WANDB) + 1]
    return Search(metric, goal == "maximize", parameters, kept)


def drawn_by(values: dict[str, Any], where: str) -> Callable[[Any, str], Any]:
    """How optuna draws a parameter: a function of a trial and the parameter's name.

    Raises:
        InputError: if its distribution is none of those that are known here.
    """
    kind, low, high = values.get("distribution"), values.get("min"), values.get("max")
    if "value" in values:
        return lambda trial, name: trial.suggest_categorical(name, [values["value"]])
    if isinstance(values.get("values"), list) and values["values"]:
        return lambda trial, name: trial.suggest_categorical(name, values["values"])
    if isinstance(low, int) and isinstance(high, int) and kind in (None, "int_uniform") and low <= high:
        return lambda trial, name: trial.suggest_int(name, low, high)
    if not isinstance(low, int | float) or not isinstance(high, int | float) or low > high:
        raise InputError(f"{where}: expected value, values, or numbers min and max (in YAML 1.0e-4, not 1e-4)")
    if kind not in (None, "uniform", "log_uniform_values") or (kind == "log_uniform_values" and low <= 0):
        raise InputError(f"{where}.distribution is {kind}, expected uniform, int_uniform or log_uniform_values above 0")
    return lambda trial, name: trial.suggest_float(name, low, high, log=kind == "log_uniform_values")


def open_study(folder: Path, search: Search, seed: int) -> Any:
    """Opens the search of a folder, or begins it.

    Raises:
        InputError: if optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("sweep needs optuna: pip install -e '.[sweeps]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{folder}/study.db"
    study = optuna.create_study(
        storage=storage,
        study_name="sweep",
        direction="maximize" if search.maximize else "minimize",
        load_if_exists=True,
    )
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))  # or it would draw the same ones again
    return study


def run_trials(study: Any, search: Search, name: str, number: int) -> int:
    """Trains trials until `number` were; returns the exit status, which is that of a training that a signal ended.

    A trial that fails is printed by the training, and counts.
    """
    from optuna.trial import TrialState

    interrupted = {trial.number: trial.params for trial in study.get_trials(states=[TrialState.RUNNING])}
    interrupted = {trial: chosen for trial, chosen in interrupted.items() if chosen.keys() == search.parameters.keys()}
    for stale in study.get_trials(states=[TrialState.RUNNING]):
        if stale.number not in interrupted:
            study.tell(stale.number, state=TrialState.FAIL)
    while interrupted or len(study.trials) < number:
        if interrupted:
            trial, chosen = interrupted.popitem()
        else:
            asked = study.ask()
            trial = asked.number
            chosen = {key: drawn_by(values, key)(asked, key) for key, values in search.parameters.items()}
        run = f"{name}/trial_{trial:04d}"
        options = [f"--{key}={value}" for key, value in chosen.items()]
        status = train(*search.arguments, *options, "--name", run, "--ckpt_path", "auto")
        if status >= _STOPPED or status < 0:
            print(f"stopped in trial {trial}; the same command goes on with it", file=sys.stderr)
            return status
        if status:
            study.tell(trial, state=TrialState.FAIL)
            continue
        value = best_value(Path("runs") / run / "metrics.csv", search)
        study.tell(trial, value)
        print(f"trial {trial}: {search.metric} {value:.4g} with {shlex.join(options)}", flush=True)
    return 0


def best_value(path: Path, search: Search) -> float:
    """The best value of the metric in the curve of a run.

    Raises:
        InputError: if the curve has no such column.
    """
    rows = csv.DictReader(io.StringIO(path.read_text()))
    found = [float(row[search.metric]) for row in rows if row.get(search.metric)]
    if not found:
        known = ", ".join(key for key in rows.fieldnames or [] if key.startswith("val/"))
        raise InputError(f"{path} has no {search.metric}, which metric.name asks for; it has {known}")
    return max(found) if search.maximize else min(found)


def finish(study: Any, name: str, number: int, output: Path) -> int:
    """Tests the best trials and writes the page that compares them; returns the exit status."""
    from optuna.trial import TrialState

    sign = -1.0 if study.direction.name == "MAXIMIZE" else 1.0
    done = sorted(study.get_trials(states=[TrialState.COMPLETE]), key=lambda trial: sign * trial.value)
    if not done:
        raise InputError(f"no trial of runs/{name} came to its end")
    runs = [Path("runs") / name / f"trial_{trial.number:04d}" for trial in done[:number]]
    for run in runs:
        if not (run / "test.json").is_file() and (
            status := train("test", "-c", f"{run}/config.yaml", "--ckpt_path", "best")
        ):
            return status
    print(f"the best of {len(done)} trials: {shlex.join(f'--{k}={v}' for k, v in done[0].params.items())}")
    return compare.main([*map(str, runs), "--output", str(output), "--title", f"The best trials of {name}"])


def train(verb: str, *arguments: str) -> int:
    """Runs a training or a test as a user would; returns its exit status."""
    command = [str(ROOT / "scripts" / "train.py"), verb, *arguments]
    print(f"\n$ noise2pose train {verb} {shlex.join(arguments)}", flush=True)
    return subprocess.call([sys.executable, *command])


if __name__ == "__main__":
    sys.exit(main())
