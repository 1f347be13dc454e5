"""What every method promises, whichever it is."""

from importlib import import_module
from pathlib import Path

import lightning as L
import pytest
import torch

from datamodules.base import select
from methods.base import PoseMethod
from tests.tiny import TinyPeople, TinyPoses

# Every method has small ones of its kind in tests/methods/NAME/contract.py.
FOLDERS = sorted(path.parent.name for path in Path(__file__).parent.glob("*/contract.py"))
CONTRACTS = [import_module(f"tests.methods.{folder}.contract") for folder in FOLDERS]
METHODS = {name: make for contract in CONTRACTS for name, make in contract.METHODS.items()}
GOLDEN = {name: losses for contract in CONTRACTS for name, losses in contract.GOLDEN.items()}


def data_for(method, **options):
    if method.body is not None or method.input == "image":
        return TinyPeople(**options)
    return TinyPoses(num_frames=method.num_frames, **options)


class Losses(L.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def fit(method, folder, **options):
    losses = Losses()
    trainer = L.Trainer(
        default_root_dir=folder,
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[losses],
        **options,
    )
    trainer.fit(method, datamodule=data_for(method, num_samples=48))
    return trainer, losses.values


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


def make(name) -> PoseMethod:
    L.seed_everything(7, verbose=False)
    return METHODS[name]()


def test_golden_losses(name, tmp_path):
    _, losses = fit(make(name), tmp_path)
    # Processors differ by 2e-5 at most, the rounding of the numbers above; but by 2e-4 in the steps of a whole UNet.
    assert losses == pytest.approx(GOLDEN[name], rel=2e-3 if name == "dpmesh_diffusion" else 1e-4)


def test_a_prediction_has_the_agreed_shapes_and_is_deterministic(name, tmp_path):
    method = make(name)
    fit(method, tmp_path)
    batch = data_for(method).load("val")
    method.eval()
    with torch.no_grad():
        prediction, again = method(batch), method(batch)
        part = method(select(batch, torch.tensor([5, 2])))
    if method.answers == "keypoints_2d":
        found = prediction["keypoints_2d"]
        assert found.shape == (32, 17, 3) and found.isfinite().all() and torch.equal(found, again["keypoints_2d"])
        assert torch.allclose(part["keypoints_2d"], found[[5, 2]], atol=0.05)  # pixels
        assert ((found[..., 2] >= 0) & (found[..., 2] <= 1 + 1e-5)).all()
        return
    joints = prediction["joints_3d"]
    clip = (32, 4) if method.num_frames > 1 else (32,)
    assert joints.shape == (*clip, 17, 3) and joints.isfinite().all()
    assert torch.equal(joints, again["joints_3d"])
    assert torch.allclose(part["joints_3d"], joints[[5, 2]], atol=1e-4 * float(joints.abs().max()))
    assert joints[..., 0, :].abs().max() < 1e-5  # relative to the root
    if method.num_hypotheses > 1:
        hypotheses = prediction["hypotheses"]
        assert hypotheses.shape == (method.num_hypotheses, *clip, 17, 3)
        within = (joints >= hypotheses.amin(dim=0) - 1e-5) & (joints <= hypotheses.amax(dim=0) + 1e-5)
        assert within.all()  # an average of some kind
        uncertainty = prediction["uncertainty"]
        assert uncertainty.shape == (*clip, 17) and (uncertainty[..., 1:] > 0).all()


def test_every_method_logs_the_same_keys(name, tmp_path):
    trainer, _ = fit(make(name), tmp_path)
    logged = {key for key in trainer.callback_metrics if "/first_stage/" not in key}
    keys = ("mpjpe", "pa_mpjpe", "n_mpjpe", "pck", "auc")
    if METHODS[name]().answers == "keypoints_2d":
        keys = ("mpjpe_2d", "mpjpe_2d_box", "mpjpe_2d_12", "oks", "oks_ap", "pck_2d")
        assert not {key for key in logged if key.endswith("/mpjpe")}
    assert {"train/loss", *(f"val/tiny/{key}" for key in keys)} <= logged
    calibration = {key for key in logged if "/calibration/" in key}
    oracle = {key for key in logged if "/oracle/" in key}
    number = METHODS[name]().num_hypotheses
    choices = ("best", "best_joints") if number > 1 else ()
    assert oracle == {f"val/tiny/oracle/{of}_of_{number}{end}/mpjpe" for of in choices for end in ("", "_null")}
    names = ("coverage_50", "coverage_90", "crps", "ause") if number > 1 else ()
    assert calibration == {f"val/tiny/calibration/{name}" for name in names}


def test_hyper_parameters_are_plain_values(name):
    assert all(isinstance(value, str | int | float | bool | None) for value in make(name).hparams.values())
