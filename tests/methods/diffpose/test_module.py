import lightning as L
import pytest
import torch
import yaml

from methods.callbacks.averaging import WarmupEMA
from methods.diffpose import ContextEncoder, DiffPose, initialisation
from methods.diffpose.context import read_encoder
from noise2pose import cameras
from noise2pose.errors import InputError
from noise2pose.metrics.spread_scale import SpreadScale
from tests.methods.diffpose.contract import SMALL, SMALL_DIFFPOSE
from tests.methods.test_contract import fit
from tests.places import ROOT
from tests.tiny import TinyPoses


class Watch(L.Callback):
    """Copies the weights at the end of each epoch."""

    def __init__(self):
        self.epochs = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs.append({key: value.clone() for key, value in pl_module.state_dict().items()})


@pytest.mark.parametrize("variant", ["release", "paper"])
def test_the_encoder_is_trained_first_and_frozen_then(variant, tmp_path):
    watch = Watch()
    method = DiffPose(variant=variant, **SMALL_DIFFPOSE)
    start = {key: value.clone() for key, value in method.state_dict().items()}
    trainer = L.Trainer(
        default_root_dir=tmp_path, max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[watch],
    )  # fmt: skip
    trainer.fit(method, datamodule=TinyPoses())
    first, second, third = watch.epochs

    def same(left, right, part):
        return all(torch.equal(left[key], right[key]) for key in left if key.startswith(part))

    assert not same(start, first, "encoder.") and same(start, first, "diffusion.")
    assert same(first, third, "encoder.") and not same(first, second, "diffusion.")
    assert first["denoiser_steps"] == 0 and third["denoiser_steps"] == 8


class Kept(L.Callback):
    """Records which parameters have an average or optimiser state after each epoch; to be called after the average."""

    def __init__(self, ema):
        self.ema, self.averaged, self.optimised = ema, [], []

    def on_train_epoch_end(self, trainer, pl_module):
        average = dict(self.ema._average_model.module.named_parameters())
        named = dict(pl_module.named_parameters())
        self.averaged.append({name for name in named if named[name].data_ptr() != average[name].data_ptr()})
        state = trainer.optimizers[0].state
        self.optimised.append({name for name in named if named[name] in state})


def test_the_frozen_half_has_neither_an_average_nor_optimiser_state(tmp_path):
    ema = WarmupEMA()
    kept = Kept(ema)
    method = DiffPose(variant="paper", **SMALL_DIFFPOSE)
    trainer = L.Trainer(
        default_root_dir=tmp_path, max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[ema, kept],
    )  # fmt: skip
    trainer.fit(method, datamodule=TinyPoses())
    halves = [{name for name, _ in method.named_parameters() if name.startswith(half)} for half in ("encoder.", "diff")]
    assert kept.averaged == halves
    assert [optimised <= half for optimised, half in zip(kept.optimised, halves, strict=True)] == [True, True]
    assert all(kept.optimised)


def test_until_the_denoiser_is_trained_the_answer_is_the_encoders():
    method = DiffPose(**SMALL_DIFFPOSE).eval()
    batch = TinyPoses().load("val")
    prediction = method(batch)
    assert set(prediction) == {"joints_3d"}
    method.denoiser_steps += 1
    assert not torch.equal(method(batch)["joints_3d"], prediction["joints_3d"])


def test_a_given_encoder_is_used_and_must_fit(tmp_path):
    encoder = ContextEncoder(**SMALL)
    trainer, _ = fit(encoder, tmp_path)
    path = tmp_path / "encoder.ckpt"
    trainer.save_checkpoint(path)
    options = {**SMALL_DIFFPOSE, "context_epochs": 0, "context_checkpoint": str(path)}
    method = DiffPose(**options)
    fit(method, tmp_path)
    for key, value in encoder.network.state_dict().items():
        assert torch.equal(method.encoder.state_dict()[key], value), key
    with pytest.raises(InputError, match="set the encoder's width and blocks"):
        fit(DiffPose(**{**options, "context_width": 8}), tmp_path)
    (tmp_path / "broken.ckpt").write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="broken.ckpt cannot be read as a checkpoint"):
        read_encoder(str(tmp_path / "broken.ckpt"), method.encoder)


