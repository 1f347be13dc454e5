import pytest
import torch

from methods.diffpose import ContextEncoder
from methods.diffpose.residual import ResidualDenoiser, ResidualLifter
from noise2pose.errors import InputError
from tests.methods.diffpose.contract import SMALL, SMALL_CLIP
from tests.methods.test_contract import fit


@torch.no_grad()
def test_features_of_the_lifter_are_what_its_output_is_made_from():
    torch.manual_seed(0)
    network = ResidualLifter(8, 2, 0.1, 17, in_channels=3).eval()
    joints = torch.randn(4, 17, 3)
    features = network.features(joints)
    assert features.shape == (4, 17, 8)
    assert torch.equal(network.output(features), network(joints))
    # A sample does not depend on those beside it.
    assert torch.allclose(network(joints[1:2]), network(joints)[1:2], atol=1e-6)


@torch.no_grad()
def test_the_denoiser_starts_as_no_correction_and_sees_state_step_and_context():
    torch.manual_seed(0)
    network = ResidualDenoiser(3, 8, 2, 0.0, 17, context_channels=5).eval()
    state, steps, context = torch.randn(4, 17, 3), torch.full((4,), 7), torch.randn(4, 17, 5)
    assert (network(state, steps, context) == 0).all()
    network.output.weight.normal_()
    answer = network(state, steps, context)
    for other in (
        network(state + 1, steps, context),
        network(state, steps + 9, context),
        network(state, steps, -context),
    ):
        assert (answer - other).abs().max() > 1e-3


@torch.no_grad()
def test_what_the_context_adds_is_computed_once_for_all_calls():
    torch.manual_seed(0)
    network = ResidualDenoiser(3, 8, 2, 0.0, 17, context_channels=5).eval()
    network.output.weight.normal_()
    state, steps, context = torch.randn(4, 17, 3), torch.arange(4.0), torch.randn(4, 17, 5)
    condition = network.condition(context)
    torch.testing.assert_close(network.denoise(state, steps, condition), network(state, steps, context))
    other = network.denoise(state, steps, network.condition(context.roll(1, dims=1)))
    assert (other - network(state, steps, context)).abs().max() > 1e-3, "whose joint it is matters"


@torch.no_grad()
def test_without_context_the_denoiser_takes_the_released_state():
    network = ResidualDenoiser(5, 8, 1, 0.0, 17)
    assert network(torch.randn(2, 17, 5), torch.zeros(2)).shape == (2, 17, 5)


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
def test_frames_of_a_clip_see_each_other_and_causal_ones_the_past_alone(causal):
    torch.manual_seed(0)
    lifter = ResidualLifter(8, 2, 0.0, 17, in_channels=3, num_frames=6, causal=causal).eval()
    denoiser = ResidualDenoiser(3, 8, 2, 0.0, 17, context_channels=8, clip=6, causal=causal).eval()
    denoiser.output.weight.normal_()
    joints, state, steps = torch.randn(2, 6, 17, 3), torch.randn(12, 17, 3), torch.full((12,), 7)
    alone = lifter(joints)
    assert alone.shape == (2, 6, 17, 3)
    for network in (lifter, denoiser):  # as made, a temporal layer changes nothing
        for layer in network.temporal:
            torch.nn.init.normal_(layer.contract.weight)

    def answers(joints):
        features = lifter.features(joints)
        return lifter.output(features), denoiser(state, steps, features.flatten(0, 1)).view(2, 6, 17, 3)

    before = answers(joints)
    assert not torch.allclose(before[0], alone, atol=1e-3)
    changed = joints.clone()
    changed[0, 3] += 1.0
    for one, other in zip(before, answers(changed), strict=True):
        assert torch.allclose(one[1], other[1], atol=1e-6)
        differs = (one[0] - other[0]).abs().amax(dim=(1, 2)) > 1e-5
        assert differs.tolist() == [not causal] * 3 + [True] * 3


def test_the_encoder_of_clips_starts_as_that_of_frames(tmp_path):
    frames = ContextEncoder(**{**SMALL, "encoder": "residual"})
    trainer, _ = fit(frames, tmp_path)
    trainer.save_checkpoint(tmp_path / "frames.ckpt")
    options = {**SMALL, **SMALL_CLIP, "encoder": "residual", "learning_rate": 1e-12}
    clips = ContextEncoder(frame_checkpoint=str(tmp_path / "frames.ckpt"), **options)
    fit(clips, tmp_path)
    joints = torch.randn(2, 4, 17, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone = frames.eval().network(joints.flatten(0, 1)).view(2, 4, 17, 3)
        assert torch.allclose(clips.eval().network(joints), alone, atol=1e-6)
    wider = ContextEncoder(frame_checkpoint=str(tmp_path / "frames.ckpt"), **{**options, "width": 24})
    with pytest.raises(InputError, match="model.frame_checkpoint: .*set the encoder's width and blocks"):
        fit(wider, tmp_path)
    with pytest.raises(InputError, match="frame_checkpoint needs clips"):
        ContextEncoder(frame_checkpoint="frames.ckpt", **SMALL)
