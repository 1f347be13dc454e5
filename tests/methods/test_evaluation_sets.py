"""Several evaluation sets in one validation or test, and checkpoints that know their source of 2-D joints."""

import json
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch

from datamodules.base import BatchLoader, batch_of, select
from datamodules.prepared.protocols import published
from methods.base import MONITOR, PoseMethod
from methods.checkpoints import load_method
from noise2pose.errors import InputError
from scripts import compare, export
from scripts.train import main
from tests.methods.test_evaluation import BODIES, BODY, answer
from tests.tiny import TinyPeople


class Sets(TinyPeople):
    """People as several evaluation sets at once."""

    def __init__(self, keypoints_2d="gt", names=("tiny", "flat"), mixed_keypoints_2d=False):
        super().__init__()
        self.keypoints_2d, self.names, self.mixed_keypoints_2d = keypoints_2d, names, mixed_keypoints_2d

    def protocols(self, split):
        known = {
            "tiny": replace(BODIES, keypoints_2d=self.keypoints_2d, groups="sequence", average="sequences"),
            "flat": replace(published("coco"), dataset="flat", keypoints_2d=self.keypoints_2d),
        }
        return [known[name] for name in self.names]

    def load(self, split):
        samples = super().load(split)
        samples["keypoints_2d_gt"] = samples["keypoints_2d"]
        samples["sequence"] = [f"TS{1 + i // 10}" for i in range(len(samples["sample_id"]))]
        return samples

    def val_dataloader(self):
        return [self._flat(super(Sets, self).val_dataloader(), name) for name in self.names]

    def test_dataloader(self):
        return [self._flat(super(Sets, self).test_dataloader(), name) for name in self.names]

    def _flat(self, loader, name):
        hidden = ("keypoints_3d", "smpl", "has_smpl") if name == "flat" else ()

        def take(index):
            batch = loader.take(index)
            for key in hidden:
                batch.pop(key)
            return batch

        return BatchLoader(take, loader.sampler)


class Bodies(PoseMethod):
    """Answers with one body for all."""

    title = "one body"

    def __init__(self, input: str = "keypoints"):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.input = input
        self.body = BODY
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        return answer({"smpl": {key: x.expand(19, *x.shape[1:]) for key, x in FIRST.items()}})  # pyright: ignore

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return select(self(batch), torch.zeros(len(batch["sample_id"]), dtype=torch.int64))

    def training_step(self, batch, batch_idx):
        return self.weight.square()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


FIRST = batch_of(TinyPeople().load("test"), torch.tensor([0]))["smpl"]


