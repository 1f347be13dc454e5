"""The denoiser's preconditioning and the chain: draws of the prior, completion and denoising, against exact answers."""

import pytest
import roma
import torch

from methods.pose_prior.denoiser import NUM_JOINTS, STATE_SIZE, Denoiser, LinearDenoiser, to_pose, to_state
from methods.pose_prior.sampling import LARGEST, KnownRotations, chain, complete, denoise, keyed_noise, levels, sample

KEYS = torch.arange(2000)


def poses(number, seed=0):
    return roma.rotvec_to_rotmat(
        0.5 * torch.randn(number, NUM_JOINTS, 3, generator=torch.Generator().manual_seed(seed))
    )


class Twins(LinearDenoiser):
    """Exact where all joints of a pose have the same rotation, which is anything: the mean over the joints."""

    def forward(self, state, sigma):
        same = state.unflatten(-1, (NUM_JOINTS, 6)).mean(dim=1, keepdim=True)
        return super().forward(same.expand(-1, NUM_JOINTS, -1).flatten(1), sigma / NUM_JOINTS**0.5)


def test_states_are_rotations():
    pose = poses(5)
    assert torch.allclose(to_pose(to_state(pose)), pose, atol=1e-5)
    assert torch.allclose(to_pose(1.3 * to_state(pose)), pose, atol=1e-5)


def test_an_untrained_network_is_the_linear_estimate():
    network = Denoiser(32, 1)
    network.set_statistics(torch.randn(STATE_SIZE), torch.rand(STATE_SIZE))
    state, sigma = torch.randn(4, STATE_SIZE), torch.tensor([0.01, 0.1, 0.7, 2.0])
    assert torch.equal(network(state, sigma), network.linear()(state, sigma))
    assert (network.std > 0).all() and (network.error(sigma) <= torch.minimum(network.std, sigma[:, None])).all()


def test_the_linear_estimate_is_the_mean_of_what_may_have_been():
    """Of normal numbers, against a regression on draws."""
    linear = LinearDenoiser()
    linear.set_statistics(torch.full((STATE_SIZE,), 0.3), torch.full((STATE_SIZE,), 0.5))
    clean = 0.3 + 0.5 * torch.randn(4000, STATE_SIZE, generator=torch.Generator().manual_seed(0))
    noisy = clean + 0.4 * torch.randn(4000, STATE_SIZE, generator=torch.Generator().manual_seed(1))
    found = linear(noisy, torch.full((4000,), 0.4))
    slope = ((noisy - 0.3) * (clean - 0.3)).sum() / (noisy - 0.3).square().sum()
    assert torch.allclose(found, 0.3 + slope * (noisy - 0.3), atol=0.02)
    assert (found - clean).square().mean().sqrt() == pytest.approx(float(linear.error(torch.tensor(0.4))[0]), rel=0.02)


def test_draws_have_the_spread_of_the_poses():
    linear = LinearDenoiser()
    linear.set_statistics(torch.full((STATE_SIZE,), 0.3), torch.full((STATE_SIZE,), 0.2))
    start = linear.mean + LARGEST * keyed_noise(KEYS)(-1)
    drawn = chain(linear, start, levels(40))
    assert drawn.mean() == pytest.approx(0.3, abs=0.01) and drawn.std() == pytest.approx(0.2, rel=0.1)
    assert torch.equal(chain(linear, start[7:9], levels(40)), drawn[7:9])


def test_the_unseen_follow_from_the_seen():
    twins, pose = Twins(), poses(6)
    pose = pose[:, :1].expand(-1, NUM_JOINTS, -1, -1)
    known = torch.arange(NUM_JOINTS).expand(6, -1) < 12
    hidden = torch.where(known[..., None, None], pose, torch.full_like(pose, torch.nan))
    draws = complete(twins, hidden, known, KEYS[:6], num_draws=3)
    assert draws.shape == (3, *pose.shape)
    assert torch.equal(draws[:, :, :12], pose[None, :, :12].expand(3, -1, -1, -1, -1))
    assert torch.rad2deg(roma.rotmat_geodesic_distance(draws, pose.expand_as(draws))).max() < 12.0
    assert torch.equal(draws, complete(twins, hidden, known, KEYS[:6], num_draws=3))


def test_a_joint_that_is_not_known_is_not_read():
    known = torch.zeros(2, NUM_JOINTS, dtype=torch.bool)
    evidence = KnownRotations(torch.full((2, NUM_JOINTS, 3, 3), torch.nan), known)
    proposal = torch.randn(2, STATE_SIZE)
    assert torch.equal(evidence.nearest(proposal, torch.ones(1, STATE_SIZE)), proposal)


def test_denoising_is_one_call_and_draws_belong_to_keys():
    twins, pose = Twins(), poses(40)[:, :1].expand(-1, NUM_JOINTS, -1, -1)
    turns = 0.2 * torch.randn(40, NUM_JOINTS, 3, generator=torch.Generator().manual_seed(3))
    noisy = pose @ roma.rotvec_to_rotmat(turns)
    before, after = (roma.rotmat_geodesic_distance(x, pose).mean() for x in (noisy, denoise(twins, noisy, 0.2)))
    assert after < 0.5 * before
    assert torch.equal(sample(twins, KEYS[:9])[3:5], sample(twins, KEYS[3:5]))
