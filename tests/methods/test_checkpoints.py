import gc
import importlib
import json
import sys
from pathlib import Path

import lightning as L
import pytest
import torch

from methods import model_folders
from methods.base import class_path_of
from methods.callbacks.averaging import WarmupEMA
from methods.checkpoints import (
    AtomicCheckpointIO,
    describe_method,
    find_checkpoint,
    load_method,
    make_described_method,
)
from methods.diffannot import DiffAnnot
from methods.diffpose import ContextEncoder, DiffPose
from methods.diffpose.denoisers import GraphLifter
from methods.dpmesh import Codebook, DPMesh, Prior
from methods.hmr import HMR
from methods.model_folders import write_model
from noise2pose.errors import InputError
from tests.methods.diffannot.contract import SMALL_DIFFANNOT
from tests.methods.diffpose.contract import SMALL, SMALL_DIFFPOSE
from tests.methods.hmr.contract import SMALL_HMR
from tests.methods.test_contract import fit
from tests.tiny import TinyPoses


def save(path, method, **more):
    described = {"class_path": class_path_of(type(method)), "hyper_parameters": dict(method.hparams)}
    torch.save({"state_dict": method.state_dict(), **described, **more}, path)
    return path


def same(left, right):
    return type(left) is type(right) and all(torch.equal(a, b) for a, b in zip(*states(left, right), strict=True))


def states(*methods):
    return (method.state_dict().values() for method in methods)


@pytest.mark.parametrize("make", [lambda: DiffPose(**SMALL_DIFFPOSE), lambda: ContextEncoder(**SMALL)])
def test_a_method_comes_back_in_evaluation_mode(tmp_path, make):
    method = make()
    loaded = load_method(save(tmp_path / "a.ckpt", method))
    assert same(loaded, method) and not loaded.training


def test_classes_are_stored_by_the_package_that_offers_them():
    for kind in (ContextEncoder, DiffPose, DiffAnnot, HMR, Codebook, DPMesh, Prior):
        package = f"methods.{kind.__module__.split('.')[1]}"
        assert class_path_of(kind) == f"{package}.{kind.__name__}"
        assert getattr(importlib.import_module(package), kind.__name__) is kind
    assert class_path_of(GraphLifter) == "methods.diffpose.denoisers.GraphLifter"  # which no package offers
    assert json.loads(describe_method(HMR(input="keypoints", **SMALL_HMR)))["class_path"] == "methods.hmr.HMR"


@pytest.fixture
def moved(monkeypatch):
    """Moves the file of a method within its package, so that nothing finds the class where it was."""

    def move(kind):
        old = kind.__module__
        package, new = sys.modules[old.rpartition(".")[0]], old + "_moved"
        monkeypatch.setattr(package, kind.__name__, kind)
        monkeypatch.setattr(kind, "__module__", new)
        monkeypatch.setitem(sys.modules, new, sys.modules[old])
        monkeypatch.setitem(sys.modules, old, None)
        with pytest.raises(ImportError):
            importlib.import_module(old)

    return move


def test_a_checkpoint_outlives_a_move_of_its_methods_file(tmp_path, moved):
    method = DiffAnnot(**SMALL_DIFFANNOT)
    path = save(tmp_path / "a.ckpt", method)
    moved(HMR)
    moved(DiffAnnot)
    assert same(load_method(path), method)


def test_a_description_that_names_the_file_is_read_too():
    method = HMR(input="keypoints", **SMALL_HMR)
    description = describe_method(method).replace("methods.hmr.HMR", "methods.hmr.module.HMR")
    assert isinstance(make_described_method(description), HMR)
    for wrong in ("none", '{"class_path": "methods.hmr.gone.HMR", "arguments": {}}'):
        with pytest.raises(InputError, match="does not describe a method of this version"):
            make_described_method(wrong)


def test_the_encoders_own_checkpoint_is_not_needed_again(tmp_path):
    method = DiffPose(**{**SMALL_DIFFPOSE, "context_checkpoint": "long/gone.ckpt"})
    loaded = load_method(save(tmp_path / "a.ckpt", method))
    assert same(loaded, method) and loaded.hparams["context_checkpoint"] is None


def export(folder, method):
    """A model folder."""
    class_path, weights = class_path_of(type(method)), method.state_dict()
    write_model(folder, class_path, dict(method.hparams), "gt", weights, "card of {}".format)
    return folder


