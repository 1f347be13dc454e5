"""Rows that were measured elsewhere."""

import json

import pytest

from noise2pose.errors import InputError
from scripts import ablations
from scripts.studies import diffpose, page, records, runs
from scripts.studies.diffpose import Measured
from tests.fake_runs import write_run


@pytest.fixture
def projects(tmp_path, monkeypatch):
    """Switches between two projects without runs."""

    def use(name: str):
        (tmp_path / name).mkdir(exist_ok=True)
        for module in (runs, diffpose):
            monkeypatch.setattr(module, "ROOT", tmp_path / name)
        return tmp_path / name

    return use


def _measure(row: str, seed: int, error: float) -> None:
    name = Measured(row, "people", seed).name
    write_run(runs.folder_of(name), mpjpe=error)
    runs.write_record(name, "best.json", {"epoch": 8, "epochs": 40})
    runs.write_record(name, "people.json", {"toy": {"mpjpe": {str(i): error + i for i in range(8)}}})


def test_the_page_of_added_rows_is_that_of_the_machine_that_measured_them(projects):
    there = projects("there")
    for seed in (0, 1):
        _measure("encoder", seed, 60.0 + seed)
        _measure("diffpose", seed, 55.0 + seed)
    assert ablations.main(["diffpose", "--table", "--splits", "people", "--output", str(there / "page.md")]) == 0
    here = projects("here")
    _measure("encoder", 2, 70.0)
    assert ablations.main(["diffpose", "--table", "--splits", "people", "--output", str(here / "page.md"),
                           "--add", str(there / "page.json")]) == 0  # fmt: skip
    of_two_seeds = page.write_page(here / "again.md", ["people"], [0, 1], quick=False)
    assert of_two_seeds + "\n" == (there / "page.md").read_text().replace("page.png", "again.png")
    assert "| 61.0 (60.0 to 70.0) |" in (here / "page.md").read_text()


def test_what_was_measured_here_stays(projects, tmp_path):
    projects("there")
    _measure("encoder", 0, 99.0)
    records.save(tmp_path / "rows.json", [Measured("encoder", "people", seed).name for seed in (0, 1)])
    assert len(json.loads((tmp_path / "rows.json").read_text())) == 1
    projects("here")
    _measure("encoder", 0, 60.0)
    records.add(tmp_path / "rows.json")
    assert runs.record(Measured("encoder", "people", 0).name, "people.json") == {
        "toy": {"mpjpe": {str(i): 60.0 + i for i in range(8)}}
    }


def test_added_rows_are_not_run_again_and_those_that_need_their_weights_say_so(projects, tmp_path, monkeypatch):
    projects("there")
    _measure("encoder", 0, 60.0)
    records.save(tmp_path / "rows.json", [Measured("encoder", "people", 0).name])
    projects("here")
    records.add(tmp_path / "rows.json")
    monkeypatch.setattr(runs, "run", lambda *_: pytest.fail("it was trained"))
    diffpose.measure(Measured("encoder", "people", 0), 1)
    with pytest.raises(InputError, match="row encoder .* was measured elsewhere, and its weights are not here: delete"):
        diffpose.measure(Measured("diffpose", "people", 0), 1)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "not the JSON file of an ablation"),
        ("[]", "expected the JSON file that `ablations` writes"),
        ('{"ablation_x/../../y": {}}', "expected the JSON file"),
        ('{"ablation_x": {"../fit.json": {}}}', "expected the JSON file"),
    ],
)
def test_other_files_are_refused(content, message, projects, tmp_path, capsys):
    projects("here")
    (tmp_path / "other.json").write_text(content)
    assert ablations.main(["diffpose", "--table", "--add", str(tmp_path / "other.json")]) == 2
    assert message in capsys.readouterr().err
    assert ablations.main(["diffpose", "--table", "--add", str(tmp_path / "none.json")]) == 2
    assert "none.json: No such file" in capsys.readouterr().err
