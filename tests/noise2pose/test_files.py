"""A disk that takes no more, or that may not be written to, is named, and nothing half-written is left on it."""

import errno
import os
import shutil

import pytest
import torch

from noise2pose import files
from noise2pose.errors import InputError


def test_a_full_disk_is_named_and_the_partial_file_removed(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=f"{tmp_path}/a.txt cannot be written: the disk of /.* is full"):
        files.write_text(tmp_path / "a.txt", "b")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_found_where_a_library_only_says_that_writing_failed(tmp_path, monkeypatch):
    def failed(*_):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", failed)
    for free, expected in ((1000, InputError), (1 << 30, RuntimeError)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(1 << 40, 0, free))
        with pytest.raises(expected), files.replacing(tmp_path / "a.ckpt") as partial:
            torch.save({}, partial)


def test_a_folder_that_is_read_only_is_named(tmp_path, monkeypatch):
    def read_only(self, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(files.Path, "mkdir", read_only)
    with pytest.raises(InputError, match=f"{tmp_path}/run cannot be written .Read-only file system.: .*folder"):
        files.write_text(tmp_path / "run" / "a.txt", "b")


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    def no_folder(self, *_, **__):
        raise OSError(errno.ENOENT, "No such file or directory", str(self))

    monkeypatch.setattr(files.Path, "mkdir", no_folder)  # as below /proc
    with pytest.raises(InputError, match=f"{tmp_path}/run cannot be used .No such file or directory.: .*folder"):
        files.write_text(tmp_path / "run" / "a.txt", "b")
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "a.txt"):
        (tmp_path / "nowhere").read_text()


@pytest.mark.parametrize(
    "forbidden, said",
    [
        ({"a.txt": os.R_OK}, "a.txt cannot be read (Permission denied): change that, or take another file"),
        ({"a.txt": os.W_OK}, "a.txt cannot be written (Permission denied): change that, or take another folder"),
        ({"sub": os.X_OK}, "cannot be reached: you may not enter "),
    ],
)
def test_a_file_without_the_right_to_it_is_told_from_one_that_may_not_be_written(
    tmp_path, monkeypatch, forbidden, said
):
    path = tmp_path / "sub" / "a.txt"
    files.write_text(path, "b")
    monkeypatch.setattr(os, "access", lambda path, mode: forbidden.get(files.Path(path).name) != mode)  # as no root
    assert said in (files.unwritable(PermissionError(errno.EACCES, "Permission denied", str(path))) or "")
    assert files.unwritable(FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))) is None
