"""The pose prior as a method: what it learns and logs, that it resumes exactly, and its answer to keypoints."""

import lightning as L
import pytest
import torch

from datamodules.motion_poses import MotionPoses
from methods.pose_prior import PosePrior
from methods.pose_prior.denoiser import to_pose, to_state
from methods.pose_prior.module import LIMBS, hidden_limb
from methods.pose_prior.views import Views
from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.metrics.functional import mpjpe, pa_mpjpe
from tests.methods.pose_prior.contract import SMALL
from tests.methods.pose_prior.test_views import BATCH, JOINTS, seen_from
from tests.tiny import TinyPeople, TinyPoses


class StopAfterOneEpoch(L.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True


def prior(**options):
    L.seed_everything(3, verbose=False)
    return PosePrior(**{**SMALL, **options})


def trainer(folder, epochs, **options):
    return L.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **options},
    )


def error(method, views, **start):
    joints = method.fit(views, **start).joints
    return mpjpe(joints - joints[:, :1], JOINTS - JOINTS[:, :1]).mean()


def test_it_learns_and_logs_every_use(tmp_path):
    data = MotionPoses("synthetic", clips_per_activity=1, train_stride=10, eval_stride=100, batch_size=64)
    method, run = prior(learning_rate=1e-2, width=64, num_starts=1), trainer(tmp_path, 30, check_val_every_n_epoch=30)
    run.fit(method, datamodule=data)
    logged = {key.removeprefix("val/synthetic_poses/"): float(value) for key, value in run.callback_metrics.items()}
    assert logged["completion/mpjpe"] < 0.9 * logged["completion/mpjpe_null"]
    assert logged["denoising/mpjpe"] < 0.8 * logged["denoising/mpjpe_null"]
    assert 0.0 < logged["mpjpe"] < 300.0 and "pve" in logged


def test_resuming_gives_the_same_weights(tmp_path):
    whole = prior()
    trainer(tmp_path, 3, limit_val_batches=0).fit(whole, datamodule=TinyPeople())
    run = trainer(tmp_path, 3, limit_val_batches=0, callbacks=[StopAfterOneEpoch()])
    run.fit(prior(), datamodule=TinyPeople())
    run.save_checkpoint(tmp_path / "one.ckpt")
    resumed = prior()
    trainer(tmp_path, 3, limit_val_batches=0).fit(resumed, datamodule=TinyPeople(), ckpt_path=tmp_path / "one.ckpt")
    for key, value in resumed.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key


def test_a_second_view_says_more_than_one():
    method = prior(guidance_iterations=25, num_starts=1)
    one = error(method, Views.of(BATCH))
    two = error(method, Views.joined([Views.of(BATCH), seen_from(90.0)]))
    assert two < 0.6 * one


def test_it_starts_from_another_answer():
    """From the truth, it stays there; the place of a body is not a part of it."""
    method, smpl = prior(), BATCH["smpl"]
    found = error(method, Views.of(BATCH), start=smpl)
    assert found < 0.5 * error(method, Views.of(BATCH))


def test_the_answer_agrees_with_the_keypoints(tmp_path):
    method = prior(guidance_iterations=30).eval()
    answer = method(BATCH)
    joints = answer["joints_3d"] + JOINTS[:, :1]
    assert pa_mpjpe(joints, JOINTS).mean() < 0.09
    posed = method.body.joints(**answer["smpl"]) + answer["camera_translation"][:, None]
    assert Views.of(BATCH).distance(posed, torch.zeros(len(posed), 3), 0.1).mean() < 0.05
    method.choose("linear")
    assert method.title == "Pose prior (linear)"
    with pytest.raises(InputError, match="model.answer is best, expected guided or linear"):
        method.choose("best")
    with pytest.raises(InputError, match="model.least_level is 0.0, expected 0.001 to 10.0"):
        prior(least_level=0.0)


def test_a_hidden_limb_is_one_side_and_mirrors_to_the_other():
    names = skeletons.get("smpl_24").joints[1:]
    for number, (limb, joints) in enumerate(LIMBS.items()):
        side = limb.split()[0]
        assert all(names[joint].startswith(side) for joint in joints)
        known = hidden_limb(torch.tensor([(number + 0.5) / len(LIMBS)]))[0]
        assert (~known).nonzero()[:, 0].tolist() == sorted(joints)


def test_poses_are_mirrored_half_of_the_time():
    method, batch = prior(), TinyPeople().load("train")
    torch.manual_seed(0)
    mirrored = method._poses(batch)
    same = (mirrored == batch["smpl"]["body_pose"][batch["has_smpl"]]).flatten(1).all(dim=1)
    assert 0.2 < same.float().mean() < 0.8
    plain = prior(mirror=False)._poses(batch)
    assert torch.equal(to_pose(to_state(plain)).shape and plain, batch["smpl"]["body_pose"][batch["has_smpl"]])


def test_data_without_bodies_is_refused(tmp_path):
    with pytest.raises(InputError, match="the pose prior needs data with body parameters"):
        trainer(tmp_path, 1, num_sanity_val_steps=0).fit(prior(), datamodule=TinyPoses())