def test_shipped_models_have_names(tmp_path, monkeypatch):
    monkeypatch.setattr(model_folders, "SHIPPED", tmp_path / "models")
    with pytest.raises(InputError, match="no model named small is shipped; there is none"):
        load_method("small")
    export(tmp_path / "models" / "small", ContextEncoder(**SMALL))
    assert isinstance(load_method("small"), ContextEncoder) and load_method("small").trained_on == "gt"
    with pytest.raises(InputError, match="no model named large is shipped; there is small"):
        load_method("large")


def test_a_folder_here_comes_before_a_shipped_name_if_it_is_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hmr-people").mkdir()
    assert find_checkpoint("hmr-people") == model_folders.SHIPPED / "hmr-people"
    (tmp_path / "hmr-people").rmdir()
    export(tmp_path / "hmr-people", ContextEncoder(**SMALL))
    assert isinstance(load_method("hmr-people"), ContextEncoder)


def test_a_model_folder_is_tested_by_the_trainer(tmp_path):
    method = ContextEncoder(**SMALL).eval()
    folder = export(tmp_path / "model", method)
    other = ContextEncoder(**SMALL)
    trainer = L.Trainer(
        default_root_dir=tmp_path, logger=False, accelerator="cpu", plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
    )  # fmt: skip
    trainer.test(other, TinyPoses(), ckpt_path=folder, verbose=False)
    assert same(other, method) and other.trained_on == "gt"


def test_what_is_not_a_method_is_refused_by_name(tmp_path):
    path, method = tmp_path / "a.ckpt", ContextEncoder(**SMALL)
    with pytest.raises(InputError, match="a.ckpt does not exist"):
        load_method(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="a.ckpt cannot be read as a checkpoint"):
        load_method(path)
    torch.save({"state_dict": {}, "hyper_parameters": {}, "log": InputError("an object")}, path)
    with pytest.raises(InputError, match="a.ckpt holds more than weights, and nothing of it was run"):
        load_method(path)
    for content in ([1], {"state_dict": {}}):
        torch.save(content, path)
        with pytest.raises(InputError, match="a.ckpt has no (state_dict|hyper_parameters)"):
            load_method(path)
    for class_path, message in {
        "os.system": "class_path is os.system, expected a class of methods.",
        "methods.diffpose.nothing": "does not hold a whole methods.diffpose.nothing",
        "methods.checkpoints.load_method": "is something else, expected a subclass of methods.base.PoseMethod",
        "methods.diffpose.DiffPose": "does not hold a whole methods.diffpose.DiffPose",
    }.items():
        with pytest.raises(InputError, match=f"a.ckpt.*{message}"):
            load_method(save(path, method, class_path=class_path))
    torch.save({"state_dict": {"diffusion.denoiser.x": torch.ones(1)}, "hyper_parameters": {}}, path)
    with pytest.raises(InputError, match="a.ckpt has no class_path, so it does not say which method it holds"):
        load_method(path)
    with pytest.raises(InputError, match="does not exist"):
        load_method("folder/nothing")


