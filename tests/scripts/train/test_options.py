"""Files and options of the command line, and how a wrong one is reported."""

import logging

import pytest
import yaml

from scripts.training.cli import says_something
from tests.places import ROOT


def test_an_experiment_changes_options_of_another(folder, train):
    (folder / "sub").mkdir()
    (folder / "sub" / "b.yaml").write_text("config: ../tiny.yaml\nname: b\nmodel.init_args.width: 24\n")
    (folder / "c.yaml").write_text("config: sub/b.yaml\nname: c\ntrainer.max_epochs: 1\n")
    config = yaml.safe_load(train("fit", "-c", "c.yaml", "--model.num_blocks", "2", "--print_config"))
    tiny = yaml.safe_load(train("fit", "-c", "tiny.yaml", "--name", "c", "--print_config"))
    tiny["model"]["init_args"] |= {"width": 24, "num_blocks": 2}
    tiny["trainer"]["max_epochs"] = 1
    assert config == tiny
    (folder / "d.yaml").write_text("config: c.yaml\ntrainer: {max_epochs: 5}\n")
    assert "write `trainer.max_epochs: ...` instead of a block" in train("fit", "-c", "d.yaml", status=2)
    (folder / "d.yaml").write_text("name: d\nconfig: c.yaml\n")
    assert "d.yaml: `config: c.yaml` must be the first line" in train("fit", "-c", "d.yaml", status=2)
    (folder / "d.yaml").write_text("config: c.yaml\ndata: e.yaml\ndata.init_args.batch_size: 4\n")
    assert "`data: e.yaml` would be dropped for `data.init_args.batch_size`" in train("fit", "-c", "d.yaml", status=2)


