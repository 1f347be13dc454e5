"""A conversion that was stopped or killed goes on, and one whose source has changed is done again."""

import os
import signal
import time

import pytest

from datamodules.preparation import engine
from tests import forks
from tests.datamodules import acclaim
from tests.datamodules.acclaim import amc
from tests.scripts.prepare.cmu import BROKEN, contents, folder_of, prepare


class _Killed(BaseException):
    """Stands for the end of the process: nothing may catch it."""


@pytest.mark.parametrize("step", range(12))
def test_stopped_before_any_file_is_put_in_place_it_ends_in_the_same_folder(tmp_path, monkeypatch, step):
    source = folder_of(tmp_path / "in", [amc(seed=1), BROKEN, amc(seed=2), amc(seed=3)])
    acclaim.prepare(source, tmp_path / "whole")
    steps, replace, cut = iter(range(100)), os.replace, tmp_path / "cut"

    def replace_or_stop(*names):
        if next(steps) == step:
            raise _Killed
        replace(*names)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_or_stop)
        if step < 11:  # three parts, five columns, names of no picture, licence, manifest
            with pytest.raises(_Killed):
                acclaim.prepare(source, cut)
            assert not (cut / "dataset.json").exists()
        else:
            patched.setattr(engine.shutil, "rmtree", lambda path: None)
            acclaim.prepare(source, cut)
            assert (cut / ".parts").exists()
    acclaim.prepare(source, cut)
    assert contents(cut) == contents(tmp_path / "whole")


@pytest.mark.slow
def test_killed_anywhere_it_ends_in_the_same_folder(tmp_path):
    source = folder_of(tmp_path / "in", [amc(frames=900, seed=number) for number in range(12)])
    prepare("--source", source, "--output", tmp_path / "whole")
    cut = tmp_path / "cut"
    for parts in (1, 2, 5, 9, 12):
        process = forks.start(prepare, "--source", source, "--output", cut)
        while process.is_alive() and len(list(cut.glob(".parts/*.npz"))) < parts:
            time.sleep(0.001)
        process.kill()
        process.join()
        killed = process.exitcode == -signal.SIGKILL
        assert (killed and not (cut / "dataset.json").exists()) or parts >= 9  # it may end before the kill
    prepare("--source", source, "--output", cut)
    assert contents(cut) == contents(tmp_path / "whole")


def test_a_changed_source_or_frame_rate_is_converted_again(tmp_path):
    source, out = folder_of(tmp_path / "in", [amc(), BROKEN]), tmp_path / "out"
    assert acclaim.prepare(source, out)["counts"]["clips"] == 1
    (source / "01_02.amc").write_text(amc(seed=2))
    assert acclaim.prepare(source, out)["counts"]["clips"] == 2
    assert acclaim.prepare(source, out, source_fps=60.0)["rows"] == 400
