from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.base import select
from methods.cliff import CLIFF
from methods.cliff.regressor import box_information, cropped, of_smpl
from methods.mesh_batches import PinholeCamera, camera_of
from methods.mesh_regression import Estimate
from noise2pose.errors import InputError
from noise2pose.images.mirroring import mirror_batch, mirror_smpl
from noise2pose.skeletons import get
from tests.forks import call_in_two
from tests.methods.cliff.contract import SMALL_CLIFF
from tests.tiny import TinyPeople


def make(**options):
    L.seed_everything(3, verbose=False)
    return CLIFF(**{**SMALL_CLIFF, **options})


def fit(method, folder, epochs=1, ckpt_path=None, **options):
    trainer = L.Trainer(
        default_root_dir=folder, max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0,
        **{"enable_checkpointing": False, **options},
    )  # fmt: skip
    trainer.fit(method, datamodule=TinyPeople(num_samples=16, batch_size=8), ckpt_path=ckpt_path)
    return trainer


@pytest.fixture(scope="module")
def batch():
    return select(TinyPeople().load("val"), torch.arange(6))


def answer(method, batch):
    """Of weights that answer something, where untrained ones hardly leave the rest pose."""
    with torch.no_grad():
        method.regressor.decpose.weight.normal_(std=0.05, generator=torch.Generator().manual_seed(5))
        return method.eval()(batch)


def test_the_units_of_the_box_are_the_published_ones():
    camera = PinholeCamera(focal=torch.tensor([[1000.0, 1000.0]]), principal_point=torch.tensor([[300.0, 200.0]]))
    box = torch.tensor([[400.0, 100.0, 300.0]])
    assert torch.allclose(box_information(box, camera, "bedlam"), torch.tensor([[0.1, -0.1, 0.3]]))
    # 2.8 (cx - W/2) / f and (b - 0.24 f) / (0.06 f)
    assert torch.allclose(box_information(box, camera, "cliff"), torch.tensor([[0.28, -0.28, 1.0]]), atol=1e-5)


def test_the_other_unit_gives_another_answer(batch):
    methods = [make(bbox_norm=norm) for norm in ("bedlam", "cliff")]
    methods[1].load_state_dict(methods[0].state_dict())  # nothing in the weights says which unit they need
    first, second = (answer(method, batch)["smpl"]["global_orient"] for method in methods)
    assert (first - second).abs().max() > 1e-3


def test_the_same_crop_elsewhere_in_the_image_is_another_body(batch):
    method, moved = make(), {**batch, "box": batch["box"] + torch.tensor([200.0, 0.0, 0.0])}
    here, there = answer(method, batch), answer(method, moved)
    assert (here["smpl"]["body_pose"] - there["smpl"]["body_pose"]).abs().max() > 1e-4
    step = there["camera_translation"][:, 0] - here["camera_translation"][:, 0]
    pixels = step * batch["camera"]["focal"][:, 0] / here["camera_translation"][:, 2]
    assert torch.allclose(pixels, torch.full_like(pixels, 200.0), rtol=0.05)


def test_a_portrait_is_the_middle_of_the_crop():
    image = torch.rand(2, 3, 64, 64)
    found = cropped(image, "portrait")
    assert found.shape == (2, 3, 256, 192) and torch.equal(cropped(image, "square"), image)
    # As CLIFF cuts it: the height of the box at 256 pixels, and the columns around the middle.
    whole = F.interpolate(image, size=(256, 256), mode="bilinear", align_corners=False)
    assert torch.allclose(found[..., 2:-2], whole[..., 34:-34], atol=1e-5)  # the border has no neighbours


def test_smplx_is_answered_as_smpl(batch):
    method = make(head="smplx")
    found = answer(method, batch)
    assert method.regressor.decpose.out_features == 132 and method.regressor.decshape.out_features == 11
    assert found["smpl"]["body_pose"].shape == (6, 23, 3, 3) and found["smpl"]["betas"].shape == (6, 10)
    assert torch.equal(found["smpl"]["body_pose"][:, 21:], torch.eye(3).expand(6, 2, 3, 3))
    given = Estimate(torch.rand(2, 22, 3, 3), torch.rand(2, 11), torch.rand(2, 3))
    assert torch.equal(of_smpl(given).rotations[:, :22], given.rotations)


def test_evaluations_can_take_the_diagonal_as_published(batch):
    diagonal = 1000.0 * 2.0**0.5
    unknown = {key: value for key, value in batch["camera"].items() if key != "focal"}
    assert torch.allclose(camera_of({**batch, "camera": unknown}).focal, torch.full((6, 2), diagonal))
    method, other = make(), make(test_focal="diagonal")
    expected = answer(method, {**batch, "camera": unknown})["camera_translation"]
    assert torch.equal(answer(other, batch)["camera_translation"], expected)
    assert not torch.allclose(answer(method, batch)["camera_translation"], expected)
    assert torch.equal(other.train()._camera(batch).focal, batch["camera"]["focal"])  # training knows the camera


def test_with_flip_test_a_mirrored_person_has_the_mirrored_body(batch):
    method, skeleton = make(flip_test=True), get("h36m_17")
    found, other = answer(method, batch), answer(method, mirror_batch(batch, skeleton))
    expected = mirror_smpl(found["smpl"])
    for key in ("global_orient", "body_pose", "betas"):
        assert torch.allclose(other["smpl"][key], expected[key], atol=1e-3), key


@pytest.mark.parametrize("left_out", [("smpl", "has_smpl"), ("keypoints_3d", "smpl", "has_smpl"), ("keypoints_2d",)])
def test_every_parameter_gets_a_gradient_whatever_is_known(batch, left_out):
    method: Any = make()
    method.log = method.log_dict = lambda *_, **__: None
    method.training_step({key: value for key, value in batch.items() if key not in left_out}, 0).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in method.parameters())


def test_what_does_not_fit_is_refused(batch):
    with pytest.raises(InputError, match="takes images"):
        make()({key: value for key, value in batch.items() if key != "image"})
    method: Any = make()
    for key in ("keypoints_2d", "keypoints_3d"):
        with pytest.raises(InputError, match="17 joints"):
            method.training_step({**batch, key: batch[key][:, :14]}, 0)
    with pytest.raises(InputError, match="nowhere.npz"):
        make(body="nowhere.npz")


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(tmp_path):
    every_epoch = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    whole = make()
    fit(whole, tmp_path, epochs=2, enable_checkpointing=True, callbacks=[every_epoch])
    resumed = make()
    assert fit(resumed, tmp_path, epochs=2, ckpt_path=tmp_path / "epoch=0.ckpt").global_step == 4
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_two_processes_train_the_same_weights(tmp_path):
    call_in_two(train_and_save, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    untrained = make().state_dict()
    for name, value in first.items():
        if "running_" not in name:  # each process normalises its own part of the batch
            assert torch.equal(value, second[name]), name
    assert not torch.equal(first["regressor.fc1.weight"], untrained["regressor.fc1.weight"])


def train_and_save(rank, folder):
    method = make()
    trainer = fit(method, folder, devices=2, strategy="ddp")
    assert trainer.world_size == 2 and trainer.global_step == 1
    torch.save(method.state_dict(), folder / f"{rank}.pt")