def test_interpolation_crosses_files_and_the_command_line(folder, train):
    (folder / "more.yaml").write_text("model: {init_args: {width: '${data.init_args.batch_size}'}}\n")
    train("fit", "-c", "tiny.yaml", "-c", "more.yaml", "--data.batch_size", "24", "--name", "x")
    config = yaml.safe_load((folder / "runs" / "x" / "config.yaml").read_text())
    assert config["model"]["init_args"]["width"] == 24


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--model.widht", "3"), "DiffPose: Option 'widht' is not accepted; did you mean width?"),
        (("--data.batch_siz", "3"), "TinyPoses: Option 'batch_siz' is not accepted; did you mean batch_size?"),
        (("--model.lr", "1"), "Option 'lr' is not accepted; did you mean learning_rate?"),
        (("--model.optimizer.lr", "1"), "no option --model.optimizer.lr; --model.help CLASS lists those of the class"),
        (("--model.width",), "error: option --model.width has no value"),
        (("--data.batch_size", "--model.width", "8"), "error: option --data.batch_size has no value"),
        (("-c", "key.yaml"), "error: no configuration has a key trainer.max_epoch; did you mean trainer.max_epochs?"),
        (("-c", "average.yaml"), "WarmupEMA: Option 'decai' is not accepted; did you mean decay?"),
        (("--model", "methods.difpose.DiffPose"), "no class methods.difpose.DiffPose; did you mean methods.diffpose.D"),
        (
            ("--data", "cmu_fram.yaml"),
            f"no file --data cmu_fram.yaml; did you mean {ROOT}/configs/data/cmu_frame.yaml?",
        ),
        (
            ("--model.width", "x"),
            "DiffPose: width: Expected a <class 'int'>; Given value: x\nall options: python scripts/train.py fit",
        ),
        (
            ("--trainer.max_epoch", "1"),
            "no option --trainer.max_epoch; did you mean --trainer.max_epochs?\nall options: ",
        ),
        (("--batch_size", "3"), "those of the method and of the data begin with --model. and --data.\nall options: "),
        (("-c", "nowhere.yaml"), f"nowhere.yaml'; the project's configurations are in {ROOT}/configs\nall options"),
        (("-c", "configs/data/cmu_frame.yaml"), f"did you mean {ROOT}/configs/data/cmu_frame.yaml?"),
        (("-c", "broken.yaml"), "in broken.yaml, line 1, column 12"),
        (("--trainer.strategy", "nowhere"), "error: trainer: You selected an invalid strategy"),
        (("--trainer.devices", "99999"), "error: trainer.devices is 99999, and this machine has"),
        (
            ("--trainer.strategy", "ddp_spawn", "--trainer.devices", "2"),
            "error: trainer.strategy: processes that are co",
        ),
        (("--trainer.log_every_n_steps", "-1"), "error: trainer.log_every_n_steps is -1, expected at least 0"),
        (("--trainer.gradient_clip_val", "-1"), "error: trainer.gradient_clip_val is -1, expected at least 0"),
        (("--pictures.people", "-1"), "error: --pictures.people is -1, expected at least 0"),
        (("--trainer.check_val_every_n_epoch", "0"), "trainer.check_val_every_n_epoch must be at least 1"),
        (("--trainer.val_check_interval", "100"), "error: trainer:  `val_check_interval` (100)"),
        (("--seed_everything", "-1"), "error: --seed_everything: -1 is not in bounds"),
        (("--model.learning_rate", "-1"), "error: model.learning_rate is -1.0, expected at least 0"),
        (("-c", "binary.yaml"), "error: binary.yaml is not a configuration: it is no text in UTF-8"),
        (("-c", "bomb.yaml"), "error: bomb.yaml: with its aliases written out it has more than 100,000 entries"),
        (("--trainer.devices", "0"), "error: trainer: `Trainer(devices='0')` value is not a valid input"),
        (("--model.skeleton", "octopus"), "octopus"),
        (("--data.batch_size", "0"), "data.batch_size is 0, expected at least 1"),
        (("--data.num_joints", "16"), "17 joints in the order of h36m_17"),
        (("--model.context_epochs", "0"), "model.context_checkpoint"),
        (("--model.context_checkpoint", "nowhere.ckpt"), "nowhere.ckpt does not exist"),
        (("--model.context_epochs", "3"), "trainer.max_epochs (3) must exceed model.context_epochs (3)"),
    ],
)
def test_a_wrong_argument_is_named(folder, train, arguments, message):
    (folder / "broken.yaml").write_text("model: {a: ]")
    (folder / "key.yaml").write_text("trainer: {max_epoch: 3}")
    average = "{class_path: methods.callbacks.WarmupEMA, init_args: {decai: 0.3}}"
    (folder / "average.yaml").write_text(f"trainer: {{callbacks: [{average}]}}")
    (folder / "binary.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    bomb = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    (folder / "bomb.yaml").write_text(f"a0: &a0 [b]\n{bomb}")
    output = train("fit", "-c", "tiny.yaml", *arguments, status=2)
    assert message in output and "Traceback" not in output and "usage:" not in output


def test_options_may_come_before_the_file_whose_class_has_them(folder, train):
    told = [
        train("fit", *order, "--print_config")
        for order in (("--model.width", "24", "-c", "tiny.yaml"), ("-c", "tiny.yaml", "--model.width", "24"))
    ]
    assert told[0] == told[1] and yaml.safe_load(told[0])["model"]["init_args"]["width"] == 24


def test_other_data_than_those_of_the_training_are_tested_only_if_one_says_so(folder, train):
    train("fit", "-c", "tiny.yaml", "--name", "a", "--data.num_samples", "32", "--model.learning_rate", "0.5")
    test, record = ("test", "-c", "tiny.yaml", "--name", "a", "--ckpt_path", "best"), folder / "runs/a/test.json"
    said = train(*test, status=2)
    assert "runs/a was trained with other data: data.num_samples 64 (was 32)" in said and not record.exists()
    assert "To test it as it was trained, take -c runs/a/config.yaml; for other data say so with --data" in said
    said = train("test", "-c", "tiny.yaml", "--name", "b", "--ckpt_path", "runs/a/checkpoints/best.ckpt", status=2)
    assert "runs/a was trained with other data" in said and "take -c runs/a/config.yaml" in said
    said = train("test", "-c", "runs/a/config.yaml", "--ckpt_path", "best", "--data.eval_batch_size", "7")
    assert record.exists() and "other options" not in said
    said = train(*test, "--data.num_samples", "48")
    assert "other options than in the training: model.learning_rate 0" in said
    assert "(was 0.5); its own: -c runs/a/config.yaml" in said


def test_options_of_slurm_that_lightning_does_not_take_are_named(folder, train, monkeypatch):
    for name, value in {"NTASKS": "2", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NAME": "job"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    said = train("fit", "-c", "tiny.yaml", status=2)
    assert "`--ntasks=2`" in said and "--ntasks-per-node=2" in said and "Traceback" not in said


def test_the_screen_shows_what_is_about_the_run(tmp_path):
    records = [
        ("lightning.pytorch.utilities.rank_zero", "GPU available: False, used: False", False),
        ("lightning.pytorch.utilities.rank_zero", "\U0001f4a1 Tip: For seamless cloud logging", False),
        ("lightning.pytorch.utilities.rank_zero", "Restoring states from the checkpoint path at x", True),
    ]
    for name, message, shown in records:
        assert says_something(logging.LogRecord(name, logging.INFO, "", 0, message, (), None)) == shown