class Averages(L.Callback):
    """Copies the averaged weights at the end of each epoch, and the raw ones at its start."""

    def __init__(self, ema):
        self.ema, self.raw, self.averaged = ema, [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.raw.append({key: value.clone() for key, value in pl_module.state_dict().items()})

    def on_train_epoch_end(self, trainer, pl_module):
        state = self.ema._average_model.module.state_dict()
        self.averaged.append({key: value.clone() for key, value in state.items()})


def test_averages_start_again_when_the_denoiser_does(tmp_path):
    ema = WarmupEMA(0.999)
    watch = Averages(ema)
    trainer = L.Trainer(
        default_root_dir=tmp_path, max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[watch, ema],
    )  # fmt: skip
    trainer.fit(DiffPose(**{**SMALL_DIFFPOSE, "context_epochs": 2}), datamodule=TinyPoses())
    encoder = [key for key in watch.raw[0] if key.startswith("encoder.")]
    # The denoiser is trained on the averaged encoder, which then stays as it is.
    assert all(torch.equal(watch.raw[2][key], watch.averaged[1][key]) for key in encoder)
    assert all(torch.allclose(watch.averaged[2][key], watch.averaged[1][key], atol=1e-7) for key in encoder)
    assert ema._average_model is not None and int(ema._average_model.n_averaged) == 4  # steps of the last epoch


class Steps(L.Callback):
    """Copies all weights, raw and averaged, after each training step; to be called after the average."""

    def __init__(self, ema):
        self.ema, self.raw, self.averaged = ema, [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        for found, module in ((self.raw, pl_module), (self.averaged, self.ema._average_model.module)):
            found.append(torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).clone())


@pytest.mark.parametrize(("asked", "expected"), [(None, 0.25), (0.05, 0.05)])
def test_a_method_may_ask_for_a_longer_or_shorter_average(tmp_path, asked, expected):
    """The decay of the callback is for methods that ask for none; each average is that of the formula."""
    method = ContextEncoder(**SMALL)
    method.ema_decay = asked
    ema = WarmupEMA(0.25)
    steps = Steps(ema)
    trainer = L.Trainer(
        default_root_dir=tmp_path, max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[ema, steps],
    )  # fmt: skip
    trainer.fit(method, datamodule=TinyPoses())
    assert ema.decay == expected and len(steps.raw) == len(steps.averaged) == 4
    average = steps.averaged[0]  # the first update copies
    for number in (1, 2, 3):
        decay = min(expected, (1 + number) / (10 + number))
        average = decay * average + (1.0 - decay) * steps.raw[number]
        assert torch.allclose(steps.averaged[number], average, atol=1e-6)


class Shared(L.Callback):
    """Tells which tensors the method and its average have in common in each epoch; to be called after the average."""

    def __init__(self, ema):
        self.ema, self.shared, self.names = ema, [], []

    def on_train_epoch_end(self, trainer, pl_module):
        current = dict(pl_module.named_parameters())
        average = dict(self.ema._average_model.module.named_parameters())
        self.names = list(current)
        self.shared.append({name for name in current if current[name].data_ptr() == average[name].data_ptr()})


class HalfFrozen(ContextEncoder):
    """Trains all but its first parameter, and freezes the last in the first epoch."""

    def __init__(self):
        super().__init__(**SMALL)
        next(self.parameters()).requires_grad_(False)

    def frozen_parameters(self):
        return iter([list(self.parameters())[-1]] if self.current_epoch == 0 else [])


def test_what_is_not_trained_has_no_average(tmp_path):
    ema = WarmupEMA(0.999)
    watch = Shared(ema)
    method = HalfFrozen()
    before = next(method.parameters()).clone()
    trainer = L.Trainer(
        default_root_dir=tmp_path, max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[ema, watch],
    )  # fmt: skip
    trainer.fit(method, datamodule=TinyPoses())
    assert watch.shared == [{watch.names[0], watch.names[-1]}, {watch.names[0]}]
    assert torch.equal(next(method.parameters()), before)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(saved["state_dict"][watch.names[0]], before)


class Mapped(L.Callback):
    """Tells whether a file is still mapped into memory when training begins."""

    def __init__(self, path):
        self.path, self.found = path, None

    def on_train_start(self, trainer, pl_module):
        gc.collect()
        self.found = str(self.path) in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_a_resumed_run_lets_go_of_its_checkpoint(tmp_path):
    trainer, _ = fit(ContextEncoder(**SMALL), tmp_path)
    path = tmp_path / "run.ckpt"
    trainer.save_checkpoint(path)
    watch = Mapped(path)
    again = L.Trainer(
        default_root_dir=tmp_path, max_epochs=trainer.max_epochs + 1, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[watch],
        plugins=[AtomicCheckpointIO()],
    )  # fmt: skip
    again.fit(ContextEncoder(**SMALL), datamodule=TinyPoses(), ckpt_path=path)
    assert again.global_step > trainer.global_step and watch.found is False


def test_a_tensor_that_changed_on_the_disk_is_noticed(tmp_path):
    path, method = tmp_path / "last.ckpt", ContextEncoder(**SMALL)
    AtomicCheckpointIO().save_checkpoint(torch.load(save(path, method), weights_only=True), path)
    assert same(load_method(path), method)
    content = path.read_bytes()
    values = max(method.parameters(), key=torch.numel).detach().numpy().tobytes()
    path.write_bytes(content.replace(values, bytes(len(values))))
    with pytest.raises(
        InputError, match=r"last.ckpt is damaged: last.ckpt/data/\d+ in it is not what was written; --ckpt"
    ):
        load_method(path)
    for broken in (path.read_bytes(), b"", content[: len(content) // 2]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="--ckpt_path auto continues from the one before$"):
            load_method(path)


def test_a_file_that_was_written_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        path = save(tmp_path / "a.ckpt", ContextEncoder(**SMALL))
    finally:
        torch.serialization.set_crc32_options(True)
    load_method(path)
