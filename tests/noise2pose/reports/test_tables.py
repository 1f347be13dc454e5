import json
import re
import shutil
import zipfile

import numpy as np
import pytest

from datamodules.prepared.protocols import published
from noise2pose.files import archive_fingerprint
from noise2pose.reports.comparability import group_by_protocol, warnings
from noise2pose.reports.entries import entries_of
from noise2pose.reports.runs import load_run
from noise2pose.reports.tables import labels, result_rows, rows_by_group, text_report
from tests.fake_runs import write_run


@pytest.fixture
def make(tmp_path):
    def _make(folder, **changes):
        return load_run(write_run(tmp_path / folder, **changes))

    return _make


def test_rows_are_sorted_and_the_best_is_marked(make):
    runs = [make("a", mpjpe=70.0), make("b", mpjpe=50.0), make("c", mpjpe=float("nan"))]
    (group,) = group_by_protocol(runs)
    assert [run.name for run in group.runs] == ["b", "a", "c"]
    rows = result_rows(group.entries, ["cpu, 2 threads"])
    assert [set(row.best) for row in rows] == [{"MPJPE", "PA-MPJPE"}, set(), set()]
    assert rows[0].cells["params"] == "485.58 k" and rows[0].cells["training"] == "5 min"


def test_one_run_alone_is_not_the_best(make):
    assert not result_rows(entries_of([make("a")]), ["cpu, 2 threads"])[0].best


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keypoints_2d": "gt"}, "2-D source (synthetic / gt)"),
        ({"split": "test: nobody"}, "split (test: everyone / test: nobody)"),
        ({"joints": [1, 2]}, "joints (null / [1, 2])"),
        ({"root": 7}, "root (0 / 7)"),
    ],
)
def test_what_differs_is_said_loudly_and_kept_apart(make, change, words):
    runs = [make("a", mpjpe=70.0), make("b", mpjpe=50.0, **change)]
    groups = group_by_protocol(runs)
    assert [group.letter for group in groups] == ["A", "B"]
    (warning,) = warnings(groups)
    assert warning.startswith("NOT COMPARABLE") and words in warning
    assert text_report(runs).startswith("NOT COMPARABLE")


def test_runs_that_were_tested_on_other_data_than_they_were_trained_with_are_told(make, tmp_path):
    folder = write_run(tmp_path / "b", split="test: others")
    data = "model: {class_path: m.M}\ndata: {class_path: DATA, init_args: {n: 3, batch_size: 8}}\n"
    (folder / "config.yaml").write_text(data.replace("DATA", "old.place.Toy"))
    (folder / "config_test.yaml").write_text(data.replace("DATA", "place.Toy").replace("8", "9"))
    assert len(warnings(group_by_protocol([make("a"), load_run(folder)]))) == 1
    (folder / "config_test.yaml").write_text(data.replace("DATA", "place.Other").replace("3", "4"))
    _, told = warnings(group_by_protocol([make("c"), load_run(folder)]))
    assert told.startswith("b was tested on other data than it was trained with: data.class_path place.Other (was old.")
    assert "To test it on its own: noise2pose train test -c " in told and "b/config.yaml" in told
    assert warnings(group_by_protocol([load_run(folder)])) == []


def test_hypotheses_and_names_of_protocols_do_not_forbid_comparing(make):
    assert len(group_by_protocol([make("a"), make("b", num_hypotheses=1, name="other")])) == 1


def test_other_inputs_under_the_same_names_are_noticed(make, tmp_path):
    first = make("a")
    folder = write_run(tmp_path / "b")
    arrays = dict(np.load(folder / "test_samples.npz"))
    arrays["keypoints_2d"][1, 3, 0] += 5
    np.savez(folder / "test_samples.npz", **arrays)
    (warning,) = warnings(group_by_protocol([first, load_run(folder)]))
    assert "b saw other inputs than a" in warning


def test_oracle_numbers_stand_in_a_table_of_their_own(make):
    table, oracle = text_report([make("a")]).split("Needs the ground truth to choose - not comparable")
    assert "31.2" not in table and "41.8" not in table
    assert re.search(r"best of 5 +31\.2 +41\.8", oracle)


