"""Searches of options: every trial once, interrupted ones first, and the page of the best."""

import pytest
import yaml

from noise2pose.errors import InputError
from scripts import sweep
from scripts.train import main as train_main
from tests.places import ROOT
from tests.scripts.train.runs import TINY

SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
SEARCH = """
metric: {name: val/tiny/mpjpe, goal: minimize}
parameters:
  model.learning_rate: {distribution: log_uniform_values, min: 0.0001, max: 0.01}
  model.width: {values: [16, 32]}
command: ["${env}", "${program}", fit, -c, tiny.yaml, -c, configs/loggers/wandb.yaml, "--name=${x}", "${args}"]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "search.yaml").write_text(SEARCH)
    return tmp_path


def stand_in(monkeypatch, folder, statuses=()):
    """Instead of trainings: notes the options, and writes a curve whose best value is a tenth of the width."""
    seen, left = [], dict(statuses)

    def train(verb, *arguments):
        seen.append((verb, *arguments))
        run = folder / "runs" / arguments[arguments.index("--name") + 1] if verb == "fit" else None
        if run is not None:
            run.mkdir(parents=True, exist_ok=True)
            width = next(int(word.partition("=")[2]) for word in arguments if word.startswith("--model.width="))
            (run / "metrics.csv").write_text(f"step,val/tiny/mpjpe\n1,{width}\n2,{width / 10}\n3,{width}\n4,\n")
        return left.pop(len(seen) - 1, 0)

    monkeypatch.setattr(sweep, "train", train)
    monkeypatch.setattr(sweep.compare, "main", lambda args: seen.append(("compare", *args)) or 0)
    return seen


def test_the_best_trials_are_tested_and_compared_and_nothing_is_drawn_twice(folder, monkeypatch, capsys):
    seen = stand_in(monkeypatch, folder)
    assert sweep.main(["search.yaml", "--trials", "5", "--tested", "2", "--", "--trainer.max_epochs", "1"]) == 0
    fits = [each for each in seen if each[0] == "fit"]
    assert len(fits) == 5 and len(set(fits)) == 5
    assert fits[0][1:5] == ("-c", "tiny.yaml", "--trainer.max_epochs", "1")
    assert fits[0][-4:] == ("--name", "sweep_search/trial_0000", "--ckpt_path", "auto")
    widths = {each[-3]: next(word for word in each if "width" in word) for each in fits}
    page = seen[-1]
    best = [path.removeprefix("runs/") for path in page[1:3]]
    assert page[0] == "compare" and [widths[name] for name in best].count("--model.width=16") >= 1
    assert [each[2] for each in seen if each[0] == "test"] == [f"runs/{name}/config.yaml" for name in best]
    assert "--model.width=16" in capsys.readouterr().out.splitlines()[-1]
    assert sweep.main(["search.yaml", "--trials", "7", "--tested", "0"]) == 0
    more = [each for each in seen if each[0] == "fit"][5:]
    assert [each[-3] for each in more] == ["sweep_search/trial_0005", "sweep_search/trial_0006"]
    assert not {each[3:5] for each in more} & {each[5:7] for each in fits}


def test_an_interrupted_trial_goes_on_with_its_options_and_a_failed_one_is_left_out(folder, monkeypatch, capsys):
    seen = stand_in(monkeypatch, folder, {1: 143, 3: 2})
    assert sweep.main(["search.yaml", "--trials", "3", "--tested", "9"]) == 143
    assert sweep.main(["search.yaml", "--trials", "3", "--tested", "9"]) == 0
    fits = [each for each in seen if each[0] == "fit"]
    assert fits[1] == fits[2] and [each[-3][-4:] for each in fits] == ["0000", "0001", "0001", "0002"]
    assert "the best of 2 trials" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, message",
    [
        ("parameters: 3", "expected metric, parameters and command of a W&B sweep"),
        (SEARCH.replace("minimize", "smaller"), "metric.goal is smaller"),
        (SEARCH.replace("0.0001", "1e-4"), "parameters.model.learning_rate: expected value, values, or numbers"),
        (SEARCH.replace("log_uniform_values", "beta"), "distribution is beta"),
    ],
)
def test_what_is_no_search_is_refused(folder, text, message):
    (folder / "search.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        sweep.read_search(folder / "search.yaml")


def test_a_metric_that_no_curve_has_is_named(folder, monkeypatch, capsys):
    stand_in(monkeypatch, folder)
    (folder / "search.yaml").write_text(SEARCH.replace("val/tiny/mpjpe", "val/tiny/pve"))
    assert sweep.main(["search.yaml", "--trials", "1"]) == 2
    assert "has no val/tiny/pve, which metric.name asks for; it has val/tiny/mpjpe" in capsys.readouterr().err


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_shipped_searches_name_options_of_their_experiments(path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    search = sweep.read_search(path)
    assert search.arguments[0] == "fit" and "configs/loggers/wandb.yaml" not in search.arguments
    lowest = {key: values.get("min", (values.get("values") or [None])[0]) for key, values in search.parameters.items()}
    options = [f"--{key}={value}" for key, value in lowest.items()]
    with pytest.raises(SystemExit, match="0"):
        train_main([*search.arguments, *options, "--print_config"])
    config = yaml.safe_load(capfd.readouterr().out)
    for key, value in lowest.items():
        assert config["model"]["init_args"][key.removeprefix("model.")] == value, key
