"""DPMesh as a method: what reaches the networks, the two stages of the reasoning, and coming back from checkpoints."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from methods.callbacks.averaging import WarmupEMA
from methods.checkpoints import load_method
from methods.dpmesh import Codebook
from methods.dpmesh.regressor.pose_heads import VPoserDecoder
from noise2pose.errors import InputError
from tests import forks
from tests.methods.dpmesh.training import batch_of, changed, fit, make, weights
from tests.tiny import TinyPeople

TINY_CODEBOOK = {"num_tokens": 4, "num_codes": 8, "code_width": 8, "encoder_width": 16, "encoder_hidden": 16}


class Stages(L.Callback):
    """Copies teacher and student after each epoch."""

    def __init__(self):
        self.teacher, self.student = [], []

    def on_train_epoch_end(self, trainer, pl_module):
        self.teacher.append(weights(pl_module.teacher))
        self.student.append(weights(pl_module.network))


@pytest.mark.parametrize(
    "options",
    [
        {"backbone": "transformer"},
        {"backbone": "resnet50"},
        {"backbone": "diffusion"},
        {"backbone": "diffusion", "context": "linear30"},
        {"backbone": "diffusion", "context": "linear30", "release": True, "latent": "release"},
    ],
)
def test_what_is_absent_changes_nothing(options):
    method, batch = make(**options).eval(), batch_of()
    with torch.no_grad():  # what starts at zero, as a ControlNet's output, would hide a difference
        for parameter in method.parameters():
            parameter.add_(0.002 * torch.randn(parameter.shape))
    batch["keypoints_2d"][0, 3, 2] = 0.0  # no confidence
    batch["keypoints_2d"][0, 5, :2] = 1e5  # outside the image
    batch["keypoints_2d"][1, :, 2] = 0.0  # no joint was found
    with torch.no_grad():
        answer = method(batch)
        batch["keypoints_2d"][0, [3, 5], :2] = torch.tensor([[float("nan"), 3.0], [-77.0, 2e6]])
        batch["keypoints_2d"][1, :, :2] = 5.0
        again = method(batch)
        batch["keypoints_2d"][0, 4, 2] = 0.0
        other = method(batch)
    assert answer["joints_3d"].isfinite().all() and answer["vertices"].isfinite().all()
    assert torch.equal(answer["joints_3d"], again["joints_3d"])
    assert torch.equal(answer["joints_3d"][1], other["joints_3d"][1])
    assert not torch.equal(answer["joints_3d"][0], other["joints_3d"][0])


def test_a_box_of_one_pixel_and_two_people_in_the_crop_are_answered():
    method, batch = make().eval(), batch_of(3)
    batch["box"][0, 2] = 1.0
    batch["keypoints_2d"][1, ::2] = batch["keypoints_2d"][2, ::2]  # joints of somebody else
    with torch.no_grad():
        answer = method(batch)
    assert all(answer[key].isfinite().all() for key in ("joints_3d", "vertices", "camera_translation"))
    method.train()
    batch["box"][0, 2] = 0.0
    with pytest.raises(InputError, match="box of sample val_0 is"):
        method(batch)
    del batch["image"]
    batch["box"][0, 2] = 1.0
    with pytest.raises(InputError, match="DPMesh takes images and this data has none"):
        method(batch)


def test_without_a_focal_length_the_diagonal_of_each_image_is_taken():
    method, batch = make().eval(), batch_of()
    batch["camera"] = {"image_size": torch.tensor([[300.0, 400.0], [600.0, 800.0]])}
    with torch.no_grad():
        unknown = method(batch)["camera_translation"]
        batch["camera"] |= {
            "focal": torch.tensor([[500.0], [1000.0]]).expand(2, 2),
            "principal_point": batch["camera"]["image_size"] / 2.0,
        }
        assert torch.allclose(unknown, method(batch)["camera_translation"])


def test_conditions_that_are_switched_off_are_not_looked_at():
    def joints(method, batch):
        with torch.no_grad():
            return method.eval()(batch)["joints_3d"]

    batch, moved = batch_of(), batch_of()
    moved["keypoints_2d"][..., 0] += 30.0
    blind = make(backbone="diffusion", heatmaps=False, context="none")
    assert torch.equal(joints(blind, batch), joints(blind, moved)) and not blind.uses_keypoints
    assert blind.network.features.backbone.controlnet is None
    for options in ({"heatmaps": False}, {"context": "none"}):
        sighted = make(backbone="diffusion", **options)
        with torch.no_grad():  # the ControlNet's output layers start at zero
            for parameter in sighted.parameters():
                parameter.add_(0.01)
        assert not torch.equal(joints(sighted, batch), joints(sighted, moved)) and sighted.uses_keypoints


def test_the_teacher_is_trained_first_and_frozen_then(tmp_path):
    stages = Stages()
    method = make(nkr="both", teacher_epochs=2)
    start = weights(method.network)
    trainer = fit(method, tmp_path, epochs=3, callbacks=[stages])
    assert not changed(start, stages.student[1]) and changed(start, stages.teacher[0])
    assert not changed(stages.teacher[1], stages.teacher[2]) and changed(stages.student[1], stages.student[2])
    assert {"train/loss_nkr_mse", "train/loss_nkr_contrastive"} <= set(trainer.callback_metrics)
    assert int(method.student_steps) == 2 and not method.teacher.training
    student = set(method.network.parameters())
    assert student >= set(trainer.optimizers[0].state)  # what was for the teacher takes no memory any more


def test_what_training_leaves_as_it_is_teacher_and_student_have_in_common():
    method = make(backbone="diffusion", nkr="mse", teacher_epochs=1, lora_rank=4)
    student, teacher = (dict(part.named_parameters()) for part in (method.network, method.teacher))
    for name, parameter in student.items():
        assert (parameter is teacher[name]) == (not parameter.requires_grad), name
    batch = batch_of()
    observed = method.observer.observe(batch)
    given = observed.image, observed.conditions
    with torch.no_grad():
        first = method.network.levels(*given)
        method.teacher.features.backbone.controlnet.conv_in.weight.add_(1.0)
        method.teacher.levels(*given)
        assert all(torch.equal(a, b) for a, b in zip(first, method.network.levels(*given), strict=True))


@pytest.mark.slow
def test_a_run_that_is_resumed_in_the_middle_of_the_reasoning_ends_where_the_whole_one_does(tmp_path):
    every_epoch = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    options = {"nkr": "both", "teacher_epochs": 1}
    whole, resumed = make(**options), make(**options)
    first = fit(whole, tmp_path, 3, enable_checkpointing=True, callbacks=[every_epoch, WarmupEMA()])
    torch.manual_seed(99)
    second = fit(resumed, tmp_path, 3, tmp_path / "epoch=1.ckpt", callbacks=[WarmupEMA()])
    assert first.global_step == second.global_step == 6
    assert not changed(weights(whole), weights(resumed))
    left, right = (trainer.optimizers[0].state_dict()["state"] for trainer in (first, second))
    assert left.keys() == right.keys()
    for key, state in left.items():
        assert all(torch.equal(value, right[key][name]) for name, value in state.items())


@pytest.mark.parametrize(
    "options",
    [
        {"backbone": "resnet50"},
        {"backbone": "transformer"},
        {"backbone": "diffusion", "lora_rank": 4},
        {"backbone": "diffusion", "lora_rank": 4, "heatmaps": False, "context": "none"},
        {"backbone": "diffusion", "lora_rank": 4, "context": "none"},
        {"backbone": "diffusion", "context": "linear30", "lora_scope": "attn_ff", "train_controlnet": False},
        {"backbone": "diffusion", "unet_training": "full"},
    ],
)
def test_everything_that_is_trained_gets_a_gradient(tmp_path, options):
    """Or training in several processes would stop."""

    class Gradients(L.Callback):
        missing = None

        def on_after_backward(self, trainer, pl_module):
            self.missing = [name for name, p in pl_module.named_parameters() if p.requires_grad and p.grad is None]

    gradients = Gradients()
    data = TinyPeople(num_samples=2, batch_size=2)
    fit(make(**options, uncertainty=True), tmp_path, data=data, callbacks=[gradients])
    assert gradients.missing == []


def test_a_compiled_student_has_a_compiled_teacher():
    method = make(backbone="diffusion", nkr="mse", teacher_epochs=1, compile=True)
    compiled = [
        [name for name, module in network.named_modules() if module._compiled_call_impl is not None]
        for network in (method.network, method.teacher)
    ]
    assert compiled[0] == compiled[1] == ["features.backbone.unet", "features.backbone.controlnet"]


def _train_in_two(rank, folder):
    last = ModelCheckpoint(folder, save_last=True)
    method, two = make(nkr="both", teacher_epochs=1), {"devices": 2, "strategy": "ddp"}
    fit(method, folder, 2, enable_checkpointing=True, callbacks=[last], **two)


@pytest.mark.slow
def test_two_processes_train_teacher_and_student(tmp_path):
    start = weights(make(nkr="both", teacher_epochs=1).network)
    forks.call_in_two(_train_in_two, tmp_path)
    after = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    for part in ("network", "teacher"):
        found = {key: after[f"{part}.{key}"] for key in start}
        assert changed(start, found) and all(value.isfinite().all() for value in found.values())


@pytest.fixture(scope="module")
def codebook(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codebook")
    fit(Codebook(**TINY_CODEBOOK), folder).save_checkpoint(folder / "codebook.ckpt")
    checkpoint = torch.load(folder / "codebook.ckpt", weights_only=True)
    torch.save({**checkpoint, "class_path": "methods.dpmesh.Codebook"}, folder / "codebook.ckpt")
    return folder / "codebook.ckpt"


@pytest.mark.parametrize("head", ["vq_soft", "vq_ce", "vposer"])
def test_every_pose_head_is_trained_and_comes_back(tmp_path, codebook, head):
    options = {"codebook_checkpoint": str(codebook)}
    if head == "vposer":
        options = {"vposer_file": str(tmp_path / "vposer.pt")}
        torch.save(VPoserDecoder().state_dict(), tmp_path / "vposer.pt")
    method = make(pose_head=head, **options)
    before = weights(method.network)
    trainer = fit(method, tmp_path)
    assert changed(before, weights(method.network))
    assert ("train/loss_tokens" in trainer.callback_metrics) == (head == "vq_ce")
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    torch.save({**checkpoint, "class_path": "methods.dpmesh.DPMesh"}, tmp_path / "a.ckpt")
    codebook_file = checkpoint["hyper_parameters"]["codebook_checkpoint"]
    assert codebook_file == options.get("codebook_checkpoint")
    if codebook_file:  # a run's own configuration has both, and a new training needs the file
        both = {"pose_head": head, "codebook_checkpoint": "gone.ckpt", "codebook": method.hparams["codebook"]}
        make(**both).load_state_dict(checkpoint["state_dict"])
        with pytest.raises(InputError, match="model.codebook_checkpoint: checkpoint gone.ckpt does not exist"):
            fit(make(**both), tmp_path)
    loaded = load_method(tmp_path / "a.ckpt")  # reads no other file
    assert loaded.hparams["codebook_checkpoint"] is None
    with torch.no_grad():
        assert torch.equal(loaded(batch_of())["joints_3d"], method.eval()(batch_of())["joints_3d"])


def test_other_weights_than_vposers_are_refused(tmp_path):
    torch.save({"bodyprior_dec_fc1.weight": torch.zeros(512, 16)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="model.vposer_file: .*other.pt: the weights do not fit the decoder of VPoser"):
        make(pose_head="vposer", vposer_file=str(tmp_path / "other.pt"))


@pytest.mark.parametrize(
    "options",
    [{"uncertainty": True}, {"train_keypoints": "batch"}, {"train_keypoints": "clean"}, {"backbone": "resnet50"}],
)
def test_options_of_the_training(tmp_path, options):
    method = make(**options)
    before = weights(method.network)
    trainer = fit(method, tmp_path)
    assert changed(before, weights(method.network)) and trainer.callback_metrics["train/loss"].isfinite()


@pytest.mark.parametrize("backbone", ["diffusion", "resnet50", "transformer"])
def test_larger_images_make_more_cells(backbone):
    method = make(backbone=backbone, image_size=128).eval()
    observed = method.observer.observe(batch_of())
    with torch.no_grad():
        estimate, _ = method.network(observed.image, observed.conditions)
    assert observed.conditions.heatmaps.shape[-1] == 32 and estimate.plane.shape[-2:] == (8, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"gradient_checkpointing": True, "maps": "8-16-32"},
        {"latent": "release", "context": "linear30", "lora_scope": "attn_ff", "train_controlnet": False},
        {"unet_training": "full", "channels_last": True},
    ],
)
def test_options_of_the_backbone(tmp_path, options):
    method = make(backbone="diffusion", lora_rank=4, **options)
    before = weights(method.network)
    trainer = fit(method, tmp_path, data=TinyPeople(num_samples=2, batch_size=2), precision="bf16-mixed")
    moved = changed(before, weights(method.network))
    assert trainer.callback_metrics["train/loss"].isfinite()
    assert not any("autoencoder" in key for key in moved)
    assert any("unet" in key for key in moved)
    assert any("controlnet" in key for key in moved) == options.get("train_controlnet", True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert method.eval()(batch_of(1))["joints_3d"].dtype == torch.float32
