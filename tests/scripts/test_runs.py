"""Runs are listed from their folders alone, whatever state they were left in, and without PyTorch."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from noise2pose.files import lock
from noise2pose.reports import listing
from scripts.runs import main
from tests.fake_runs import write_run
from tests.places import ROOT


def write(folder, epochs=2, config="trainer: {max_epochs: 2}\n", **changes):
    write_run(folder, config=config)
    fit = json.loads((folder / "fit.json").read_text())
    (folder / "fit.json").write_text(json.dumps({**fit, "epochs": epochs, **changes}))
    return folder


def states(folder):
    return {status.folder.name: status.state for status in listing.statuses([folder])}


def test_every_state_is_told_from_the_folder(tmp_path):
    write(tmp_path / "done")
    write(tmp_path / "early", epochs=1, finished=True)
    write(tmp_path / "saved", epochs=1, finished=False, stopped=True)
    write(tmp_path / "dead", epochs=1, finished=False, stopped=False)
    write(tmp_path / "first_epoch")
    for name in ("fit.json", "test.json", "metrics.csv"):
        (tmp_path / "first_epoch" / name).unlink()
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / ".lock").touch()
    (tmp_path / "nothing").mkdir()
    found = states(tmp_path)
    assert found == {
        "done": "finished", "early": "finished", "saved": "stopped", "dead": "killed", "first_epoch": "killed",
        "locked": "new",
    }  # fmt: skip


def test_a_run_is_running_while_its_lock_is_held_and_asking_does_not_disturb_it(tmp_path):
    folder = write(tmp_path / "a", epochs=1)
    held = lock(folder, "wait")
    assert states(tmp_path) == {"a": "running"}
    held.close()
    assert states(tmp_path) == {"a": "killed"}  # the process is alive, its training is not
    lock(folder, "wait").close()


def test_the_lock_of_a_process_that_is_gone_is_not_tried(tmp_path, monkeypatch):
    import fcntl

    folder = write(tmp_path / "a", epochs=1)
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    (folder / ".lock").write_text(f"process {done.pid} on {socket.gethostname()}")
    monkeypatch.setattr(fcntl, "flock", lambda *_: pytest.fail("a training that starts now would be refused"))
    assert states(tmp_path) == {"a": "killed"}


def test_a_run_of_another_machine_is_running_while_it_writes(tmp_path):
    folder = write(tmp_path / "a", epochs=1)
    (folder / ".lock").write_text("process 1 on another-machine")
    assert states(tmp_path) == {"a": "running"}
    old = time.time() - 3600
    for path in folder.rglob("*"):
        os.utime(path, (old, old))
    assert states(tmp_path) == {"a": "killed"}


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00", '{"epochs": null}'])
@pytest.mark.parametrize("file", ["fit.json", "test.json", "config.yaml", "metrics.csv", ".lock"])
def test_a_file_that_is_half_written_hides_no_run(tmp_path, file, content, capsys):
    (write(tmp_path / "a") / file).write_text(content)
    assert main([str(tmp_path)]) == 0 and str(tmp_path / "a") in capsys.readouterr().out


def test_the_table_has_epoch_best_age_and_method(tmp_path, capsys):
    write(tmp_path / "deep" / "er" / "a", epochs=1)
    write(tmp_path / "b\x1b[31m")
    (tmp_path / "b\x1b[31m" / "test.json").unlink()
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    first, second = sorted(line.split() for line in out.splitlines()[1:])
    assert first[1:7] == ["finished", "2/2", "60.0", "mm", "no", "0"] and "\x1b" not in out
    assert second[1:6] == ["killed", "1/2", "60.0", "mm", "yes"] and "DiffPose" in second
    assert listing.age(-5) == "0 s" and listing.age(7200) == "2 h" and listing.age(3 * 86400) == "3 d"


def test_states_are_chosen_and_other_programs_read_json(tmp_path, capsys):
    write(tmp_path / "a", epochs=1)
    write(tmp_path / "b")
    assert main([str(tmp_path), "--state", "killed", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert record["state"] == "killed" and record["best"] == {"metric": "mpjpe", "value": 60.0}
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_listing_is_fast_and_loads_nothing_heavy(tmp_path):
    for number in range(40):
        write(tmp_path / f"run{number}")
    code = (
        "import sys\nfrom scripts.command_line import main\n"
        f"assert main(['runs', {str(tmp_path)!r}]) == 0\n"
        "print(sorted({'torch', 'matplotlib', 'lightning', 'scipy'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]" and len(done.stdout.splitlines()) == 42
