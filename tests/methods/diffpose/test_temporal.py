import pytest
import torch

from methods.diffpose import DiffPose
from methods.diffpose.temporal import TemporalConvolution
from methods.lifting import frame_keys
from noise2pose.errors import InputError
from tests.methods.diffpose.contract import SMALL_CLIP, SMALL_DIFFPOSE
from tests.tiny import TinyPoses


def layer(causal=False):
    torch.manual_seed(0)
    made = TemporalConvolution(8, num_frames=12, causal=causal)
    torch.nn.init.normal_(made.contract.weight)
    return made.eval()


@torch.no_grad()
def test_it_equals_a_naive_loop_over_clips_joints_and_frames():
    made, x = layer(), torch.randn(24, 3, 8, generator=torch.Generator().manual_seed(1))
    answer, normed = made(x), made.norm(x)
    weight, bias = made.over_time.weight[:, 0], made.over_time.bias
    for clip in range(2):
        for frame in (0, 5, 11):
            near = [clip * 12 + min(max(frame + offset, 0), 11) for offset in range(-4, 5)]
            for joint in range(3):
                mixed = (weight * normed[near, joint].T).sum(dim=1) + bias
                row = clip * 12 + frame
                change = made.contract(torch.nn.functional.gelu(made.expand(mixed)))
                assert torch.allclose(answer[row, joint], x[row, joint] + change, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
def test_clips_are_apart_and_a_causal_frame_does_not_see_the_future(causal):
    made, x = layer(causal), torch.randn(24, 3, 8, generator=torch.Generator().manual_seed(1))
    other = x.clone()
    other[6:] += 1.0 + torch.randn(18, 3, 8, generator=torch.Generator().manual_seed(2))
    before, after = made(x), made(other)
    assert torch.equal(before[:6], after[:6]) == causal
    other[:12] = x[:12]
    assert torch.equal(made(other)[:12], before[:12])


def test_frames_of_a_clip_share_their_random_numbers():
    batch = TinyPoses(num_frames=4).load("val")
    keys = frame_keys(batch, 4, torch.device("cpu")).view(-1, 4)
    assert (keys == keys[:, :1]).all() and len(keys[:, 0].unique()) == len(keys)


@torch.no_grad()
def test_a_person_who_does_not_move_has_hypotheses_that_do_not_move():
    options = {**SMALL_DIFFPOSE, **SMALL_CLIP, "num_sampling_steps": 2}
    method = DiffPose(variant="paper", temporal_denoiser=True, **options).eval()
    method.denoiser_steps.fill_(1)
    method.diffusion.residual_variance.fill_(0.01)
    for embedding in (method.encoder.frame_embedding, method.encoder.joint_embedding):
        torch.nn.init.zeros_(embedding)
    batch = TinyPoses(num_frames=4).load("val")
    batch["keypoints_2d"] = batch["keypoints_2d"][:, :1].expand(-1, 4, -1, -1).contiguous()
    poses = method(batch)["hypotheses"]
    assert torch.allclose(poses, poses[:, :, :1].expand_as(poses), atol=1e-5)


def test_it_is_for_clips_and_not_for_the_release():
    for options in ({"variant": "paper"}, {"variant": "release", **SMALL_CLIP}):
        with pytest.raises(InputError, match="temporal_denoiser needs clips"):
            DiffPose(temporal_denoiser=True, **SMALL_DIFFPOSE, **options)
