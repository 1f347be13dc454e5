"""Preparing a data set: parts, processes, kills, and what is left out."""

import json
import os
import signal
import string
import time
from pathlib import Path

import numpy as np
import pytest

from datamodules.preparation import Expected, Part, Plan, Rows, prepare, report
from datamodules.prepared.folder import Names, PreparedFolder, encode_names
from noise2pose.errors import InputError


def read(file: Path, start: int, detected: bool) -> Rows:
    """Two sequences of two images each; a file that says `broken` cannot be read."""
    if file.read_text() == "broken":
        raise InputError(f"{file.name}: broken")
    if file.read_text() == "damaged":
        raise KeyError("poses")
    points = np.arange(start, start + 4 * 3 * 3, dtype=np.float64).reshape(4, 3, 3)
    arrays = {
        "keypoints_2d_gt": points,
        "frame": np.array([5, 6, 0, 1]),
        "picture": np.array([0, 1, 2, -1]),
        "valid": np.array([True, False, True, True]),
    }
    if detected:
        arrays["keypoints_2d_detected"] = points + 1
    sequences = [{"name": f"{file.stem}/{i}", "split": "train"} for i in range(3)]
    images = [f"{file.stem}/{i}.jpg" for i in range(3)]
    of = np.array([0, 0, 2, 2])  # nothing of the second
    return Rows(
        arrays, sequences, of, images, {"train: people": 4}, [("c/9.jpg", "missing")] if file.stem == "c" else []
    )


def die(file: Path, start: int, detected: bool) -> Rows:
    """As a process that the system ends because memory ran out."""
    if file.stem == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return read(file, start, detected)


def plan(source: Path, names: str, texts: dict[str, str] | None = None) -> Plan:
    source.mkdir(parents=True, exist_ok=True)
    for name in names:
        file, text = source / f"{name}.txt", (texts or {}).get(name, name)
        if not file.exists() or file.read_text() != text:  # an untouched file keeps its time
            file.write_text(text)
    parts = [
        Part(name, read, (source / f"{name}.txt", 100 * i, name == "b"), (source / f"{name}.txt",))
        for i, name in enumerate(names)
    ]
    facts = {"skeletons": {"keypoints_2d_gt": "three"}}
    return Plan("toy", "Nobody's licence", facts, source, parts, [Expected("train: people", 12)], [])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_rows_of_all_parts_in_order(tmp_path):
    manifest = prepare(plan(tmp_path / "source", "abc"), tmp_path / "out", 0)
    folder = PreparedFolder(tmp_path / "out", "toy")
    assert folder.num_rows == 12
    np.testing.assert_array_equal(
        folder.column("keypoints_2d_gt")[:, 0, 0], [0, 9, 18, 27, 100, 109, 118, 127, 200, 209, 218, 227]
    )
    np.testing.assert_array_equal(folder.column("sequence"), np.repeat(np.arange(6), 2))
    np.testing.assert_array_equal(folder.column("picture"), [0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1])
    assert [sequence["name"] for sequence in folder.sequences] == ["a/0", "a/2", "b/0", "b/2", "c/0", "c/2"]
    assert [(sequence["start"], sequence["stop"]) for sequence in folder.sequences][:3] == [(0, 2), (2, 4), (4, 6)]
    assert folder.images()[3] == "b/0.jpg" and len(folder.images()) == 9
    assert folder.image_root() == (tmp_path / "source").absolute()
    # Parts without a column get its default.
    detected = folder.column("keypoints_2d_detected")
    assert (
        not detected[:4].any()
        and not detected[8:].any()
        and (detected[4:8] == folder.column("keypoints_2d_gt")[4:8] + 1).all()
    )
    assert manifest["counts"] == {"train: people": 12} and manifest["skipped"] == [["c/9.jpg", "missing"]]
    assert manifest["expected"][0]["found"] == 12


def test_same_bytes_whatever_the_number_of_processes_and_kills(tmp_path, monkeypatch):
    prepare(plan(tmp_path / "source", "abc"), tmp_path / "one", 0)
    prepare(plan(tmp_path / "source", "abc"), tmp_path / "two", 2)
    calls = []

    def stop(*arguments):
        calls.append(arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # killed while the columns are written
        patched.setattr(
            "datamodules.preparation.joining.write_npz", lambda *a, **k: stop() if "text" in k else write(*a, **k)
        )
        from noise2pose.files import write_npz as write

        with pytest.raises(KeyboardInterrupt):
            prepare(plan(tmp_path / "source", "abc"), tmp_path / "three", 0)
    assert calls and not (tmp_path / "three" / "dataset.json").exists()
    with monkeypatch.context() as patched:  # the second run reads nothing again
        patched.setattr("datamodules.preparation.engine._read", stop)
        prepare(plan(tmp_path / "source", "abc"), tmp_path / "three", 0)
    assert files(tmp_path / "one") == files(tmp_path / "two") == files(tmp_path / "three")


def test_finished_work_is_left_alone_and_changed_sources_are_read_again(tmp_path):
    out = tmp_path / "out"
    prepare(plan(tmp_path / "source", "ab"), out, 0)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    time.sleep(0.01)
    prepare(plan(tmp_path / "source", "ab"), out, 0)
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}
    prepare(plan(tmp_path / "source", "ac"), out, 0)  # no part has detections any more
    assert not (out / "keypoints_2d_detected.npy").exists()
    prepare(plan(tmp_path / "fresh", "ac"), tmp_path / "fresh_out", 0)
    changed, fresh = files(out), files(tmp_path / "fresh_out")
    changed.pop("dataset.json"), fresh.pop("dataset.json")  # they differ in the image root
    assert changed == fresh


