import pytest
import torch

from methods.diffannot.denoiser import ReleasedDenoiser
from methods.diffannot.diffusion import GaussianDiffusion, schedule_betas
from scripts.benchmarks.diffannot import TextbookDiffusion, select_best_result
from tests.parity.diffannot import fixture


@torch.no_grad()
@pytest.mark.parametrize("t", [0, 1, 40])
def test_both_steps_are_those_of_the_diffusion(t):
    torch.manual_seed(0)
    betas, network = schedule_betas("linear"), ReleasedDenoiser(6, 8)
    ours, plain = GaussianDiffusion(betas), TextbookDiffusion(betas.numpy())
    state, noise = torch.randn(2, 3, 6)
    times = torch.full((3,), t)
    output = network(state, times)
    ddpm, ddim = ours.ddpm_step(state, t, output, noise).state, ours.ddim_step(state, t, output).state
    assert torch.allclose(plain.ddpm_step(network, state, times, noise), ddpm, atol=1e-6)
    assert torch.allclose(plain.ddim_step(network, state, times, noise), ddim, atol=1e-6)


@pytest.mark.parametrize("patience", [0, 1, 3, 10])
def test_the_loop_stops_as_printed(patience):
    tensors, _, _ = fixture("algorithm1_paper")
    for row, losses in enumerate(tensors["input/scan_losses"]):
        chosen = select_best_result(
            lambda state, t, start: torch.tensor([[float(start)]]),
            torch.zeros(1, 1),
            lambda state, losses=losses: float(losses[int(state)]),
            59,
            patience,
        )
        assert chosen.step == tensors[f"output/scan_best_K{patience}"][row]
        assert chosen.stop == tensors[f"output/scan_stop_K{patience}"][row]
