"""DiffAnnot as a method: its front end, its checkpoints and where its numbers are logged."""

import json

import lightning as L
import pytest
import torch

from datamodules.base import select
from methods.checkpoints import load_method
from methods.diffannot import DiffAnnot
from methods.diffannot.front_end import error_step
from methods.diffannot.states import to_state
from methods.hmr import HMR
from noise2pose.errors import InputError
from noise2pose.metrics import functional
from noise2pose.metrics.protocols import MESH_JOINTS
from scripts import export
from tests.tiny import TinyPeople

SMALL_HMR = {"input": "keypoints", "width": 32, "hidden": 32, "warmup_steps": 2}
FRONT_END = json.dumps({"class_path": "methods.hmr.HMR", "arguments": SMALL_HMR})


def make(**options) -> DiffAnnot:
    L.seed_everything(3, verbose=False)
    small = {"frontend": FRONT_END, "width": 32, "num_blocks": 1, "warmup_steps": 2, "max_steps": 8, "patience": 3}
    return DiffAnnot(**{**small, **options})


def trainer(folder, **options) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(default_root_dir=folder, accelerator="cpu", **{"max_epochs": 1, **quiet, **options})


def answer(method, batch):
    method.eval()
    with torch.no_grad():
        return method(batch)


def test_training_leaves_the_front_end_as_it_was_and_its_weights_are_in_the_checkpoint(tmp_path):
    L.seed_everything(0, verbose=False)
    first = trainer(tmp_path / "hmr")
    first.fit(HMR(**SMALL_HMR), datamodule=TinyPeople())
    first.save_checkpoint(tmp_path / "hmr.ckpt")
    checkpoint = torch.load(tmp_path / "hmr.ckpt", weights_only=True)
    torch.save({**checkpoint, "class_path": "methods.hmr.HMR"}, tmp_path / "hmr.ckpt")

    method = make(frontend=None, frontend_checkpoint=str(tmp_path / "hmr.ckpt"))
    before = {key: value.clone() for key, value in method.frontend.state_dict().items()}
    second = trainer(tmp_path / "diffannot")
    second.fit(method, datamodule=TinyPeople())
    after = method.frontend.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert not method.frontend.training
    second.save_checkpoint(tmp_path / "whole.ckpt")
    checkpoint = torch.load(tmp_path / "whole.ckpt", weights_only=True)
    torch.save({**checkpoint, "class_path": "methods.diffannot.DiffAnnot"}, tmp_path / "whole.ckpt")
    assert export.main([str(tmp_path / "whole.ckpt"), str(tmp_path / "small")]) == 0
    (tmp_path / "hmr.ckpt").unlink()  # the checkpoint does not need it any more

    batch = TinyPeople().load("val")
    expected = answer(method, batch)
    for name in ("whole.ckpt", "small"):
        loaded = answer(load_method(tmp_path / name), batch)
        assert torch.allclose(loaded["joints_3d"], expected["joints_3d"], atol=1e-6)


def test_without_a_front_end_or_with_one_that_knows_no_body_it_says_so(tmp_path):
    with pytest.raises(InputError, match="front end"):
        make(frontend=None)
    with pytest.raises(InputError, match="joints"):
        make(frontend=None, frontend_checkpoint="diffpose-people")
    with pytest.raises(InputError, match="condition"):
        make(denoiser="released", condition="keypoints")


@pytest.mark.parametrize("selector", ["oracle", "half_joints"])
def test_what_the_ground_truth_chose_is_logged_as_oracle_only(selector, tmp_path):
    run = trainer(tmp_path)
    run.fit(make(selector=selector), datamodule=TinyPeople())
    numbers = {key for key in run.callback_metrics if key.startswith("val/")}
    assert "val/tiny/oracle/pa_mpjpe" in numbers and all(key.startswith("val/tiny/oracle/") for key in numbers)


def test_a_selector_that_needs_the_ground_truth_is_refused_without_it():
    batch = TinyPeople().load("val")
    del batch["keypoints_3d"]
    with pytest.raises(InputError, match="keypoints_3d"):
        answer(make(selector="oracle"), batch)


@pytest.mark.parametrize("search", ["paper", "trajectory"])
def test_the_oracle_is_never_worse_than_the_front_end_on_what_it_chooses_by(search):
    method, batch = make(selector="oracle", search=search), TinyPeople().load("val")
    first, refined = answer(method.frontend, batch), answer(method, batch)
    score = method.refiner._score(None, "oracle", method.evidence(batch, to_state(first["smpl"])))
    rows = torch.arange(32)
    before, after = (score(to_state(prediction["smpl"]), rows) for prediction in (first, refined))
    assert (after <= before + 1e-6).all() and (after < before - 1e-4).any()
    kept = refined["refinement"]["step"] == 0
    assert torch.equal(refined["camera_translation"][kept], first["camera_translation"][kept])


@pytest.mark.parametrize("selector", ["none", "fixed", "reproj2d", "consistency", "guided"])
def test_an_answer_does_not_depend_on_who_else_is_in_the_batch(selector):
    method, batch = make(selector=selector, fixed_step=5), TinyPeople().load("val")
    chosen = torch.tensor([9, 30])
    whole, part = answer(method, batch), answer(method, select(batch, chosen))
    assert torch.allclose(whole["joints_3d"][chosen], part["joints_3d"], atol=1e-4)
    assert torch.equal(whole["refinement"]["step"][chosen], part["refinement"]["step"])


def test_reproj2d_never_moves_away_from_the_keypoints():
    refinement = answer(make(selector="reproj2d"), TinyPeople().load("val"))["refinement"]
    assert (refinement["reprojection_after"] <= refinement["reprojection_before"] + 1e-3).all()


