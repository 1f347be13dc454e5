import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from methods.fmpose import FMPose
from noise2pose.errors import InputError
from noise2pose.images.mirroring import mirror_batch, mirror_pose
from tests.methods.fmpose.contract import SMALL
from tests.methods.test_contract import fit
from tests.tiny import TinyPoses


@pytest.fixture
def batch():
    return TinyPoses().load("val")


def trained(**options):
    """A method whose weights answer something, without a training."""
    L.seed_everything(3, verbose=False)
    return FMPose(**{**SMALL, **options}).eval()


@torch.no_grad()
def test_the_mirror_image_gives_further_hypotheses(batch):
    method = trained(flip_test=True, start="uncertain")
    hypotheses = method(batch)["hypotheses"]
    assert method.num_hypotheses == len(hypotheses) == 6
    mirrored = method(mirror_batch(batch, method.skeleton))["hypotheses"]
    # Those of the mirror image's image are of the same 2-D joints, with other noise.
    assert not torch.allclose(mirror_pose(mirrored[3:], method.skeleton), hypotheses[:3])
    method.start.spread.zero_()  # without noise, they are the same
    hypotheses = method(batch)["hypotheses"]
    mirrored = mirror_pose(method(mirror_batch(batch, method.skeleton))["hypotheses"], method.skeleton)
    assert torch.allclose(mirrored[3:], hypotheses[:3], atol=1e-5)
    assert torch.allclose(mirrored[:3], hypotheses[3:], atol=1e-5)


@torch.no_grad()
def test_the_uncertainty_is_the_spread_of_the_hypotheses(batch):
    prediction = trained()(batch)
    spread = prediction["hypotheses"].var(dim=0).sum(dim=-1).sqrt()
    assert torch.allclose(prediction["uncertainty"], spread)
    assert torch.allclose(prediction["joints_3d"], prediction["hypotheses"].mean(dim=0))
    assert set(trained(num_hypotheses=1)(batch)) == {"joints_3d", "hypotheses"}


@torch.no_grad()
def test_with_limbs_an_answer_does_not_depend_on_joints_that_detectors_disagree_about(batch):
    method = trained(normalisation="limbs", start="uncertain", aggregation="reprojection")
    moved = {**batch, "keypoints_2d": batch["keypoints_2d"].clone()}
    moved["keypoints_2d"][:, 10, :2] += 30.0
    assert torch.equal(method(moved)["hypotheses"], method(batch)["hypotheses"])
    published = trained()
    assert not torch.allclose(published(moved)["joints_3d"], published(batch)["joints_3d"])


def test_the_oracle_is_logged_apart_and_cannot_predict(batch, tmp_path):
    method = FMPose(aggregation="oracle", **SMALL)
    trainer, _ = fit(method, tmp_path)
    assert "val/tiny/oracle/mpjpe" in trainer.callback_metrics and "val/tiny/mpjpe" not in trainer.callback_metrics
    del batch["keypoints_3d"]
    with pytest.raises(InputError, match="give predict --selector reprojection"):
        method.eval()(batch)
    method.choose("reprojection")
    assert not method.needs_ground_truth and method.title == "FMPose3D (reprojection)"
    assert method(batch)["joints_3d"].isfinite().all()
    with pytest.raises(InputError, match="selector `best` is unknown"):
        method.choose("best")


def test_a_resumed_run_continues_exactly(tmp_path):
    def run(name, epochs, **options):
        L.seed_everything(5, verbose=False)
        method = FMPose(start="uncertain", flip_augmentation=True, **SMALL)
        trainer = L.Trainer(
            default_root_dir=tmp_path, max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, limit_train_batches=2, limit_val_batches=1,
            callbacks=[ModelCheckpoint(tmp_path / name, save_top_k=-1, filename="{epoch}")],
        )  # fmt: skip
        trainer.fit(method, datamodule=TinyPoses(), **options)
        return method.state_dict()

    whole = run("whole", 2)
    resumed = run("resumed", 2, ckpt_path=tmp_path / "whole" / "epoch=0.ckpt")
    assert whole["start.length"] != 0.28
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "model.temperature is 0.0"),
        ({"drop_path": 1.0}, "model.drop_path is 1.0, expected 0.0 to 0.9"),
        ({"num_sampling_steps": 0}, "model.num_sampling_steps is 0, expected at least 1"),
        ({"width": 15}, "model.width is 15, expected a multiple of model.num_heads, 2"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        FMPose(**{**SMALL, **options})


def test_clips_are_refused():
    with pytest.raises(InputError, match="this method takes single frames"):
        trained()(TinyPoses(num_frames=4).load("val"))
