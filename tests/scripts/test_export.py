"""A run becomes a model folder that predicts the same, with a card that says how it was measured."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from methods.checkpoints import load_method
from methods.diffpose import DiffPose
from methods.hmr import HMR
from methods.model_folders import shipped_models
from noise2pose.files import sha256
from scripts.export import main
from scripts.train import main as train
from tests.methods.diffpose.contract import SMALL_DIFFPOSE
from tests.methods.hmr.contract import SMALL_HMR
from tests.methods.test_checkpoints import save
from tests.tiny import TinyPeople, TinyPoses

RUN = """
model:
  class_path: methods.diffpose.ContextEncoder
  init_args: {width: 16, num_blocks: 1, num_heads: 2, warmup_steps: 2}
data: {class_path: tests.tiny.TinyPoses}
trainer: {max_epochs: 1, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A trained and tested run."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "tiny.yaml").write_text(RUN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train(["fit", "-c", "tiny.yaml", "--name", "one"]) == 0
        assert train(["test", "-c", "tiny.yaml", "--name", "one", "--ckpt_path", "best"]) == 0
    return folder / "runs"


@pytest.fixture
def run(runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    return runs / "one"


def export(*arguments, status=0):
    assert main([str(argument) for argument in arguments]) == status


def card_of(folder):
    text = (folder / "README.md").read_text()
    return yaml.safe_load(text.split("---\n")[1]), text


def test_a_run_becomes_a_model_that_predicts_the_same(run, tmp_path, capsys):
    export(run, tmp_path / "model")
    assert "with the numbers of its test" in capsys.readouterr().out
    method, batch = load_method(run / "checkpoints" / "best.ckpt"), TinyPoses().load("test")
    exported = load_method(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(exported(batch)["joints_3d"], method(batch)["joints_3d"])
    assert dict(exported.hparams) == dict(method.hparams) and exported.trained_on == "gt"
    head, text = card_of(tmp_path / "model")
    test = json.loads((run / "test.json").read_text())
    assert f"| MPJPE | {test['metrics']['test/tiny/mpjpe']:.1f} mm |" in text and test["command"] in text
    assert "Protocol `tiny`: tiny, test" in text and f"at commit {test['commit']}, seed 0" in text
    assert sha256(tmp_path / "model" / "model.safetensors") in text and "1 epochs, 4 steps" in text
    assert head["license"] == "unknown" and "| weights | not stated |" in text and "mpjpe" in head["metrics"]
    assert head["datasets"] == ["tiny"] and head["tags"] == ["3d-human-pose-estimation", "diffpose"]


def test_a_model_folder_is_tested_with_the_command_line(run, tmp_path):
    export(run, tmp_path / "model")
    options = ["--name", "again", "--ckpt_path", str(tmp_path / "model")]
    assert train(["test", "-c", "tiny.yaml", *options]) == 0
    again, first = (json.loads((run.parent / name / "test.json").read_text()) for name in ("again", "one"))
    assert again["metrics"] == first["metrics"]


def test_notes_are_kept_and_can_be_taken_from_a_card(run, tmp_path):
    notes = tmp_path / "notes.md"
    notes.write_text(
        "---\nlicense: mit\ndata_license: free\ntags: [tiny]\nmetrics: [mpjpe]\n---\n# Any title\n\nBy hand.\n"
    )
    export(run, tmp_path / "model", "--notes", notes, "--dtype", "float16")
    head, text = card_of(tmp_path / "model")
    assert head["license"] == "mit" and head["metrics"] == ["mpjpe"] and head["tags"][-1] == "tiny"
    assert "# model\n\nBy hand.\n" in text and "Any title" not in text
    assert "| weights | mit |" in text and "| training data | free |" in text
    assert "Measured before the weights were rounded to float16." in text
    (tmp_path / "2").mkdir()
    export(run, tmp_path / "2" / "model", "--notes", tmp_path / "model" / "README.md", "--dtype", "float16")
    assert (tmp_path / "2" / "model" / "README.md").read_text() == text


def test_settings_are_written_and_the_card_says_what_was_measured(run, tmp_path):
    export(run, tmp_path / "model", "--set", "flip_test=true", "--set", "dropout=0")
    method = load_method(tmp_path / "model")
    assert method.flip_test is True and method.hparams["dropout"] == 0.0 and type(method.hparams["dropout"]) is float
    text = card_of(tmp_path / "model")[1]
    assert "| set in the configuration | `flip_test: True`, `dropout: 0.0` |" in text
    assert "Measured with `dropout: 0.25`, `flip_test: False`, unlike the configuration here." in text


def test_a_checkpoint_of_bodies_is_exported_without_numbers(tmp_path, capsys):
    torch.manual_seed(0)
    path = save(tmp_path / "a.ckpt", HMR(input="keypoints", **SMALL_HMR))
    export(path, tmp_path / "model", "--dtype", "bfloat16")
    assert "without numbers of a test" in capsys.readouterr().out
    head, text = card_of(tmp_path / "model")
    assert "## Numbers" not in text and head["tags"] == ["human-mesh-recovery", "hmr"]
    batch = TinyPeople(num_samples=2, image_size=1).load("val")
    with torch.no_grad():
        left, right = (load_method(each)(batch)["joints_3d"] for each in (path, tmp_path / "model"))
    assert torch.allclose(left, right, atol=0.02) and not torch.equal(left, right)


def test_a_shipped_model_is_exported_as_it_is(tmp_path):
    folder = shipped_models()["hmr-people"]
    export("hmr-people", tmp_path / "hmr-people", "--dtype", "float16", "--notes", folder / "README.md")
    for path in folder.iterdir():
        assert (tmp_path / "hmr-people" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("RUN", "RUN"), "exists already"),
        (("nowhere", "OUT"), "no model named nowhere is shipped"),
        (("RUN", "OUT", "--set", "colour=1"), "--set colour=1: expected KEY=VALUE; the keys are encoder, width"),
        (("RUN", "OUT", "--set", "width"), "--set width: expected KEY=VALUE"),
        (("RUN", "OUT", "--set", "width=wide"), "--set width=wide: ContextEncoder does not take this value"),
        (("RUN", "OUT", "--set", "encoder=lstm"), "--set encoder=lstm: ContextEncoder does not take this value"),
        (("RUN", "OUT", "--set", "width=32"), "--set width=32: the weights do not fit a method with these settings"),
        (("RUN", "OUT", "--notes", "none.md"), "--notes: none.md cannot be read"),
        (("RUN", "OUT", "--notes", "notes.md"), "--notes: notes.md: datasets is 'one', expected a list of text"),
        (("diffannot-people", "OUT", "--set", "frontend_checkpoint=a"), "frontend_checkpoint are in the checkpoint"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(run, capsys, arguments, message):
    (run.parent.parent / "notes.md").write_text("---\ndatasets: one\n---\n")
    export(
        *(run if argument == "RUN" else "out" if argument == "OUT" else argument for argument in arguments), status=2
    )
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not list(run.parent.parent.glob("out*"))


def test_numbers_of_another_checkpoint_are_refused(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    assert train(["test", "-c", "tiny.yaml", "--name", "one", "--ckpt_path", "last"]) == 0
    capsys.readouterr()
    export("runs/one", tmp_path / "model", status=2)
    assert "test.json has the numbers of" in (error := capsys.readouterr().err) and "--ckpt_path best" in error
    assert train(["test", "-c", "tiny.yaml", "--name", "one", "--ckpt_path", "best"]) == 0


def test_values_too_large_for_a_type_are_refused(tmp_path, capsys):
    method = HMR(input="keypoints", **SMALL_HMR)
    with torch.no_grad():
        method.regressor.fc1.bias[0] = 1e6
    export(save(tmp_path / "a.ckpt", method), tmp_path / "model", "--dtype", "float16", status=2)
    assert "--dtype float16: values of regressor.fc1.bias are too large for it" in capsys.readouterr().err


def test_counts_that_are_too_large_for_the_type_stay_as_they_are(tmp_path):
    method = DiffPose(variant="paper", **SMALL_DIFFPOSE)
    method.depth_histogram.fill_(1e6)
    export(save(tmp_path / "a.ckpt", method), tmp_path / "model", "--dtype", "float16")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert weights["depth_histogram"].dtype == torch.float32 and (weights["depth_histogram"] == 1e6).all()
    assert {value.dtype for key, value in weights.items() if key.endswith(".weight")} == {torch.float16}
