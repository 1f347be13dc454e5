"""`metrics.csv`, also of runs that are killed while they write it."""

from pathlib import Path

import pytest

from methods.callbacks import RunCSVLogger


def write(folder, step, **values):
    logger = RunCSVLogger(str(folder))
    logger.begin(step)
    logger.log_metrics(values, step)
    logger.save()
    return (folder / "metrics.csv").read_text().splitlines()


def test_a_part_of_a_row_is_dropped_when_a_killed_run_is_resumed(tmp_path):
    write(tmp_path, 5, loss=1.5)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("0.25,6")  # of 60
    assert write(tmp_path, 10, loss=0.5) == ["loss,step", "1.5,5", "0.5,10"]


def test_a_kill_while_columns_are_added_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    before = write(tmp_path, 1, loss=1.5)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 2, error=3.0)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == before
    monkeypatch.undo()
    assert write(tmp_path, 2, error=3.0) == ["error,loss,step", ",1.5,1", "3.0,,2"]
