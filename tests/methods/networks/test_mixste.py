import pytest
import torch

from methods.diffpose.context import ContextEncoder, build_encoder, encode
from methods.networks.mixste import MixSTE, TransformerBlock
from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.images.mirroring import mirror_batch, mirror_pose
from tests.tiny import TinyPoses

H36M = skeletons.get("h36m_17")


def small(causal=False):
    torch.manual_seed(0)
    network = MixSTE(8, 16, 2, 2, causal=causal).eval()
    for parameter in network.parameters():  # the embeddings start at zero and would hide mistakes
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return network


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
def test_a_causal_encoder_does_not_see_the_future(causal):
    network = small(causal)
    clip = torch.randn(2, 8, 17, 2)
    changed = clip.clone()
    changed[:, 5:] += 1.0
    before, after = network(clip), network(changed)
    assert torch.allclose(before[:, :5], after[:, :5], atol=1e-5) == causal
    assert not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-3)
    if causal:  # so a shorter clip is answered as the beginning of a longer one
        assert torch.allclose(network(clip[:, :3]), before[:, :3], atol=1e-5)


def test_dropped_paths_keep_the_expected_value():
    torch.manual_seed(0)
    block = TransformerBlock(8, 2, drop_path=0.5).train()
    x = torch.randn(1, 3, 8).expand(4000, -1, -1)
    with torch.no_grad():
        mean = block._drop(x).mean(dim=0)
    assert torch.allclose(mean, x[0], atol=0.15)
    assert (block._drop(x)[:, 0, 0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


@torch.no_grad()
def test_flip_averages_the_answers_to_both_images():
    network = small()
    batch = TinyPoses(num_frames=8).load("val")
    plain = encode(network, batch, H36M, 8, flip=False)
    flipped = encode(network, batch, H36M, 8, flip=True)
    mirrored = encode(network, mirror_batch(batch, H36M), H36M, 8, flip=False)
    assert torch.allclose(flipped.pose, (plain.pose + mirror_pose(mirrored.pose, H36M)) / 2, atol=1e-6)
    assert torch.equal(flipped.features, plain.features)
    again = encode(network, mirror_batch(batch, H36M), H36M, 8, flip=True)
    assert torch.allclose(mirror_pose(again.pose, H36M), flipped.pose, atol=1e-5)


def test_frames_and_clips_are_not_mixed_up():
    with pytest.raises(InputError, match="set num_frames to 27"):
        build_encoder("mixste", 16, 1, 2, 0.0, 1, False, H36M)
    with pytest.raises(InputError, match="takes single frames"):
        build_encoder("graph", 16, 1, 2, 0.0, 27, False, H36M)
    with pytest.raises(InputError, match="clips of 4 frames.*data.num_frames"):
        ContextEncoder("mixste", 16, 1, 2, num_frames=4)(TinyPoses().load("val"))
