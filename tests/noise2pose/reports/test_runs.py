import json

import numpy as np
import pytest

from noise2pose.errors import InputError
from noise2pose.reports.runs import load_run
from tests.fake_runs import write_run


def change(path, **values):
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **values}))


def resave(path, **changes):
    arrays = {**np.load(path), **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "toy")


def test_a_run_is_read(folder):
    run = load_run(folder)
    assert (run.name, run.method, run.parameters) == ("toy", "DiffPose (release)", 485582)
    assert run.metric("mpjpe") == 60.0 and run.metric("pck") is None
    steps, values = run.curves["toy"]["mpjpe"]
    assert steps.tolist() == [49, 99] and values.tolist() == [240.0, 60.0]
    assert run.samples and run.samples.prediction.shape == (2, 17, 3)


def test_errors_of_a_first_stage_are_not_the_methods_also_in_runs_from_before_they_had_keys(folder):
    config = "model: {class_path: m.M, init_args: {context_epochs: 1, context_checkpoint: NONE}}\n"
    (folder / "config.yaml").write_text(config.replace("NONE", "null"))
    assert load_run(folder).curves["toy"]["mpjpe"][1].tolist() == [60.0]
    (folder / "config.yaml").write_text(config.replace("NONE", "a.ckpt"))  # then there is no first stage
    assert load_run(folder).curves["toy"]["mpjpe"][1].tolist() == [240.0, 60.0]
    (folder / "config.yaml").write_text(config.replace("NONE", "null"))
    rows = "epoch,step,val/toy/first_stage/mpjpe,val/toy/mpjpe\n0,49,240,\n0,59,,80\n1,99,,60\n"
    (folder / "metrics.csv").write_text(rows)
    assert load_run(folder).curves["toy"]["mpjpe"][1].tolist() == [80.0, 60.0]


def test_what_needs_the_truth_is_never_among_the_metrics(folder):
    run = load_run(folder)
    assert run.metrics() == {"mpjpe": 60.0, "pa_mpjpe": 45.0}
    assert run.oracle() == {"best_of_5": (31.25, 41.75)}


def test_a_name_is_looked_up_below_runs(tmp_path, monkeypatch):
    write_run(tmp_path / "runs" / "toy")
    monkeypatch.chdir(tmp_path)
    assert load_run("toy").folder == load_run("runs/toy").folder
    with pytest.raises(InputError, match="other: no such run; runs/ holds toy"):
        load_run("other")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"not the folder of a run \(it holds none of config.yaml"):
        load_run(tmp_path)


@pytest.mark.parametrize("missing", ["metrics.csv", "fit.json", "test.json", "test_samples.npz"])
def test_each_part_may_be_missing(folder, missing):
    (folder / missing).unlink()
    assert load_run(folder).method == "DiffPose (release)"


def test_a_run_that_has_only_begun_is_named_by_its_class(folder):
    for name in ("metrics.csv", "fit.json", "test.json"):
        (folder / name).unlink()
    run = load_run(folder)
    assert run.method == "DiffPose" and run.samples is None
    assert run.test_command == f"noise2pose train test -c {folder.as_posix()}/config.yaml --ckpt_path best"


def test_the_command_that_tests_a_run_takes_a_checkpoint_that_it_has(folder):
    best, test = folder / "checkpoints" / "best.ckpt", f"noise2pose train test -c {folder.as_posix()}/config.yaml"
    best.rename(best.with_name("last.ckpt"))
    assert load_run(folder).test_command == f"{test} --ckpt_path last"
    best.with_name("last.ckpt").unlink()
    assert load_run(folder).test_command == f"{test.replace('test -c', 'fit -c')} && {test} --ckpt_path best"
    best.touch()
    with (folder / "config.yaml").open("a") as file:
        file.write("trainer:\n  default_root_dir: runs/toy\n")
    moved = f"--trainer.default_root_dir {folder.as_posix()}"
    assert load_run(folder).test_command == f"{test} {moved} --ckpt_path best"


def test_steps_logged_twice_by_a_resumed_run_count_once(folder):
    with (folder / "metrics.csv").open("a") as file:
        file.write("1,49,,77.0\n2,149,,nan\n")
    steps, values = load_run(folder).curves["toy"]["mpjpe"]
    assert steps.tolist() == [49, 99, 149]
    np.testing.assert_array_equal(values, [77.0, 60.0, np.nan])


@pytest.mark.parametrize("name", ["fit.json", "test.json", "metrics.csv", "test_samples.npz"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00garbage", b"{", b"[]", b"PK\x03\x04"])
def test_a_broken_file_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["fit.json", "test.json", "test_samples.npz"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_a_truncated_file_is_named(folder, name, share):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=name):
        load_run(folder)


@pytest.mark.parametrize("line", ["2,1", "2,x,,5.0", "2,149,,far", "2,149,,5.0,1"])
def test_a_broken_line_of_the_log_is_named(folder, line):
    with (folder / "metrics.csv").open("a") as file:
        file.write(line)
    with pytest.raises(InputError, match=r"metrics.csv: line 6 is broken"):
        load_run(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"test/toy/mpjpe": "small"}}, "metric test/toy/mpjpe is 'small', expected a number"),
        ({"metrics": {"test/other/mpjpe": 1.0}}, "metrics lack test/toy/mpjpe"),
        ({"protocols": [{}]}, "protocols: not a protocol: missing .*'name'"),
        ({"protocols": [3]}, "protocols: not a protocol"),
        ({"protocols": []}, "protocols is empty"),
        ({"poses_per_second": True}, "poses_per_second is True, expected float"),
    ],
)
def test_wrong_test_results_are_explained(folder, changes, message):
    change(folder / "test.json", **changes)
    with pytest.raises(InputError, match=message):
        load_run(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": None}, "target is missing"),
        ({"prediction": np.zeros((2, 16, 3))}, r"prediction has shape \(2, 16, 3\), expected \(2, 17, 3\)"),
        ({"image_size": np.zeros((2, 3))}, "image_size has shape"),
        ({"target": np.full((2, 17, 3), np.nan)}, "not finite"),
        ({"skeleton": np.array("coco_17")}, "skeleton is coco_17, but h36m_17"),
        ({"sample_id": np.array([{}, {}])}, "not readable"),
    ],
)
def test_wrong_samples_are_explained(folder, changes, message):
    resave(folder / "test_samples.npz", **changes)
    with pytest.raises(InputError, match=f"test_samples.npz: .*{message}"):
        load_run(folder)


def test_a_protocol_beyond_the_joints_is_refused(tmp_path):
    with pytest.raises(InputError, match="17 joints, but the protocol .* names joint 17"):
        load_run(write_run(tmp_path / "toy", joints=[0, 17]))