def test_samples_of_h_k_lie_on_the_viewing_rays():
    batch = TinyPoses().load("val")
    target = batch["keypoints_3d"][..., :3]
    pose = target - target[:, :1]
    spread = torch.full((17,), 0.1)
    keys = torch.arange(len(pose))
    depths = initialisation.encoder_depths(pose, spread, keys, 400)
    samples = initialisation.sample_uncertain_poses(batch, pose, depths, keys, root=0)
    assert samples.shape == (32, 400, 17, 3)
    assert samples[:, :, 0].abs().max() == 0
    assert (samples.mean(dim=1) - pose).norm(dim=-1).mean() < 0.05
    # The root's own depth error moves every joint, so each has both errors.
    assert samples[..., 1:, 2].std(dim=1).mean().item() == pytest.approx(0.1 * 2**0.5, rel=0.05)
    # Put back at its distance, a sample projects to the detection up to the detection's own blur.
    scale, _ = cameras.fit_weak_perspective(pose, batch["keypoints_2d"][..., :2], batch["keypoints_2d"][..., 2])
    absolute = samples + target[:, None, :1] * torch.tensor([1.0, 1.0, 0.0])
    absolute[..., 2] += (1145.0 / scale)[:, None, None]
    pixels = cameras.project(absolute, torch.tensor([1145.0, 1145.0]), torch.tensor([500.0, 500.0]))
    error = (pixels - batch["keypoints_2d"][:, None, :, :2]).norm(dim=-1).median()
    assert error < 0.1 * scale.mean()


def test_a_variant_without_randomness_has_one_hypothesis():
    for variant in ("release", "single_step", "stacked"):
        assert DiffPose(variant=variant, **SMALL_DIFFPOSE).num_hypotheses == 1
        with pytest.raises(InputError, match=f"variant {variant} draws nothing at random"):
            DiffPose(variant=variant, num_hypotheses=5, **SMALL_DIFFPOSE)
        if variant != "single_step":
            with pytest.raises(InputError, match=f"variant {variant} answers with its last call"):
                DiffPose(variant=variant, answer_calls=1, **SMALL_DIFFPOSE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_components": 100}, "num_components is 100, expected 1 to num_mixture_samples"),
        ({"num_components": 0}, "num_components is 0"),
        ({"num_sampling_steps": 60}, r"num_sampling_steps is 60, expected 1 to num_diffusion_steps \(50\)"),
        ({"num_hypotheses": 0}, "num_hypotheses is 0"),
        ({"answer_calls": 11}, r"answer_calls is 11, expected 1 to num_sampling_steps \(10\)"),
    ],
)
def test_impossible_settings_are_refused_before_any_training(options, message):
    with pytest.raises(InputError, match=message):
        DiffPose(variant="paper", **SMALL_DIFFPOSE, **options)


def test_there_are_as_many_steps_as_asked_for():
    for steps in (1, 5, 7, 50):
        assert DiffPose(variant="paper", **SMALL_DIFFPOSE, num_sampling_steps=steps).num_steps == steps


def test_pretraining_needs_a_number_of_epochs(tmp_path):
    with pytest.raises(InputError, match="counts epochs"):
        fit(DiffPose(**SMALL_DIFFPOSE), tmp_path, max_steps=12)


class SaveSecond(L.Callback):
    """Saves a checkpoint after the second epoch."""

    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            trainer.save_checkpoint(self.path)


def trained(folder, max_epochs=2, ckpt_path=None, callbacks=None, **options):
    method = DiffPose(variant="paper", num_sampling_steps=2, **SMALL_DIFFPOSE, **options)
    trainer = L.Trainer(
        default_root_dir=folder, max_epochs=max_epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks,
    )  # fmt: skip
    L.seed_everything(0, verbose=False)
    trainer.fit(method, datamodule=TinyPoses(), ckpt_path=ckpt_path)
    return method, trainer


