"""Shards: whole or not at all, equal whenever they are written, readable by others."""

import errno
import os
import signal
import tarfile

import numpy as np
import pytest

from noise2pose import shards
from noise2pose.errors import InputError
from tests.forks import start


def write(path, samples=range(3)):
    with shards.write_shard(path) as shard:
        for sample in samples:
            files = {"npz": shards.npz_bytes(a=np.full(3, sample)), "depth.png": shards.png_bytes(picture(sample))}
            shard.add(sample, {} if sample == 1 else files, {"reason": "dark" if sample == 1 else ""})


def picture(sample):
    return np.full((4, 6, 3), sample, dtype=np.uint8)


def test_what_was_written_is_read_and_every_sample_is_listed(tmp_path):
    path = shards.shard_path(tmp_path / "new", 7)
    assert path.name == "shard-000007.tar"
    write(path)
    read = dict(shards.read_shard(path))
    assert list(read) == [0, 2]
    assert (shards.npz_arrays(read[2]["npz"])["a"] == 2).all()
    assert (shards.image_array(read[2]["depth.png"]) == picture(2)).all()
    assert shards.read_manifest(path) == [
        {"id": 0, "reason": ""},
        {"id": 1, "reason": "dark"},
        {"id": 2, "reason": ""},
    ]
    assert sorted(each.name for each in path.parent.iterdir()) == ["shard-000007.jsonl", "shard-000007.tar"]


def test_bytes_depend_on_the_content_alone(tmp_path, monkeypatch):
    first, second = tmp_path / "a" / "shard-000000.tar", tmp_path / "b" / "shard-000000.tar"
    write(first)
    monkeypatch.setattr("time.time", lambda: 2e9)
    os.umask(os.umask(0) ^ 0o077)
    write(second)
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
    forwards, backwards = {"a": np.arange(3), "b": np.float64(2)}, {"b": np.float64(2), "a": np.arange(3)}
    assert shards.npz_bytes(**forwards) == shards.npz_bytes(**backwards)
    assert shards.npz_arrays(shards.npz_bytes(**forwards))["b"].shape == ()


def test_the_webdataset_package_reads_them(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    write(tmp_path / "shard-000000.tar")
    samples = list(webdataset.WebDataset(str(tmp_path / "shard-000000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["00000000", "00000002"]
    assert (shards.npz_arrays(samples[1]["npz"])["a"] == 2).all() and "depth.png" in samples[1]


def test_samples_come_in_order(tmp_path):
    with pytest.raises(ValueError, match="sample 2 comes after sample 2"):
        write(tmp_path / "shard-000000.tar", [0, 2, 2])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "addfile", full)
        with pytest.raises(InputError, match=r"shard-000000.jsonl cannot be written: the disk of .* is full"):
            write(tmp_path / "shard-000000.tar")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)  # where the writes before were only buffered
        with pytest.raises(InputError, match="is full"):
            write(tmp_path / "shard-000000.tar")
    assert not list(tmp_path.iterdir())


def killed(path, where):
    """Writes a shard in a process that is killed between two samples, or when all are written."""

    def kill(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if where == "end":
        os.fsync = kill
        write(path)
    with shards.write_shard(path) as shard:
        shard.add(0, {"npz": shards.npz_bytes(a=np.zeros(100_000))}, {})
        kill()


@pytest.mark.parametrize("where", ["middle", "end"])
def test_a_killed_process_leaves_no_shard_and_the_next_one_writes_the_same(tmp_path, where):
    path, whole = tmp_path / "shard-000000.tar", tmp_path / "whole" / "shard-000000.tar"
    process = start(killed, path, where)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "shard-000000.jsonl.partial",
        "shard-000000.tar.partial",
    ]
    write(path)
    write(whole)
    assert path.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_broken_shards_are_refused_by_name(tmp_path):
    path = tmp_path / "shard-000000.tar"
    with pytest.raises(InputError, match="shard-000000.tar does not exist"):
        list(shards.read_shard(path))
    path.write_bytes(b"no tar file at all" * 100)
    with pytest.raises(InputError, match="shard-000000.tar cannot be read as a tar file"):
        list(shards.read_shard(path))
    write(path)
    whole = path.read_bytes()
    for length in (1500, 2048):  # in a file, and between two of them
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="shard-000000.tar is cut off"):
            list(shards.read_shard(path))
    write(path)
    shards.manifest_path(path).write_text('{"id": 0}\n{"reason": ""}\n')
    with pytest.raises(InputError, match="without a number `id`"):
        shards.read_manifest(path)
    shards.manifest_path(path).unlink()
    with pytest.raises(InputError, match="shard-000000.jsonl does not exist"):
        shards.read_manifest(path)
