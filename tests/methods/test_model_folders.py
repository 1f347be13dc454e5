"""A model folder comes back as it was, and a damaged one is refused in one line."""

import lightning as L
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from methods.checkpoints import AtomicCheckpointIO, load_method
from methods.diffannot import DiffAnnot
from methods.diffpose import ContextEncoder, DiffPose
from methods.hmr import HMR
from methods.model_folders import CARD, CONFIG, WEIGHTS, read_config, read_model, weights_sha256, write_model
from noise2pose.errors import InputError
from noise2pose.files import sha256
from tests.methods.diffpose.contract import SMALL, SMALL_DIFFPOSE
from tests.methods.hmr.contract import SMALL_HMR
from tests.methods.test_checkpoints import export, same
from tests.tiny import TinyPoses


@pytest.fixture(scope="module")
def method():
    torch.manual_seed(0)
    return ContextEncoder(**SMALL).eval()


@pytest.fixture
def folder(method, tmp_path):
    return export(tmp_path / "models" / "encoder", method)


def test_a_folder_holds_weights_configuration_and_card(method, folder):
    assert sorted(path.name for path in folder.iterdir()) == [CARD, CONFIG, WEIGHTS]
    assert (folder / CARD).read_text() == f"card of {sha256(folder / WEIGHTS)}"
    config = read_config(folder)
    assert config.class_path == "methods.diffpose.ContextEncoder" and config.init_args == dict(method.hparams)
    assert config.sha256 == weights_sha256(folder) == sha256(folder / WEIGHTS)
    assert (folder / WEIGHTS).stat().st_mode == (folder / CONFIG).stat().st_mode
    assert same(load_method(folder), method) and load_method(folder).trained_on == "gt"
    assert set(read_model(folder)["state_dict"]) == set(method.state_dict())


def test_nothing_is_overwritten_and_nothing_half_written(method, folder, tmp_path):
    with pytest.raises(InputError, match="encoder exists already"):
        export(folder, method)

    def fail(checksum):
        raise RuntimeError("no card")

    with pytest.raises(RuntimeError, match="no card"):
        write_model(tmp_path / "new", "methods.x", {}, None, method.state_dict(), fail)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    (tmp_path / "new.partial").mkdir()  # of a killed process
    assert same(load_method(export(tmp_path / "new", method)), method)
    assert not (tmp_path / "new.partial").exists()


def changed(folder, **changes):
    config = yaml.safe_load((folder / CONFIG).read_text()) | changes
    config = {key: value for key, value in config.items() if value is not ...}
    (folder / CONFIG).write_text(yaml.safe_dump(config))


def cut(folder):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def foreign(folder, weights):
    save_file(weights, folder / WEIGHTS)
    changed(folder, sha256=sha256(folder / WEIGHTS))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "encoder is not a whole model: model.safetensors is missing"),
        (lambda folder: (folder / CONFIG).unlink(), "encoder is not a model folder: config.yaml is missing"),
        (cut, "model.safetensors is damaged or of another model: its SHA-256 is"),
        (lambda folder: changed(folder, sha256="0" * 64), "model.safetensors is damaged or of another model"),
        (lambda folder: (folder / CONFIG).write_text("a: ["), "config.yaml cannot be read as YAML"),
        (lambda folder: (folder / CONFIG).write_text("1"), "config.yaml holds no keys, expected class_path"),
        (lambda folder: changed(folder, init_args=...), "config.yaml: init_args is missing"),
        (lambda folder: changed(folder, trained_on=...), "config.yaml: trained_on is missing"),
        (lambda folder: changed(folder, class_path=3), "config.yaml: class_path is 3, expected str"),
        (lambda folder: changed(folder, licence="none"), "config.yaml: licence is not known"),
        (
            lambda folder: changed(folder, class_path="os.system"),
            "class_path is os.system, expected a class of methods.",
        ),
        (lambda folder: changed(folder, class_path="methods.diffpose.DiffPose"), "whole methods.diffpose.DiffPose"),
        (lambda folder: changed(folder, init_args={"width": 16, "colour": 3}), "unexpected keyword argument 'colour'"),
        (
            lambda folder: changed(folder, init_args={"width": 8}),
            "does not hold a whole methods.diffpose.ContextEncoder",
        ),
        (lambda folder: foreign(folder, {"other": torch.ones(1)}), "Missing key.*in state_dict"),
        (
            lambda folder: foreign(folder, {**load_file(folder / WEIGHTS), "other": torch.ones(1)}),
            'Unexpected key.*in state_dict: "other"',
        ),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as refusal:
        load_method(folder)
    assert "\n" not in str(refusal.value) and str(folder) in str(refusal.value) and len(str(refusal.value)) < 700


def test_what_is_not_safetensors_is_refused(folder):
    (folder / WEIGHTS).write_bytes(b"\x08\0\0\0\0\0\0\0")
    changed(folder, sha256=sha256(folder / WEIGHTS))
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_method(folder)


def test_a_run_is_no_model_and_says_what_to_give(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / CONFIG).write_text("model: {}\n")
    with pytest.raises(InputError, match=r"run is a run, expected a model: give .*run/checkpoints/best.ckpt"):
        load_method(tmp_path / "run")


def test_a_model_is_no_training_to_resume(method, folder, tmp_path):
    trainer = L.Trainer(
        default_root_dir=tmp_path, logger=False, accelerator="cpu", plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False, enable_checkpointing=False,
    )  # fmt: skip
    with pytest.raises(InputError, match="fit resumes a training, and this checkpoint holds weights alone"):
        trainer.fit(ContextEncoder(**SMALL), TinyPoses(), ckpt_path=folder)


def test_parts_of_other_methods_come_from_folders(method, folder, tmp_path):
    torch.manual_seed(1)
    diffpose = DiffPose(**{**SMALL_DIFFPOSE, "context_checkpoint": str(folder)})
    state = DiffPose(**SMALL_DIFFPOSE).state_dict()
    checkpoint = {"state_dict": {key: value for key, value in state.items() if not key.startswith("encoder.")}}
    diffpose.on_load_checkpoint(checkpoint)  # a denoiser alone takes its encoder from there
    expected = method.network.state_dict()
    found = {
        key.removeprefix("encoder."): value for key, value in checkpoint["state_dict"].items() if "encoder." in key
    }
    assert set(found) == set(expected) and all(torch.equal(found[key], expected[key]) for key in found)
    front_end = export(tmp_path / "hmr", HMR(input="keypoints", **SMALL_HMR))
    annotator = DiffAnnot(frontend_checkpoint=str(front_end), width=32)
    assert same(annotator.frontend, load_method(front_end))