def test_the_camera_shows_the_refined_body_where_the_keypoints_are():
    method, batch = make(selector="guided"), TinyPeople().load("val")
    prediction = answer(method, batch)
    joints = method.body.joints(**prediction["smpl"], translation=prediction["camera_translation"])
    camera, keypoints = batch["camera"], batch["keypoints_2d"]
    pixels = joints[..., :2] / joints[..., 2:] * camera["focal"][:, None] + camera["principal_point"][:, None]
    error = (pixels - keypoints[..., :2]).norm(dim=-1).mean(dim=-1)
    assert torch.allclose(error, prediction["refinement"]["reprojection_after"], atol=0.1)
    assert error.median() < prediction["refinement"]["reprojection_before"].median()


def test_another_selector_needs_no_training():
    method, batch = make(selector="oracle"), TinyPeople().load("val")
    method.choose("none")
    assert method.title == "DiffAnnot (none)" and method.num_steps == 0 and not method.needs_ground_truth
    assert torch.equal(answer(method, batch)["joints_3d"], answer(make(selector="none"), batch)["joints_3d"])
    with pytest.raises(InputError, match="guided"):
        method.choose("luck")
    with pytest.raises(InputError, match="no selectors"):
        method.frontend.choose("guided")


def test_files_hold_the_body_that_was_measured():
    method, batch = make(selector="reproj2d", project_rotations=False), TinyPeople().load("val")
    prediction = answer(method, batch)
    joints = method.body.joints(**prediction["smpl"])
    assert torch.allclose(joints - joints[:, :1], prediction["joints_3d"], atol=1e-5)
    identity = prediction["smpl"]["body_pose"].mT @ prediction["smpl"]["body_pose"]
    assert torch.allclose(identity, torch.eye(3).expand_as(identity), atol=1e-5)


def test_the_oracle_chooses_by_the_error_that_is_asked_for():
    batch = TinyPeople().load("val")
    target = batch["keypoints_3d"][..., :3]
    target = target - target[:, :1]
    chosen = list(MESH_JOINTS)
    errors = {}
    for select_by in ("pa_mpjpe", "mpjpe"):
        joints = answer(make(selector="oracle", select_by=select_by), batch)["joints_3d"]
        errors[select_by] = [
            float(error(joints[:, chosen], target[:, chosen]).mean())
            for error in (functional.pa_mpjpe, functional.mpjpe)
        ]
    assert errors["pa_mpjpe"][0] < errors["mpjpe"][0] and errors["mpjpe"][1] < errors["pa_mpjpe"][1]


def test_the_paper_losses_are_not_zero_and_reach_the_denoiser():
    """Alone, with the weights of the paper's configuration."""
    batch = TinyPeople().load("train")
    gradients = {}
    for name, options in (("none", {}), ("3d", {"weight_3d": 5.0}), ("2d", {"weight_2d": 1.0})):
        method = make(**options).train()
        logged = {}
        method.log_dict = logged.update
        method.log = lambda *arguments, **_: None
        torch.manual_seed(5)
        method.training_step(batch, 0).backward()
        assert (name == "none") == (set(logged) == {"train/loss_mse"})
        if name != "none":
            assert logged[f"train/loss_{name}"] > 0.005
        gradients[name] = method.denoiser.output.weight.grad.clone()
    for name in ("3d", "2d"):
        assert (gradients[name] - gradients["none"]).norm() > 0.01 * gradients["none"].norm()


def test_front_end_errors_as_noise(tmp_path):
    """Training learns to undo them: one step from the time at which the answer lies is nearer to the truth."""
    method = make(noise="frontend", sampler="ddim", learning_rate=1e-2, width=64, num_diffusion_steps=200)
    trainer(tmp_path, max_epochs=20, limit_val_batches=0).fit(method, datamodule=TinyPeople(image_size=1))
    batch = TinyPeople().load("train")
    known = batch["has_smpl"]
    with torch.no_grad():
        theta, truth = to_state(method.frontend(batch)["smpl"])[known], to_state(batch["smpl"])[known]
        scale = (theta - truth).square().mean().sqrt()
        assert float(method.error_scale) == pytest.approx(float(scale), rel=0.1)
        step = error_step(method.diffusion, method.error_scale)
        assert method.times >= step
        level = method.diffusion.alphas_cumprod[step - 1]
        assert float((1.0 / level - 1.0).sqrt()) == pytest.approx(float(scale), rel=0.1)
        state = level.sqrt().float() * theta
        noise = method.denoiser(state, method.diffusion.network_time(step - 1))
        clean = method.diffusion.start_from_noise(state, step - 1, noise)
    assert (clean - truth).square().mean() < 0.5 * (theta - truth).square().mean()


def test_front_end_noise_needs_the_truth_and_no_noise_of_its_own():
    for options in (
        {"sampler": "ddpm"},
        {"sampler": "ddim", "x_start": "frontend"},
        {"sampler": "ddim", "denoiser": "released"},
    ):
        with pytest.raises(InputError, match="model.noise frontend needs model.x_start gt, sampler ddim and"):
            make(noise="frontend", **options)


@pytest.mark.parametrize("selector", ["none", "oracle", "guided"])
def test_with_a_front_end_of_limbs_the_whole_method_looks_at_the_person(selector):
    front = json.dumps({"class_path": "methods.hmr.HMR", "arguments": {**SMALL_HMR, "normalisation": "limbs"}})
    method, batch = make(frontend=front, selector=selector, condition="both"), TinyPeople().load("val")
    refined = answer(method, batch)
    joints = method.body.joints(**refined["smpl"])
    assert torch.allclose(joints - joints[:, :1], refined["joints_3d"], atol=1e-5)
    if selector == "none":
        assert torch.allclose(refined["joints_3d"], answer(method.frontend, batch)["joints_3d"], atol=0.02)
