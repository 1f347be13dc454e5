"""The folder of a run: what it holds, where it is, and that it is never overwritten."""

import json
import os
import shutil

import pytest
import yaml

from noise2pose.files import lock
from scripts.training.parser import MOVED
from tests.scripts.train.runs import checkpoint


def test_one_run_is_one_folder_and_is_never_overwritten(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a")
    run = folder / "runs" / "a"
    assert {path.name for path in run.iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "fit.json",
        "checkpoints",
        "pictures",
        ".lock",
    }
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["ckpt_path"] is None and config["trainer"]["default_root_dir"] == "runs/a"
    fit = json.loads((run / "fit.json").read_text())
    assert fit["steps"] == 12 and fit["epochs"] == 3 and fit["protocols"][0]["dataset"] == "tiny" and fit["seconds"] > 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    shutil.copy(run / "checkpoints" / "last.ckpt", folder / "elsewhere.ckpt")
    for more in ((), ("--ckpt_path", "elsewhere.ckpt")):
        message = train("fit", "-c", "tiny.yaml", "--name", "a", *more, status=2)
        assert "runs/a already holds a run" in message and "--ckpt_path last" in message
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_run_is_trained_by_one_process_at_a_time(folder, train):
    with lock(folder / "runs" / "a", ""):
        said = train("fit", "-c", "tiny.yaml", "--name", "a", status=2)
        assert f"runs/a is in use by process {os.getpid()}" in said and "--name NEW" in said
        train("fit", "-c", "tiny.yaml", "--name", "b")
    train("fit", "-c", "tiny.yaml", "--name", "a")


@pytest.mark.parametrize(
    "refused",
    [
        ("--data.batch_size", "0"),  # before the run has a folder
        ("--model.context_epochs", "3"),
        ("--data.num_joints", "16"),  # at the first batch
        ("--model.context_checkpoint", "nowhere.ckpt"),
    ],
)
def test_a_refused_training_leaves_nothing_behind(folder, train, refused):
    before = sorted(folder.rglob("*"))
    train("fit", "-c", "tiny.yaml", "--name", "of/a", *refused, status=2)
    assert sorted(folder.rglob("*")) == before


def test_a_refused_command_leaves_a_run_as_it_is(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a", "--trainer.max_epochs", "2")
    train("test", "-c", "runs/a/config.yaml", "--ckpt_path", "best")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert folder / "runs" / "a" / "config_test.yaml" in before
    config, wrong = ("-c", "runs/a/config.yaml"), ("--data.num_joints", "16")
    for verb in ("fit", "validate", "test", "predict"):
        train(verb, *config, "--ckpt_path", "last", *wrong, "--trainer.max_epochs", "3", status=2)
        others = ("--name", "b", "--ckpt_path", "runs/a/checkpoints/last.ckpt")
        train(verb, *config, *others, *wrong, "--trainer.max_epochs", "3", status=2)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert not (folder / "runs" / "b").exists()


@pytest.mark.parametrize("name", ["", " ", ".", "..", "../b", "a/../../b", "/tmp/b"])
def test_a_name_that_leads_elsewhere_is_refused(folder, train, name):
    assert "is not the name of a folder below runs/" in train("fit", "-c", "tiny.yaml", f"--name={name}", status=2)
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


def test_the_configuration_of_a_run_makes_another(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a", "--trainer.max_epochs", "2")
    before = {path: path.read_bytes() for path in (folder / "runs" / "a").rglob("*") if path.is_file()}
    train("fit", "-c", "runs/a/config.yaml", "--name", "b")
    train("test", "-c", "runs/a/config.yaml", "--name", "c", "--ckpt_path", "runs/a/checkpoints/best.ckpt")
    assert before == {path: path.read_bytes() for path in (folder / "runs" / "a").rglob("*") if path.is_file()}
    assert (folder / "runs" / "b" / "checkpoints" / "last.ckpt").is_file()
    assert (folder / "runs" / "b" / "metrics.csv").is_file() and (folder / "runs" / "c" / "test.json").is_file()


def test_runs_can_be_kept_elsewhere(folder, train):
    (folder / "elsewhere.yaml").write_text("trainer: {default_root_dir: 'disk/${name}', max_epochs: 2}\n")
    train("fit", "-c", "tiny.yaml", "-c", "elsewhere.yaml", "--name", "a")
    train("fit", "-c", "disk/a/config.yaml", "--name", "b")
    assert {path.name for path in (folder / "disk").iterdir()} == {"a", "b"} and not (folder / "runs").exists()


def test_a_run_folder_that_cannot_be_written_to_is_named(folder, train):
    (folder / "runs").write_text("a file instead of the folder")
    assert "error: runs/a cannot be used (Not a directory)" in train("fit", "-c", "tiny.yaml", "--name", "a", status=2)


def test_runs_from_before_the_callbacks_moved_are_tested_and_resumed(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a", "--trainer.max_epochs", "2")
    config = folder / "runs" / "a" / "config.yaml"
    text = config.read_text()
    for old in ("methods.run.RunCSVLogger", "methods.checkpoints.WarmupEMA"):
        assert MOVED[old] in text
        text = text.replace(MOVED[old], old)
    config.write_text(text)
    train("test", "-c", "runs/a/config.yaml", "--ckpt_path", "best")
    train("fit", "-c", "runs/a/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert checkpoint(folder / "runs" / "a")["epoch"] == 2 and "methods.run" not in config.read_text()


def test_runs_from_before_data_sets_were_put_together_find_them(folder, train):
    moved = {old: new for old, new in MOVED.items() if old.startswith("datamodules.")}
    parts = "".join(f"      - class_path: {old}\n" for old in moved)
    data = f"data:\n  class_path: datamodules.mixture.Mixture\n  init_args:\n    datasets:\n{parts}"
    (folder / "old.yaml").write_text(data)
    config = yaml.safe_load(train("fit", "-c", "tiny.yaml", "-c", "old.yaml", "--print_config"))
    assert [part["class_path"] for part in config["data"]["init_args"]["datasets"]] == list(moved.values())
    (folder / "data.yaml").write_text("class_path: datamodules.coco.COCO\n")
    for given in ("data.yaml", "datamodules.coco.COCO"):
        config = yaml.safe_load(train("fit", "-c", "tiny.yaml", "--data", given, "--print_config"))
        assert config["data"]["class_path"] == MOVED["datamodules.coco.COCO"]
