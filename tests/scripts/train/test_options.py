"""Files and options of the command line, and how a wrong one is reported."""

import logging
import subprocess
import sys

import pytest
import yaml

from scripts.train import says_something
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


def test_interpolation_crosses_files_and_the_command_line(folder, train):
    (folder / "more.yaml").write_text("model: {init_args: {width: '${data.init_args.batch_size}'}}\n")
    train("fit", "-c", "tiny.yaml", "-c", "more.yaml", "--data.batch_size", "24", "--name", "x")
    config = yaml.safe_load((folder / "runs" / "x" / "config.yaml").read_text())
    assert config["model"]["init_args"]["width"] == 24


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--model.widht", "3"), "model: methods.diffpose.DiffPose: Option 'widht' is not accepted"),
        (
            ("--model.width", "x"),
            "DiffPose: width: Expected a <class 'int'>; Given value: x\nall options: python scripts/train.py fit",
        ),
        (("--trainer.max_epoch", "x"), "max_epoch"),
        (("-c", "nowhere.yaml"), "nowhere.yaml"),
        (("-c", "broken.yaml"), "in broken.yaml, line 1, column 12"),
        (("--trainer.strategy", "nowhere"), "error: trainer: You selected an invalid strategy"),
        (("--trainer.devices", "99999"), "error: trainer.devices is 99999, and this machine has"),
        (
            ("--trainer.strategy", "ddp_spawn", "--trainer.devices", "2"),
            "error: trainer.strategy: processes that are co",
        ),
        (("--trainer.check_val_every_n_epoch", "0"), "trainer.check_val_every_n_epoch must be at least 1"),
        (("--trainer.val_check_interval", "100"), "error: trainer:  `val_check_interval` (100)"),
        (("--seed_everything", "-1"), "error: --seed_everything: -1 is not in bounds"),
        (("--model.learning_rate", "-1"), "error: model.learning_rate is -1.0, expected at least 0"),
        (("-c", "binary.yaml"), "error: binary.yaml is not a configuration: it is no text in UTF-8"),
        (("-c", "bomb.yaml"), "error: bomb.yaml: with its aliases written out it has more than 100,000 entries"),
        (("--trainer.devices", "0"), "error: trainer: `Trainer(devices='0')` value is not a valid input"),
        (("--model.skeleton", "octopus"), "octopus"),
        (("--data.batch_size", "0"), "data.batch_size and data.eval_batch_size must be at least 1"),
        (("--data.num_joints", "16"), "17 joints in the order of h36m_17"),
        (("--model.context_epochs", "0"), "model.context_checkpoint"),
        (("--model.context_checkpoint", "nowhere.ckpt"), "nowhere.ckpt does not exist"),
        (("--model.context_epochs", "3"), "trainer.max_epochs (3) must exceed model.context_epochs (3)"),
    ],
)
def test_a_wrong_argument_is_named(folder, train, arguments, message):
    (folder / "broken.yaml").write_text("model: {a: ]")
    (folder / "binary.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    bomb = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    (folder / "bomb.yaml").write_text(f"a0: &a0 [b]\n{bomb}")
    output = train("fit", "-c", "tiny.yaml", *arguments, status=2)
    assert message in output and "Traceback" not in output and "usage:" not in output


def test_options_of_slurm_that_lightning_does_not_take_are_named(folder, train, monkeypatch):
    for name, value in {"NTASKS": "2", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NAME": "job"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    said = train("fit", "-c", "tiny.yaml", status=2)
    assert "`--ntasks=2`" in said and "--ntasks-per-node=2" in said and "Traceback" not in said


def test_help_is_quick_and_teaches():
    code = (
        "import sys, time, lightning.pytorch.cli\n"
        "lightning = time.process_time()\n"  # unlike the clock, it does not go on while others have the processor
        "from scripts.train import main\n"
        "try: main(['--help'])\n"
        "finally: print(lightning, time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    lightning, whole = map(float, done.stderr.splitlines()[-1].split())
    assert whole < 1.3 * lightning + 1.0
    assert done.returncode == 0 and "--ckpt_path last" in done.stdout and "configs/loggers/wandb.yaml" in done.stdout


def test_the_screen_shows_what_is_about_the_run(tmp_path):
    records = [
        ("lightning.pytorch.utilities.rank_zero", "GPU available: False, used: False", False),
        ("lightning.pytorch.utilities.rank_zero", "\U0001f4a1 Tip: For seamless cloud logging", False),
        ("lightning.pytorch.utilities.rank_zero", "Restoring states from the checkpoint path at x", True),
    ]
    for name, message, shown in records:
        assert says_something(logging.LogRecord(name, logging.INFO, "", 0, message, (), None)) == shown
