import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from methods.checkpoints import load_method
from methods.hmr import HMR
from methods.mesh_batches import PinholeCamera, camera_of, project_to_image
from methods.mesh_regression import Regressor, box_in_view, full_translation
from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.images.crops import joints_in_box
from noise2pose.images.mirroring import mirror_batch, mirror_pose, mirror_smpl
from scripts import export
from tests.tiny import TinyPeople

SMALL = {"width": 16, "hidden": 16, "warmup_steps": 2}


def make(**options):
    L.seed_everything(3, verbose=False)
    return HMR(**{"input": "keypoints", "vertex_weight": 0.0, **SMALL, **options})


def fit(method, folder, data=None, epochs=1, ckpt_path=None, **options):
    trainer = L.Trainer(
        default_root_dir=folder, max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, gradient_clip_val=1.0,
        **{"enable_checkpointing": False, **options},
    )  # fmt: skip
    trainer.fit(method, datamodule=data or TinyPeople(num_samples=32, image_size=1), ckpt_path=ckpt_path)
    return trainer


def step(method, batch):
    """Gradients of one training step outside a Trainer."""
    method.log = method.log_dict = lambda *_, **__: None
    method.zero_grad()
    loss = method.training_step(batch, 0)
    loss.backward()
    return loss


def test_an_untrained_regressor_stands_upright_before_the_camera():
    estimate = Regressor(8, 1024).eval()(torch.zeros(2, 8))
    up = torch.tensor([0.0, 1.0, 0.0])
    assert (estimate.rotations[:, 0] @ up)[:, 1].max() < -0.9  # the body's up is the camera's -y
    front = torch.tensor([0.0, 0.0, 1.0])
    assert (estimate.rotations[:, 0] @ front)[:, 2].max() < -0.9
    assert (estimate.rotations[:, 1:] - torch.eye(3)).abs().max() < 0.2


def test_a_crop_camera_is_one_camera_of_the_whole_image():
    batch = TinyPeople(image_size=1).load("val")
    camera = camera_of(batch)
    translation = full_translation(torch.tensor([0.9, 0.1, -0.2]).repeat(32, 1), batch["box"], camera)
    # A point of the body that the crop's camera sees in the middle of the crop lies in the middle of the box.
    point = torch.tensor([-0.1, 0.2, 0.0]) + translation[:, None]
    pixels = project_to_image(point, camera)
    assert torch.allclose(pixels[:, 0], batch["box"][:, :2], atol=1e-2)
    # One metre in the plane of the point is as long as the crop's camera says.
    further = project_to_image(point + torch.tensor([1.0, 0.0, 0.0]), camera) - pixels
    assert torch.allclose(further[:, 0, 0], 0.9 * batch["box"][:, 2] / 2.0, rtol=1e-4)


def test_a_camera_that_shrank_away_keeps_the_body_in_front():
    batch = TinyPeople(image_size=1).load("val")
    for scale in (-1.0, 0.0, 1e3):
        weak = torch.tensor([scale, 0.0, 0.0]).repeat(32, 1).requires_grad_()
        translation = full_translation(weak, batch["box"], camera_of(batch))
        pixels = project_to_image(torch.randn(32, 17, 3) + translation[:, None], camera_of(batch))
        pixels.sum().backward()
        assert pixels.isfinite().all() and weak.grad.isfinite().all()


def test_the_box_in_view_is_in_focal_lengths():
    camera = PinholeCamera(focal=torch.tensor([[1000.0, 500.0]]), principal_point=torch.tensor([[300.0, 200.0]]))
    box = torch.tensor([[400.0, 100.0, 50.0]])
    assert torch.allclose(box_in_view(box, camera), torch.tensor([[0.1, -0.2, 0.05]]))


def test_a_prediction_is_one_body_in_the_whole_image():
    method = make(box_input=True).eval()
    batch = TinyPeople(image_size=1).load("val")
    with torch.no_grad():
        prediction = method(batch)
        body = method.body(**prediction["smpl"])
        joints = method.body.joints(**prediction["smpl"])
    assert torch.allclose(prediction["joints_3d"], joints - joints[:, :1])
    assert torch.allclose(prediction["vertices"], body.vertices - joints[:, :1])
    assert prediction["camera_translation"].shape == (32, 3) and (prediction["camera_translation"][:, 2] > 0).all()
    assert "vertices" not in method.train()(batch)


def test_data_without_a_box_is_boxed_by_its_joints():
    method = make().eval()
    batch = TinyPeople(image_size=1).load("val")
    boxed = method(batch)["joints_3d"]
    del batch["box"]
    assert torch.allclose(method(batch)["joints_3d"], boxed, atol=1e-4)  # TinyPeople's boxes are made the same way


@pytest.mark.parametrize(
    "left_out", [(), ("smpl", "has_smpl"), ("keypoints_3d",), ("keypoints_3d", "smpl", "has_smpl")]
)
def test_every_parameter_gets_a_gradient_whatever_is_known(left_out):
    batch = {key: value for key, value in TinyPeople(image_size=1).load("val").items() if key not in left_out}
    method = make(box_input=True)
    assert step(method, batch).isfinite()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in method.parameters())