def test_a_reading_process_that_is_ended_is_named_and_the_same_command_goes_on(tmp_path):
    whole = plan(tmp_path / "source", "abc")
    with pytest.raises(InputError, match="a reading process was ended from outside.*--num_workers 1"):
        prepare(whole._replace(parts=[part._replace(read=die) for part in whole.parts]), tmp_path / "out", 1)
    prepare(whole, tmp_path / "out", 0)
    prepare(whole, tmp_path / "at_once", 0)
    assert files(tmp_path / "out") == files(tmp_path / "at_once")


def test_what_was_skipped_is_looked_for_again(tmp_path, capsys):
    out = tmp_path / "out"
    first = prepare(plan(tmp_path / "source", "bc"), out, 0)
    before = files(out)
    assert prepare(plan(tmp_path / "source", "bc"), out, 0) == first and files(out) == before
    assert "something was skipped last time" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["broken", "damaged"])
def test_what_cannot_be_read_is_named_and_the_rest_prepared(tmp_path, text):
    broken = plan(tmp_path / "source", "abc", {"b": text})
    manifest = prepare(broken, tmp_path / "out", 0)
    assert manifest["rows"] == 8
    assert {"broken": ["b", "b.txt: broken"], "damaged": ["b", "cannot be read (KeyError: 'poses')"]}[text] in [
        list(pair) for pair in manifest["skipped"]
    ]
    lines = report.warnings(manifest)
    assert any(line.startswith("warning: train: people: found 8, published 12: ") for line in lines)
    # Once it is mended the same command completes the folder.
    whole = prepare(plan(tmp_path / "source", "abc"), tmp_path / "out", 0)
    assert whole["rows"] == 12 and json.loads((tmp_path / "out" / "dataset.json").read_text()) == whole


def test_parts_of_one_broken_file_are_one_line(tmp_path):
    manifest = prepare(plan(tmp_path / "source", "abcd", {"b": "damaged", "d": "damaged"}), tmp_path / "out", 0)
    assert manifest["skipped"][:1] == [["b and 1 more parts", "cannot be read (KeyError: 'poses')"]]


def test_images_that_moved_are_found_by_the_same_command(tmp_path):
    first = plan(tmp_path / "source", "a")._replace(image_root=tmp_path / "source")
    prepare(first, tmp_path / "out", 0)
    (tmp_path / "source").rename(tmp_path / "moved")
    moved = plan(tmp_path / "moved", "a")._replace(image_root=tmp_path / "moved")
    assert prepare(moved, tmp_path / "out", 0)["picture_root"] == str(tmp_path / "moved")


def test_nothing_to_prepare(tmp_path):
    with pytest.raises(InputError, match="nothing could be prepared; a.txt: broken"):
        prepare(plan(tmp_path / "source", "a", {"a": "broken"}), tmp_path / "out", 0)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    prepare(plan(tmp_path / "source", "a"), tmp_path / "out", 0)
    other = plan(tmp_path / "source", "a")._replace(dataset="other")
    with pytest.raises(InputError, match="holds toy, expected other"):
        prepare(other, tmp_path / "out", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        prepare(other, tmp_path / "file", 0)


def test_summary_counts_every_sequence(tmp_path):
    manifest = prepare(plan(tmp_path / "source", "a"), tmp_path / "out", 0)
    lines = report.summary(tmp_path / "out", manifest)
    assert lines[1].split() == ["a/0", "train", "2", "1", "1", "2"]
    assert lines[2].split() == ["a/2", "train", "2", "2", "1", "2"]


def test_summary_of_many_sequences_shows_the_first_and_totals(tmp_path):
    manifest = prepare(plan(tmp_path / "source", string.ascii_lowercase), tmp_path / "out", 0)
    lines = report.summary(tmp_path / "out", manifest)
    assert [line.split()[0] for line in lines[1:6]] == ["a/0", "a/2", "b/0", "b/2", "c/0"]
    assert lines[6] == "and 47 more, listed in dataset.json"
    assert lines[7].endswith("out: 52 sequences (52 train)") and lines[8].endswith("out: 104 rows (104 train)")
    assert len(lines) < 20


def test_damaged_folders_are_named(tmp_path):
    prepare(plan(tmp_path / "source", "a"), tmp_path / "out", 0)
    folder = PreparedFolder(tmp_path / "out", "toy")
    column = tmp_path / "out" / "frame.npy"
    column.write_bytes(column.read_bytes()[:100])
    with pytest.raises(InputError, match="frame.npy: cannot be read"):
        folder.column("frame")
    with pytest.raises(InputError, match="toy has no betas here; it has"):
        folder.column("betas")
    with pytest.raises(InputError, match="holds toy, expected coco"):
        PreparedFolder(tmp_path / "out", "coco")
    with pytest.raises(InputError, match="prepare it with `noise2pose prepare coco"):
        PreparedFolder(tmp_path / "nothing", "coco")
    with pytest.raises(InputError, match="no such folder; say with data.picture_root"):
        folder.image_root(str(tmp_path / "moved"))


def test_names():
    names = Names(*encode_names(["a", "", "ätsch", "b/c.jpg"]))
    assert list(names) == ["a", "", "ätsch", "b/c.jpg"] and names[1:3] == ["", "ätsch"]
    with pytest.raises(IndexError):
        names[4]
    assert list(Names(*encode_names([]))) == []