def trainer(folder):
    return L.Trainer(
        default_root_dir=folder, max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def test_several_evaluation_sets_at_once(tmp_path):
    run = trainer(tmp_path)
    run.fit(Bodies(), datamodule=Sets())
    assert {"val/tiny/mpjpe", "val/tiny/pve", "val/flat/mpjpe_2d"} <= set(run.callback_metrics)
    assert run.callback_metrics[MONITOR] == run.callback_metrics["val/tiny/mpjpe"]
    assert not any(key.startswith("val/flat/mpjpe") and "2d" not in key for key in run.callback_metrics)
    other = trainer(tmp_path)
    other.fit(Bodies(), datamodule=Sets(names=("flat", "tiny")))
    assert other.callback_metrics[MONITOR] == run.callback_metrics["val/flat/mpjpe_2d"]
    with pytest.raises(InputError, match="two evaluation sets are called tiny"):
        trainer(tmp_path).fit(Bodies(), datamodule=Sets(names=("tiny", "tiny")))


def test_a_set_on_which_nothing_can_be_measured_is_named(tmp_path):
    class Joints(Bodies):
        def forward(self, batch):
            return {"joints_3d": super().forward(batch)["joints_3d"]}

    with pytest.raises(InputError, match="^val of flat: no answer of one body could be compared with 2-D ground truth"):
        trainer(tmp_path).fit(Joints(), datamodule=Sets(names=("flat", "tiny")))


@pytest.mark.parametrize("verb", ["test", "validate"])
def test_another_source_of_keypoints_needs_a_flag_and_is_written_down(tmp_path, verb):
    run = trainer(tmp_path)
    run.fit(Bodies(), datamodule=Sets("synthetic"))
    path = tmp_path / "trained.ckpt"
    run.save_checkpoint(path)

    def evaluate_on(method, data):
        getattr(trainer(tmp_path), verb)(method, datamodule=data, ckpt_path=path, verbose=False)
        return [protocol.train_keypoints_2d for protocol in method.protocols]

    assert evaluate_on(Bodies(), Sets("synthetic")) == [None, None]
    with pytest.raises(InputError) as refused:
        evaluate_on(Bodies(), Sets("gt"))
    message = str(refused.value)
    assert message.startswith("one body was trained on synthetic 2-D keypoints, and data.keypoints_2d of tiny is gt")
    assert "--data.mixed_keypoints_2d true" in message and "\n" not in message
    assert evaluate_on(Bodies(), Sets("gt", mixed_keypoints_2d=True)) == ["synthetic", "synthetic"]
    assert evaluate_on(Bodies("image"), Sets("gt")) == [None, None]  # looks at pictures
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint.pop("trained_on") == "synthetic"
    torch.save(checkpoint, path)
    assert evaluate_on(Bodies(), Sets("gt")) == [None, None]  # of before it was recorded


def test_a_fit_may_not_validate_on_another_source_either(tmp_path):
    class Mixed(Sets):
        def protocols(self, split):
            source = "gt" if split == "train" else "detected"
            return [replace(protocol, keypoints_2d=source) for protocol in super().protocols(split)]

    with pytest.raises(InputError, match="was trained on gt 2-D keypoints, and data.keypoints_2d of tiny is detected"):
        trainer(tmp_path).fit(Bodies(), datamodule=Mixed())
    method = Bodies()
    trainer(tmp_path).fit(method, datamodule=Mixed(mixed_keypoints_2d=True))
    assert method.trained_on == "gt" and method.protocols[0].train_keypoints_2d == "gt"


TINY = """
model:
  class_path: methods.hmr.HMR
  init_args: {input: keypoints, width: 16, hidden: 16, warmup_steps: 2}
data: {class_path: tests.methods.test_evaluation_sets.Sets, init_args: {keypoints_2d: gt}}
trainer: {max_epochs: 1, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""


def test_every_set_and_its_groups_are_recorded_and_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    assert main(["fit", "-c", "tiny.yaml", "--name", "a"]) == 0
    assert main(["test", "-c", "tiny.yaml", "--name", "a", "--ckpt_path", "best"]) == 0
    record = json.loads(Path("runs/a/test.json").read_text())
    assert [protocol["dataset"] for protocol in record["protocols"]] == ["tiny", "flat"]
    assert "test/flat/mpjpe_2d_box" in record["metrics"]
    table = record["groups"]["tiny"]["metrics"]["mpjpe"]
    assert list(record["groups"]) == ["tiny"] and table["poses"] == {"TS1": 10, "TS2": 9}
    assert record["metrics"]["test/tiny/mpjpe"] == pytest.approx(table["mean_of_groups"], rel=1e-5)
    assert export.main(["runs/a", "small"]) == 0
    assert load_method("./small").trained_on == "gt"
    small = ["test", "-c", "tiny.yaml", "--name", "b", "--ckpt_path", "./small", "--data.keypoints_2d", "detected"]
    capsys.readouterr()
    assert main(small) == 2
    assert "was trained on gt 2-D keypoints" in capsys.readouterr().err
    assert main([*small, "--data.mixed_keypoints_2d", "true"]) == 0
    capsys.readouterr()
    assert compare.main(["runs/a", "runs/b", "--output", "report"]) == 0
    text = capsys.readouterr().out
    for heading in ("Protocol A (p)", "Protocol B (coco)", "Protocol C (p)", "By sequence; mean = every sequence"):
        assert heading in text
    assert "detected (trained on gt)" in text and "unweighted mean over sequences" in text
    assert "2-D % of box" in text and "TS1" in text and text.startswith("NOT COMPARABLE")
    page = Path("report/report.md").read_text()
    assert "detected (trained on gt)" in page and "| TS1 | TS2 |" in page
    assert compare.main(["runs/a", "--output", "report"]) == 0
    assert "NOT COMPARABLE" not in capsys.readouterr().out  # two sets of one run
