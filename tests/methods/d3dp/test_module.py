import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from methods.d3dp import D3DP
from noise2pose import cameras, skeletons
from noise2pose.errors import InputError
from noise2pose.images.mirroring import mirror_batch, mirror_pose
from tests.methods.d3dp.contract import SMALL
from tests.methods.test_contract import fit
from tests.tiny import TinyPoses

H36M = skeletons.get("h36m_17")
BATCH = TinyPoses(num_samples=12, num_frames=4).load("val")


def answer(batch=BATCH, **options):
    """Of a network that has random weights everywhere: embeddings that start at zero would hide mistakes."""
    torch.manual_seed(3)
    method = D3DP(**{**SMALL, **options}).eval()
    for parameter in method.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    with torch.no_grad():
        return method(batch)


def test_hypotheses_differ_and_their_mean_is_the_answer():
    prediction = answer()
    drawn = prediction["hypotheses"]
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3 and (drawn[1] - drawn[2]).abs().max() > 1e-3
    assert torch.equal(prediction["joints_3d"], drawn.mean(dim=0))
    assert torch.allclose(prediction["uncertainty"], drawn.var(dim=0).sum(dim=-1).sqrt())
    assert drawn[..., 0, :].abs().max() == 0.0
    assert set(answer(num_hypotheses=1)) == {"joints_3d", "hypotheses"}


def test_a_hypothesis_does_not_depend_on_how_many_there_are():
    few, more = answer()["hypotheses"], answer(num_hypotheses=5)["hypotheses"]
    assert torch.allclose(few, more[:3], atol=1e-6)


def test_the_closest_reprojection_is_chosen_for_each_joint():
    prediction = answer(aggregation="closest_reprojection")
    drawn, mean, camera = prediction["hypotheses"], answer()["joints_3d"], BATCH["camera"]
    for clip in range(len(mean)):
        for frame in range(4):
            keypoints = BATCH["keypoints_2d"][clip, frame]
            lens = camera["focal"][clip], camera["principal_point"][clip]
            place = cameras.fit_translation(mean[clip, frame], keypoints[:, :2], keypoints[:, 2], *lens)
            points = drawn[:, clip, frame] + place
            points[..., 2].clamp_(min=0.1)  # random poses may fit best behind the camera
            pixels = cameras.project(points, *lens)
            chosen = (pixels - keypoints[:, :2]).norm(dim=-1).argmin(dim=0)
            expected = drawn[chosen, clip, frame, torch.arange(17)]
            assert torch.equal(prediction["joints_3d"][clip, frame], expected)


def test_with_the_true_root_errors_are_the_oracles(tmp_path):
    prediction, camera = answer(aggregation="oracle"), BATCH["camera"]
    place = BATCH["keypoints_3d"][0, 2, 0, :3]
    pixels = cameras.project(
        prediction["hypotheses"][:, 0, 2] + place, camera["focal"][0], camera["principal_point"][0]
    )
    chosen = (pixels - BATCH["keypoints_2d"][0, 2, :, :2]).norm(dim=-1).argmin(dim=0)
    assert torch.equal(prediction["joints_3d"][0, 2], prediction["hypotheses"][chosen, 0, 2, torch.arange(17)])
    with pytest.raises(InputError, match="model.aggregation is oracle, which needs ground truth"):
        answer({key: value for key, value in BATCH.items() if key != "keypoints_3d"}, aggregation="oracle")
    method = D3DP(**SMALL)
    method.choose("oracle")
    trainer, _ = fit(method, tmp_path)
    assert "val/tiny/oracle/mpjpe" in trainer.callback_metrics and "val/tiny/mpjpe" not in trainer.callback_metrics
    with pytest.raises(
        InputError, match="selector `best` is unknown, expected one of mean, closest_reprojection, oracle"
    ):
        method.choose("best")


def test_with_flip_one_call_mirrors_as_its_input():
    """From the second call on the noise, which is not mirrored, differs."""
    plain = answer(num_sampling_steps=1, num_hypotheses=1)
    mirrored = answer(mirror_batch(BATCH, H36M), num_sampling_steps=1, num_hypotheses=1)
    without = answer(num_sampling_steps=1, num_hypotheses=1, flip_test=False)
    gap = (mirror_pose(mirrored["joints_3d"], H36M) - plain["joints_3d"]).abs().mean()
    assert gap < (without["joints_3d"] - plain["joints_3d"]).abs().mean()


def test_joints_without_ground_truth_do_not_train():
    method = D3DP(**{**SMALL, "flip_augmentation": False})
    method.log = lambda *args, **options: None
    spoilt = {**BATCH, "keypoints_3d": BATCH["keypoints_3d"].clone()}
    spoilt["keypoints_3d"][:, :, 5:] *= torch.tensor([3.0, 3.0, 3.0, 0.0])
    losses = []
    for batch in (BATCH, spoilt):
        batch = {**batch, "keypoints_3d": batch["keypoints_3d"].clone()}
        batch["keypoints_3d"][:, :, 5:, 3] = 0.0
        # A noisy state near the truth would tell the network of these joints; the last step tells nothing.
        method.alphas_cumprod = torch.full((1000,), 1e-12)
        torch.manual_seed(0)
        losses.append(method.training_step(batch, 0))
    assert torch.allclose(losses[0], losses[1], rtol=1e-5)


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(tmp_path):
    def trained(resume_from=None):
        torch.manual_seed(1)
        method = D3DP(**SMALL)
        trainer = L.Trainer(
            default_root_dir=tmp_path, max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)],
        )  # fmt: skip
        trainer.fit(method, datamodule=TinyPoses(num_samples=48, num_frames=4), ckpt_path=resume_from)
        return method, trainer

    whole, _ = trained()
    resumed, trainer = trained(tmp_path / "epoch=0.ckpt")
    assert trainer.global_step == 6
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match="D3DP takes clips: set model.num_frames"):
        D3DP(**{**SMALL, "num_frames": 1})
    with pytest.raises(InputError, match=r"num_sampling_steps is 9, expected 1 to model.num_diffusion_steps \(8\)"):
        D3DP(**{**SMALL, "num_sampling_steps": 9, "num_diffusion_steps": 8})
    with pytest.raises(InputError, match="drop_path is 2"):
        D3DP(**SMALL, drop_path=2)
    with pytest.raises(InputError, match="clips of 4 frames.*data.num_frames"):
        D3DP(**SMALL)(TinyPoses().load("val"))
