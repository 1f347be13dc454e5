"""The page of the ablations, of made-up runs."""

import pytest

from noise2pose.metrics.keys import named
from scripts.studies import page, runs
from scripts.studies.diffpose import Measured
from tests.fake_runs import write_run

ROWS = (("encoder", 65.0, 0), ("diffpose", 60.0, 10), ("calls_1", 61.0, 1), ("calls_5", 62.0, 5))
PEOPLE = [f"person_{i}" for i in range(8)]


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Two seeds of some rows: DiffPose is 5 mm better than the encoder, on everybody."""
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    for seed in (0, 1):
        for row, error, calls in (
            ("encoder", 65.0, 0),
            ("diffpose", 60.0, 10),
            ("calls_1", 61.0, 1),
            ("calls_5", 62.0, 5),
        ):
            name = Measured(row, "people", seed).name
            write_run(runs.folder_of(name), mpjpe=error + seed, num_steps=calls)
            runs.write_record(name, "best.json", runs.best_epoch(name, named("mpjpe")[0]) or {})
            errors = {person: error + seed + number for number, person in enumerate(PEOPLE)}
            sets = {
                "toy": {"mpjpe": dict(list(errors.items())[:5])},
                "other": {"mpjpe": dict(list(errors.items())[5:])},
            }
            runs.write_record(name, "people.json", sets)
    runs.write_record(Measured("diffpose", "people", 0).name, "changes.json", {"calls": {"calls_1, calls_5": 12.0}})
    return tmp_path


def test_rows_have_medians_ranges_and_comparisons_over_people(finished):
    text = page.write_page(finished / "page.md", ["people", "synthetic"], [0, 1, 2], quick=False)
    encoder, reference = (
        next(line for line in text.splitlines() if line.startswith(f"| {row} |")) for row in ("encoder", "diffpose")
    )
    assert "| 65.5 (65.0 to 66.0) |" in encoder and encoder.endswith("| 2 |")
    # Three comparisons over the people of both sets: 3 times 2 / 2^8.
    assert "| encoder | diffpose | +5.0 (p = 0.023, 8 people) |  |" in text.splitlines()
    assert "| 44.0 / 81.5 |" in reference and "| diffpose | diffpose |" not in text
    assert reference.endswith("| 2 of 2 | 2 |")  # the best of fake_runs' two epochs is the last
    assert "## people: toy" in text and "## synthetic" not in text
    assert "calls at least 12.0 mm (calls_1, calls_5)" in text
    assert (finished / "page.md").read_text() == text + "\n"


def test_the_picture_lies_beside_the_page(finished):
    text = page.write_page(finished / "page.md", ["people"], [0, 1], quick=False)
    assert "](page.png)" in text
    assert (finished / "page.png").read_bytes().startswith(b"\x89PNG")


def test_without_finished_rows_there_is_no_page(finished):
    assert page.write_page(finished / "none.md", ["synthetic"], [0], quick=False) == ""
    assert not (finished / "none.md").exists()
