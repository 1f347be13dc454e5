"""The release's VQ-VAE, number by number, and what differs: when it learns, and that it decodes to rotations."""

import pytest
import roma
import torch
from torch import distributed

from methods.dpmesh.regressor.pose_codebook import PoseCodebook
from tests import forks
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY

SMALL = {
    "num_tokens": 4,
    "num_codes": 8,
    "code_width": 6,
    "encoder_width": 16,
    "encoder_blocks": 1,
    "encoder_hidden": 16,
    "decoder_width": 16,
    "token_hidden": 8,
}


def poses(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return roma.rotvec_to_rotmat(torch.randn(number, 23, 3, generator=generator)).flatten(-2)


def small(**options):
    torch.manual_seed(0)
    return PoseCodebook(**{**SMALL, **options})


@pytest.fixture(scope="module")
def fixture():
    """Tensors of the fixture and its codebook."""
    tensors, meta = read_fixture(PARITY / "dpmesh_vqvae.safetensors")
    sizes = meta["config"]
    encoder, decoder = sizes["encoder"], sizes["decoder"]
    codebook = PoseCodebook(
        num_tokens=sizes["token_num"],
        num_codes=sizes["token_class_num"],
        code_width=sizes["token_dim"],
        encoder_width=encoder["hidden_dim"],
        encoder_blocks=encoder["num_blocks"],
        encoder_hidden=encoder["hidden_inter_dim"],
        decoder_width=decoder["hidden_dim"],
        decoder_blocks=decoder["num_blocks"],
        decoder_hidden=decoder["hidden_inter_dim"],
        token_hidden=encoder["token_inter_dim"],
        decay=sizes["ema_decay"],
    )
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    codebook.load_state_dict({key: torch.as_tensor(value) for key, value in weights.items()})
    return {key: torch.as_tensor(value) for key, value in tensors.items()}, codebook.eval()


@torch.no_grad()
def test_it_encodes_quantises_and_decodes_as_the_release(fixture):
    tensors, codebook = fixture
    features = codebook.features(tensors["input/pose"])
    answer = codebook.reconstruct(features)
    assert_close(features[..., ::4], tensors["output/encoded__c4"])
    assert torch.equal(answer.indices.flatten(), tensors["output/indices"])
    assert_close(codebook.codebook[answer.indices].flatten(0, 1)[:, ::4], tensors["output/quantised__c4"])
    assert_close(answer.values, tensors["output/forward_reconstruction"])
    assert_close(codebook.decode(codebook.codebook[answer.indices]), tensors["output/decoded_from_indices"])
    assert_close(answer.commitment, tensors["output/forward_commit"])
    logits = tensors["input/logits"].view(2, 48, 2048)
    soft = logits.softmax(dim=-1) @ codebook.codebook
    assert_close(codebook.decode(soft), tensors["output/decoded_from_softmax"])
    expected = roma.special_procrustes(tensors["output/decoded_from_softmax"].unflatten(-1, (3, 3)))
    assert_close(codebook.decode_soft(logits), expected, 1e-3)  # SVD of numbers that are far from rotations


@torch.no_grad()
def test_it_learns_as_the_release_but_only_in_training(fixture):
    tensors, codebook = fixture
    before = {key: value.clone() for key, value in codebook.state_dict().items()}
    features = codebook.features(tensors["input/pose"])
    answer = codebook.reconstruct(features)
    assert all(torch.equal(value, before[key]) for key, value in codebook.state_dict().items())
    for change in (
        lambda: codebook.learn(features, answer.indices),
        lambda: codebook.revive(features, 0.5, seed=0),
    ):
        with pytest.raises(RuntimeError, match="training"):
            change()
    assert all(torch.equal(value, before[key]) for key, value in codebook.state_dict().items())
    codebook.train()
    codebook.reconstruct(codebook.features(tensors["input/pose"]))
    assert torch.equal(codebook.codebook, before["codebook"])
    codebook.learn(features, answer.indices)
    codebook.eval()
    assert_close(codebook.ema_cluster_size, tensors["output/ema_cluster_size_after"])
    assert_close(codebook.codebook[::32, ::4], tensors["output/codebook_after__s"])
    codebook.load_state_dict(before)


@pytest.mark.parametrize("rotation_format", ["matrix", "6d"])
def test_answers_are_rotations_and_logits_get_a_gradient(rotation_format):
    codebook = small(rotation_format=rotation_format)
    codebook.revive(codebook.features(poses(10)), 0.0, seed=0)
    logits = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    answer = codebook.decode_soft(logits)
    assert answer.shape == (3, 23, 3, 3)
    assert torch.allclose(answer.transpose(-1, -2) @ answer, torch.eye(3).expand_as(answer), atol=1e-5)
    assert torch.allclose(torch.linalg.det(answer), torch.ones(3, 23), atol=1e-5)
    answer.square().sum(dim=-1)[..., 0].sum().backward()  # constant: rows of a rotation have length 1
    assert logits.grad is not None and logits.grad.abs().max() < 1e-3
    codebook.decode_soft(logits)[..., 0, 1].sum().backward()
    assert logits.grad.isfinite().all() and logits.grad.abs().max() > 1e-5


@torch.no_grad()
def test_soft_decoding_of_a_sure_choice_is_decoding_of_its_number():
    codebook = small()
    codebook.revive(codebook.features(poses(10)), 0.0, seed=0)
    indices = codebook.encode(poses(5, seed=3))
    logits = 200.0 * torch.nn.functional.one_hot(indices, 8).float()
    assert torch.allclose(codebook.decode_soft(logits), codebook.decode_indices(indices), atol=1e-5)


def test_the_gradient_reaches_the_encoder_as_if_there_were_no_codebook():
    codebook = small()
    codebook.revive(codebook.features(poses(10)), 0.0, seed=0)
    codebook.reconstruct(codebook.features(poses(5, seed=3))).values.square().sum().backward()
    assert codebook.start_embed.weight.grad.abs().max() > 0


@torch.no_grad()
def test_dead_codes_become_features_of_the_batch():
    codebook = small()
    features = codebook.features(poses(12))
    assert codebook.dead(0.1).all()  # a new codebook
    assert codebook.revive(features, 0.1, seed=5) == 8
    tokens = features.flatten(0, 1)
    assert (codebook.codebook[:, None] == tokens).all(dim=-1).any(dim=1).all()
    assert len(codebook.codebook.unique(dim=0)) == 8
    assert codebook.revive(features, 0.1, seed=6) == 0
    first = features[:1, :1]  # from now on nothing but one code is used
    kept = int(codebook.nearest(first))
    for _ in range(60):
        codebook.learn(first, torch.tensor([[kept]]))
    assert codebook.dead(0.1).sum() == 7 and not codebook.dead(0.1)[kept]
    before, other = codebook.codebook.clone(), features.flip(0) + 1.0
    assert codebook.revive(other, 0.1, seed=7) == 7
    assert torch.equal(codebook.codebook[kept], before[kept])
    assert not codebook.dead(0.1).any()


@torch.no_grad()
def test_revival_depends_on_the_seed_alone():
    features = small().features(poses(12))
    filled = []
    for seed in (3, 3, 4):
        codebook = small()
        torch.manual_seed(len(filled))
        codebook.revive(features, 0.1, seed=seed)
        filled.append(codebook.codebook)
    assert torch.equal(filled[0], filled[1]) and not torch.equal(filled[0], filled[2])


@torch.no_grad()
def test_a_share_of_zero_revives_nothing_that_was_filled():
    codebook = small()
    features = codebook.features(poses(12))
    codebook.revive(features, 0.0, seed=0)
    for step in range(60):
        codebook.learn(features[:1, :1], torch.tensor([[0]]))
        assert codebook.revive(features, 0.0, seed=step) == 0
    assert codebook.codebook.isfinite().all()


@torch.no_grad()
def test_centred_tokens_share_the_codes():
    """What a token always holds is learnt apart from the codes, and given back to the decoder."""
    assert "token_mean" not in small().state_dict()  # the release's names
    constant = torch.tensor([-3.0, -1.0, 1.0, 3.0])[:, None].expand(4, 6)
    codebook = small(centre_tokens=True)
    assert "token_mean" in codebook.state_dict()
    torch.manual_seed(1)
    for _ in range(60):
        features = constant - codebook.token_mean + 0.01 * torch.randn(12, 4, 6)
        codebook.revive(features, 0.0, seed=0)
        codebook.learn(features, codebook.nearest(features))
    assert torch.allclose(codebook.token_mean, constant, atol=0.05)
    tokens = torch.randn(3, 4, 6)
    decoded = codebook.decode(tokens)
    mean = codebook.token_mean.clone()
    codebook.token_mean.zero_()
    assert torch.allclose(decoded, codebook.decode(tokens + mean), atol=1e-5)


def _learn_in_two(rank, folder):
    """What each of two processes does with its half of the batch."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    codebook = small(centre_tokens=True)
    half = torch.load(folder / "features.pt")[rank::2]
    codebook.revive(half, 0.1, seed=1)
    filled = codebook.codebook.clone()
    codebook.learn(half, codebook.nearest(half))
    torch.save((filled, codebook.state_dict()), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_learn_as_one(tmp_path):
    features = small(centre_tokens=True).features(poses(12)).detach()
    torch.save(features, tmp_path / "features.pt")  # a process of its own could compute others, with other threads
    forks.call_in_two(_learn_in_two, tmp_path)
    (filled, learnt), (filled_other, learnt_other) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(filled, filled_other)
    assert all(torch.equal(value, learnt_other[key]) for key, value in learnt.items())
    of_halves = [(filled[:, None] == features[rank::2].flatten(0, 1)).all(dim=-1).any(dim=1).sum() for rank in (0, 1)]
    assert of_halves == [4, 4]
    one = small(centre_tokens=True)
    one.codebook.copy_(filled)
    one.ema_w.copy_(filled)
    one.ema_cluster_size.fill_(1.0)
    one.learn(features, one.nearest(features))
    for key in ("codebook", "ema_cluster_size", "ema_w"):
        assert torch.allclose(learnt[key], one.state_dict()[key], atol=1e-6)