def test_a_step_of_adversarial_training_trains_both_sides(tmp_path):
    method = make(adversarial=True)
    batch = TinyPeople(image_size=1).load("val")
    batch["has_smpl"] = torch.zeros_like(batch["has_smpl"])
    step(method, batch)  # also where no body is known
    assert all(parameter.grad is not None for parameter in method.parameters())
    method = make(adversarial=True)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    trainer = fit(method, tmp_path)
    changed = {
        name.split(".")[0] for name, value in method.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"backbone", "regressor", "discriminators"}
    assert {"train/loss_adversarial", "train/loss_discriminator"} <= set(trainer.callback_metrics)
    rates = [group["initial_lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == [2.5e-4, 1e-4]
    with pytest.raises(InputError, match="adversarial needs data with body parameters"):
        step(make(adversarial=True), {key: value for key, value in batch.items() if key != "smpl"})


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(tmp_path):
    options = {"adversarial": True, "box_input": True, "keypoint_noise": 0.01}
    every_epoch = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    whole = make(**options)
    fit(whole, tmp_path, epochs=3, enable_checkpointing=True, callbacks=[every_epoch])
    resumed = make(**options)
    trainer = fit(resumed, tmp_path, epochs=3, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert trainer.global_step == 6
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_checkpoints_come_back_without_the_body(tmp_path):
    method = make(adversarial=True, box_input=True)
    fit(method, tmp_path).save_checkpoint(tmp_path / "hmr.ckpt")
    loaded = torch.load(tmp_path / "hmr.ckpt", weights_only=True)
    assert not any("template" in key for key in loaded["state_dict"])
    loaded["hyper_parameters"]["_class_path"] = "methods.hmr.HMR"
    torch.save(loaded, tmp_path / "hmr.ckpt")
    assert export.main([str(tmp_path / "hmr.ckpt"), str(tmp_path / "small")]) == 0
    batch = TinyPeople(image_size=1).load("test")
    with torch.no_grad():
        expected = method.eval()(batch)["vertices"]
        assert torch.equal(load_method(tmp_path / "small")(batch)["vertices"], expected)


def test_noise_is_for_training_alone():
    method = make(keypoint_noise=0.1, keypoint_dropout=0.5)
    batch = TinyPeople(image_size=1).load("val")
    assert not torch.equal(method._input(batch, batch["box"]), method._input(batch, batch["box"]))
    hidden = (method._input(batch, batch["box"]) == 0).all(dim=-1).float().mean()
    assert 0.4 < hidden < 0.6
    method.eval()
    assert torch.equal(method._input(batch, batch["box"]), joints_in_box(batch["keypoints_2d"], batch["box"]))
    method = make(input="image", backbone="efficientnet_lite0")
    batch["image"] = torch.full((32, 3, 4, 4), 0.5)
    noisy = method._input(batch, batch["box"])
    assert noisy.min() >= 0.3 - 1e-6 and noisy.max() <= 0.7 + 1e-6
    assert torch.equal(noisy[..., 0, 0], noisy[..., 3, 3]) and noisy[0, 0, 0, 0] != noisy[0, 1, 0, 0]
    assert torch.equal(method.eval()._input(batch, batch["box"]), batch["image"])


def test_what_does_not_fit_is_refused():
    batch = TinyPeople(image_size=1).load("val")
    del batch["image"]
    with pytest.raises(InputError, match="set model.input to keypoints"):
        make(input="image", backbone="efficientnet_lite0")(batch)
    batch["keypoints_2d"] = batch["keypoints_2d"][:, :14]
    with pytest.raises(InputError, match="17 joints"):
        make()(batch)
    with pytest.raises(InputError, match="pretrained is for images"):
        make(pretrained="imagenet")
    with pytest.raises(InputError, match="nowhere.npz"):
        make(body="nowhere.npz")


def test_a_little_training_helps(tmp_path):
    data = TinyPeople(num_samples=256, image_size=1)
    method = make(width=64, hidden=64, learning_rate=2e-3, box_input=True)
    batch = data.load("val")

    def error():
        with torch.no_grad():
            joints = method.eval()(batch)["joints_3d"]
        target = batch["keypoints_3d"][..., :3]
        return float((joints - (target - target[:, :1])).norm(dim=-1).mean())

    before = error()
    fit(method, tmp_path, data, epochs=12, limit_val_batches=0)
    assert error() < 0.8 * before


@pytest.mark.parametrize("options", [{"box_input": True}, {"normalisation": "limbs"}])
def test_with_flip_test_a_mirrored_person_has_the_mirrored_body(options):
    method, batch = make(flip_test=True, **options).eval(), TinyPeople(image_size=1).load("val")
    skeleton = skeletons.get("h36m_17")
    with torch.no_grad():
        answer, other = method(batch), method(mirror_batch(batch, skeleton))
        alone = make(**options).eval()(batch)
    expected = mirror_smpl(answer["smpl"])
    for key in ("global_orient", "body_pose", "betas"):
        assert torch.allclose(other["smpl"][key], expected[key], atol=1e-4)
    # The free body is symmetric but for a few millimetres.
    assert (other["joints_3d"] - mirror_pose(answer["joints_3d"], skeleton)).norm(dim=-1).mean() < 0.01
    mirrored = answer["camera_translation"] * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.allclose(other["camera_translation"], mirrored, atol=0.02)
    assert (alone["smpl"]["body_pose"] - answer["smpl"]["body_pose"]).abs().max() > 1e-3
