import pytest
import torch

from methods.diffannot.denoiser import ReleasedDenoiser, ResidualDenoiser, sinusoidal_embedding
from methods.diffannot.diffusion import GaussianDiffusion, schedule_betas

LEVELS = schedule_betas("linear").neg().add(1).cumprod(0)


def test_an_odd_embedding_ends_with_a_zero():
    embedding = sinusoidal_embedding(torch.tensor([0, 5]), 7)
    assert embedding.shape == (2, 7) and (embedding[:, -1] == 0).all()
    assert torch.equal(embedding[0], torch.tensor([1.0, 1, 1, 0, 0, 0, 0]))


@torch.no_grad()
@pytest.mark.parametrize("network", [ReleasedDenoiser(12, 20), ResidualDenoiser(LEVELS, 12, 16, 2)])
def test_one_time_for_all_rows_equals_a_time_a_row(network):
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(5, 12)
    assert torch.allclose(network(x, torch.tensor([7])), network(x, torch.full((5,), 7.0)), atol=1e-6)


def test_times_of_a_shorter_training_chain_are_brought_to_1000_steps():
    torch.manual_seed(0)
    long, short = ReleasedDenoiser(6, 8), ReleasedDenoiser(6, 8, num_steps=100)
    short.load_state_dict(long.state_dict())
    x = torch.randn(2, 6)
    assert torch.equal(long(x, torch.tensor([50.0])), short(x, torch.tensor([5])))


def test_the_released_network_takes_no_condition():
    with pytest.raises(ValueError, match="condition"):
        ReleasedDenoiser(6, 8)(torch.zeros(1, 6), torch.tensor([0]), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="condition"):
        ResidualDenoiser(LEVELS, 6, 8)(torch.zeros(1, 6), torch.tensor([0]), torch.zeros(1, 3))


@torch.no_grad()
def test_untrained_it_is_the_best_prediction_from_mean_and_spread():
    torch.manual_seed(0)
    diffusion = GaussianDiffusion(schedule_betas("linear"))
    mean, std = torch.tensor([0.0, 0.9, -3.0]), torch.tensor([1.0, 0.05, 0.0])
    network = ResidualDenoiser(diffusion.alphas_cumprod, 3, 16, 1)
    network.set_statistics(mean, std)
    for t in (10, 300, 900):
        start, noise = mean + std * torch.randn(50_000, 3), torch.randn(50_000, 3)
        state = diffusion.q_sample(start, t, noise)
        predicted = network(state, torch.tensor([t]))
        error = (predicted - noise).square().mean(0)
        signal = diffusion.alphas_cumprod[t].float() * std**2
        assert torch.allclose(error, signal / (signal + 1 - diffusion.alphas_cumprod[t].float()), rtol=0.03, atol=1e-6)


def test_statistics_travel_with_the_weights_and_the_schedule_does_not():
    network = ResidualDenoiser(LEVELS, 3, 8)
    network.set_statistics(torch.ones(3), torch.full((3,), 2.0))
    other = ResidualDenoiser(LEVELS, 3, 8)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.std, network.std) and "alphas_cumprod" not in network.state_dict()


@torch.no_grad()
def test_a_condition_of_zeros_is_none():
    torch.manual_seed(0)
    network = ResidualDenoiser(LEVELS, 6, 16, 1, condition_size=4, learned_range=True)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, condition, t = torch.randn(3, 6), torch.randn(3, 4), torch.tensor([5, 6, 7])
    condition[1] = 0
    without, given = network(x, t), network(x, t, condition)
    assert given.shape == (3, 12)
    assert torch.allclose(without[1], given[1], atol=1e-6) and not torch.allclose(without[0], given[0], atol=1e-3)
