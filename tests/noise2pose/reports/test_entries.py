"""Which runs are one row, and what the row shows."""

import json

import pytest

from noise2pose.metrics.keys import named
from noise2pose.reports.comparability import group_by_protocol, warnings
from noise2pose.reports.entries import differing_settings, entries_of, median
from noise2pose.reports.runs import load_run
from noise2pose.reports.tables import result_rows, text_report
from tests.fake_runs import write_run

(MPJPE,) = named("mpjpe")


@pytest.fixture
def make(tmp_path):
    def _make(folder, **changes):
        return load_run(write_run(tmp_path / folder, **changes))

    return _make


def test_seeds_of_one_configuration_are_a_row_with_the_median(make):
    runs = [make(f"mine_seed{seed}", seed=seed, mpjpe=error) for seed, error in enumerate((64.0, 60.0, 61.0))]
    (entry,) = entries_of(runs)
    assert entry.name == "mine" and entry.seeds == [0, 1, 2]
    assert entry.median("mpjpe") == 61.0 and entry.text(MPJPE) == "61.0 (60.0-64.0)"
    assert entry.middle.name == "mine_seed2"


@pytest.mark.parametrize("other", [{"config": "  init_args: {width: 2}\n"}, {"method": "else"}, {"num_hypotheses": 9}])
def test_what_differs_in_more_than_the_seed_is_another_row(make, other):
    assert len(entries_of([make("a_seed0"), make("a_seed1", seed=1, **other)])) == 2


def test_one_seed_twice_and_missing_configurations_are_no_row_of_several_runs(make):
    runs = [make("a"), make("b"), make("c", seed=1)]
    assert [len(entry.runs) for entry in entries_of(runs)] == [1, 1, 1]
    bare = [make("d"), make("e", seed=1)]
    for run in bare:
        (run.folder / "config.yaml").unlink()
    assert [len(entry.runs) for entry in entries_of(bare)] == [1, 1]


def test_weights_of_another_run_are_known_by_that_run_and_not_by_its_seed(make, tmp_path):
    for name, seed, width in (("first_s0", 0, 8), ("first_s1", 1, 8), ("wide_s1", 1, 16)):
        make(name, seed=seed, config=f"  init_args: {{width: {width}}}\n")

    def start(name, seed, weights):
        path = tmp_path / weights / "checkpoints" / "best.ckpt"
        return make(name, seed=seed, config=f"  init_args: {{context_checkpoint: {path}}}\n")

    same = [start("a_s0", 0, "first_s0"), start("a_s1", 1, "first_s1")]
    assert [len(entry.runs) for entry in entries_of(same)] == [2]
    assert [len(entry.runs) for entry in entries_of([same[0], start("b_s1", 1, "wide_s1")])] == [1, 1]
    assert differing_settings(entries_of(same)) == ({}, 0)


def test_seeds_that_were_trained_for_different_times_are_told(make, tmp_path):
    runs = [make("a_s0"), make("a_s1", seed=1)]
    fit = json.loads((tmp_path / "a_s1" / "fit.json").read_text())
    (tmp_path / "a_s1" / "fit.json").write_text(json.dumps({**fit, "epochs": 1}))
    (told,) = warnings(group_by_protocol([runs[0], load_run(tmp_path / "a_s1")]))
    assert "different numbers of epochs: a_s0 2, a_s1 1" in told


def test_settings_that_differ_have_a_column_each(make):
    shared = "trainer: {max_epochs: 5}\n"
    runs = [
        make("a", config=f"  init_args: {{width: 64, only_here: 3, depth: 2}}\n{shared}"),
        make("b", config=f"  init_args: {{width: 32, depth: 2}}\n{shared}"),
    ]
    columns, more = differing_settings(entries_of(runs))
    assert columns == {"width": ["64", "32"]} and more == 0
    assert "Settings that differ" in text_report(runs)


def test_rows_are_compared_over_the_people_that_they_share(make):
    errors = {f"P{i}": 50.0 + i for i in range(8)}
    worse = {person: error + 2.0 + 0.1 * i for i, (person, error) in enumerate(errors.items())}
    runs = [make("a", mpjpe=50.0, per_person={"toy": errors}), make("b", mpjpe=60.0, per_person={"toy": worse})]
    shuffled = dict(reversed(worse.items()))
    runs.append(make("c", mpjpe=61.0, per_person={"toy": {**shuffled, "else": 1.0}}))
    first, second, third = result_rows(group_by_protocol(runs)[0].entries, ["cpu, 2 threads"])
    assert first.cells["vs best"] == "best"
    assert (
        second.cells["vs best"] == third.cells["vs best"] == "+2.4" and second.cells["p"] == third.cells["p"] == "0.016"
    )


def test_few_people_give_no_p_and_none_no_column(make):
    few = {"toy": {f"P{i}": 50.0 + i for i in range(5)}}
    runs = [make("a", per_person=few), make("b", mpjpe=61.0, per_person=few)]
    assert "p" not in result_rows(group_by_protocol(runs)[0].entries, ["cpu, 2 threads"])[0].cells
    assert "vs best" not in text_report([make("c"), make("d")]).split("training")[0]


def test_a_value_that_one_seed_lacks_is_not_shown():
    assert median([1.0, None]) is None and median([]) is None and median([3.0, 1.0, 2.0]) == 2.0
