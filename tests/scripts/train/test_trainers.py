"""The pieces of configs/trainers, and the batches of several processes."""

import yaml

from methods.callbacks import saving
from tests import forks
from tests.places import ROOT
from tests.scripts.train.runs import ENCODER, checkpoint, run_in

TRAINERS = ROOT / "configs" / "trainers"


def test_pieces_set_what_they_say(folder, train, monkeypatch):
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    found = {
        path.stem: yaml.safe_load(train("fit", "-c", "tiny.yaml", "-c", str(path), "--print_config"))["trainer"]
        for path in TRAINERS.glob("*.yaml")
    }
    assert found["ddp"]["strategy"] == "ddp" and found["ddp"]["devices"] == "auto"
    assert found["bf16"]["precision"] == "bf16-mixed"
    assert (found["slurm"]["num_nodes"], found["slurm"]["devices"], found["slurm"]["strategy"]) == (2, 4, "ddp")
    assert all(trainer["accelerator"] == "cpu" and trainer["max_epochs"] == 3 for trainer in found.values())


def within_the_epoch(run):
    """Leaves the checkpoint that was saved after the last step, without those of the end of the training."""
    for name in ("last", "best"):
        (run / "checkpoints" / f"{name}.ckpt").unlink()
    return checkpoint(run, "previous")


def test_an_epoch_begins_again_where_its_batches_are_others(folder, train):
    (folder / "encoder.yaml").write_text(ENCODER)
    options = ("fit", "-c", "encoder.yaml", "--name", "a", "--trainer.limit_train_batches", "3")
    train(*options, "--data.batch_size", "8", "--trainer.max_steps", "4", "--saving.minutes", "1e-9")
    assert within_the_epoch(folder / "runs" / "a")["global_step"] == 4
    said = train(*options, "--data.batch_size", "16", "--ckpt_path", "auto")  # as many batches, of other samples
    assert "batches had 8 samples before, and have 16 now" in said
    assert checkpoint(folder / "runs" / "a")["global_step"] == 7  # 4, and all 3 of epoch 1


def ask_always(rank, folder, arguments):
    """Trains in one of two processes, which agree after each step."""
    saving._AGREE_EVERY = 0.0
    run_in(folder, (*arguments, "--trainer.devices", "2", "--trainer.strategy", "ddp"))


def test_one_process_goes_on_within_the_epoch_of_two(folder, train):
    (folder / "encoder.yaml").write_text(ENCODER)
    options = ("fit", "-c", "encoder.yaml", "--name", "a")
    more = ("--data.batch_size", "8", "--trainer.max_steps", "6", "--saving.minutes", "1e-9")
    forks.call_in_two(ask_always, folder, (*options, *more))
    found = within_the_epoch(folder / "runs" / "a")
    assert found["global_step"] == 6 and found["samples_of_batch"] == 16
    said = train(*options, "--data.batch_size", "16", "--ckpt_path", "auto")
    assert "batches had" not in said and checkpoint(folder / "runs" / "a")["global_step"] == 8