def test_the_spread_is_fitted_on_validation_and_kept_with_the_weights(tmp_path):
    method, trainer = trained(tmp_path)
    factor = method.spread_factor.clone()
    assert factor != 1.0 and trainer.callback_metrics["val/tiny/spread_factor"] == factor
    batch = TinyPoses().load("val")
    with torch.no_grad():
        fitted = method.eval()(batch)
        method.spread_factor.fill_(1.0)
        plain = method(batch)
    metric = SpreadScale(root=0)
    metric.update(plain["hypotheses"], batch["keypoints_3d"][..., :3], batch["keypoints_3d"][..., 3])
    assert torch.allclose(metric.compute(), factor, rtol=1e-4)
    assert torch.allclose(fitted["uncertainty"], factor * plain["uncertainty"], rtol=1e-4, atol=1e-6)
    assert torch.allclose(fitted["joints_3d"], plain["joints_3d"], atol=1e-6)


def test_a_resumed_training_fits_the_same_spread(tmp_path):
    path = tmp_path / "two.ckpt"
    whole, _ = trained(tmp_path, max_epochs=3, callbacks=[SaveSecond(path)])
    resumed, _ = trained(tmp_path, max_epochs=3, ckpt_path=path)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_without_a_spread_scale_hypotheses_are_as_the_chain_gives_them(tmp_path):
    method, trainer = trained(tmp_path, spread_scale="none")
    assert method.spread_factor == 1.0 and "val/tiny/spread_factor" not in trainer.callback_metrics


def test_models_from_before_the_skip_and_the_factor_answer_as_they_did():
    method = DiffPose(variant="paper", num_sampling_steps=2, **SMALL_DIFFPOSE).eval()
    method.denoiser_steps.fill_(1)
    torch.nn.init.normal_(method.diffusion.denoiser.output.linear.weight, std=0.05)
    old = {k: v.clone() for k, v in method.state_dict().items() if "residual_variance" not in k and "factor" not in k}
    plain = DiffPose(
        variant="paper", num_sampling_steps=2, state_skip=False, spread_scale="none", **SMALL_DIFFPOSE
    ).eval()
    plain.load_state_dict(old)
    method.spread_factor.fill_(3.0)
    method.diffusion.residual_variance.fill_(0.01)
    method.load_state_dict(old)
    batch = TinyPoses().load("val")
    with torch.no_grad():
        assert torch.equal(method(batch)["hypotheses"], plain(batch)["hypotheses"])


def test_the_encoder_may_have_settings_of_its_own(tmp_path):
    method = DiffPose(context_heads=4, context_dropout=0.0, context_learning_rate=1e-4, **SMALL_DIFFPOSE)
    attention = [block.attention.num_heads for block in (*method.encoder.blocks, *method.diffusion.denoiser.blocks)]
    assert attention == [4, 2]
    assert method.encoder.blocks[0].dropout.p == 0.0 and method.diffusion.denoiser.blocks[0].dropout.p == 0.25
    trainer, _ = fit(method, tmp_path)
    assert [group["initial_lr"] for group in trainer.optimizers[0].param_groups] == [1e-4, 1e-3]
    with pytest.raises(InputError, match="context_width is 16, expected a multiple of model.context_heads, 3"):
        DiffPose(context_heads=3, **SMALL_DIFFPOSE)


def test_the_headline_model_has_the_published_size():
    options = yaml.safe_load((ROOT / "configs" / "methods" / "diffpose_paper_clip.yaml").read_text())["init_args"]
    method = DiffPose(**options)
    assert sum(parameter.numel() for parameter in method.encoder.parameters()) == 33_783_811
    assert method.num_frames == 243 and method.num_hypotheses == 5