def test_calibration_stands_in_a_table_of_its_own(make):
    table, calibration = text_report([make("a")]).split("Does the spread of the hypotheses predict the error?")
    assert "38.3" not in table
    assert re.search(r"a +DiffPose \(release\) +5 +44\.0 +81\.5 +38\.3 +12\.3", calibration)


def test_the_table_fits_a_terminal(make):
    runs = [
        make("a_run_with_a_name_that_is_far_too_long_for_any_table_and_ends_in_1", device="1 x NVIDIA H200"),
        make(
            "a_run_with_a_name_that_is_far_too_long_for_any_table_and_ends_in_2", method="A method (with details) " * 3
        ),
    ]
    lines = text_report(runs).splitlines()
    assert max(map(len, lines)) <= 140
    assert any(re.match(r"a_run\S+\.\.\S+_1 ", line) for line in lines), "the end of a name tells it apart"


def test_a_name_is_not_cut_to_repeat_what_the_heading_says(make):
    name = "a_run_with_a_name_that_leaves_no_room_for_all_columns"
    table = text_report([make(name)]).split("\n\n")[0]
    assert "Protocol A (toy_frames)" in table and re.search(rf"^{name} +DiffPose", table, re.MULTILINE)


def test_times_carry_their_device_where_devices_differ(make):
    same, other = [make("a")], [make("b"), make("c", device="1 x NVIDIA H200")]
    assert "[1]" not in text_report(same)
    text = text_report(other)
    assert "compare on the same device only: [1] cpu, 2 threads; [2] 1 x NVIDIA H200" in re.sub(r"\s+", " ", text)
    assert re.search(r"2,458 \[2\]\s+5 min \[1\]", text)


def test_an_untested_run_comes_with_the_command_to_type(make, tmp_path):
    folder = write_run(tmp_path / "new one")
    (folder / "test.json").unlink()
    text = text_report([make("a"), load_run(folder)])
    assert "Not tested yet" in text
    assert f"noise2pose train test -c '{folder.as_posix()}/config.yaml' --ckpt_path best" in text


def test_labels_tell_runs_of_one_method_apart(make):
    runs = [make("a"), make("b"), make("c", method="context encoder")]
    assert labels(entries_of(runs)) == ["DiffPose (release): a", "DiffPose (release): b", "context encoder"]


def test_actions_stand_in_the_order_of_the_literature(make):
    values = {"Walking": 3.0, "WalkTogether": 4.0, "Sitting": 2.0, "Directions": 1.0, "Juggling": 9.0}
    table = {"of": "action", "metrics": {"mpjpe": {"values": values, "mean_of_groups": 3.8, "mean_over_poses": 3.1}}}
    about = {"groups": "action", "group_captions": published("human36m_lifting").as_dict()["group_captions"]}
    runs = [make("a", **about, tables={"toy": table}), make("b", mpjpe=50.0, **about)]
    (row,) = rows_by_group(group_by_protocol(runs)[0])
    assert list(row.cells)[2:] == ["error", "Dir", "Sit", "Walk", "WalkT", "Juggling", "mean", "poses"]
    assert list(row.cells.values())[2:] == ["MPJPE", "1.0", "2.0", "3.0", "4.0", "9.0", "3.8", "3.1"]
    assert "By action; mean = every action weighs the same" in text_report(runs)


def test_a_test_of_weights_that_the_training_has_replaced_is_outdated(tmp_path):
    def save(value):
        with zipfile.ZipFile(folder / "checkpoints" / "best.ckpt", "w") as archive:
            archive.writestr("data.pkl", value)

    folder, told = tmp_path / "toy", "OUTDATED: toy was trained further after its test"
    write_run(folder)
    save("epoch 4")
    record = json.loads((folder / "test.json").read_text())
    record["checkpoint_fingerprint"] = archive_fingerprint(folder / "checkpoints" / "best.ckpt")
    (folder / "test.json").write_text(json.dumps(record))
    shutil.copytree(folder, tmp_path / "moved")
    assert told not in text_report([load_run(folder)])
    save("epoch 6")
    assert told in text_report([load_run(folder)])
    assert "OUTDATED" not in text_report([load_run(tmp_path / "moved")])
    (folder / "test.json").write_text(json.dumps({**record, "checkpoint": "runs/other/checkpoints/best.ckpt"}))
    assert told not in text_report([load_run(folder)])
