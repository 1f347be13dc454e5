import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from methods.diffannot.denoiser import ResidualDenoiser
from methods.diffannot.diffusion import GaussianDiffusion, clip_mask, schedule_betas
from tests.parity.diffannot import denoiser, fixture, noise, pa_mpjpe_mm
from tests.parity.tolerances import assert_close, assert_rows_close

SCHEDULES = ["linear", "cosine"]


def diffusion(schedule="linear", clip="none", learned_range=False):
    return GaussianDiffusion(schedule_betas(schedule), learned_range, clip_mask(clip))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_tables_are_the_released_ones(schedule):
    tensors, _, _ = fixture(f"diffusion_{schedule}")
    ours = diffusion(schedule)
    for key, table in tensors.items():
        if key.startswith("output/table/") and key != "output/table/posterior_variance":  # its logarithm is a table
            assert torch.allclose(ours.get_buffer(key.removeprefix("output/table/")), table, rtol=1e-10, atol=0), key
    assert ours.betas.dtype == torch.float64 and not ours.state_dict()


@torch.no_grad()
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_forward_process_and_posterior_are_the_released_ones(schedule):
    tensors, _, _ = fixture(f"diffusion_{schedule}")
    ours = diffusion(schedule)
    start, t = tensors["input/x_start"], tensors["input/t"]
    state = ours.q_sample(start, t, tensors["input/noise"])
    assert_close(state, tensors["output/q_sample"], 1e-5)
    mean, log_variance = ours.posterior(start, state, t)
    assert_close(mean, tensors["output/q_post_mean"], 1e-5)
    assert_close(log_variance[:, 0], tensors["output/q_post_logvar"], 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("clip", [0, 1])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_reverse_gaussian_is_the_released_one(schedule, clip):
    tensors, _, _ = fixture(f"diffusion_{schedule}")
    ours = diffusion(schedule, "all" if clip else "none")
    network, t = denoiser(), tensors["input/t"]
    noised = ours.q_sample(tensors["input/x_start"], t, tensors["input/noise"])
    for name, state in {"xt": noised, "theta": tensors["input/x_start"]}.items():
        output = network(state, t)
        reverse = ours.reverse(state, t, output)
        # x_0 = (x_t - sqrt(1 - abar) eps) / sqrt(abar). Both terms are right to some 1e-6 of their size (eps no better,
        # because its time embedding takes sines of rounded angles up to t), and the division multiplies their errors
        # by 1 / sqrt(abar): by 1 at t = 0, but by 157 (linear) or 20,000 (cosine) at t = 999. Clipping adds no error.
        # The mean c1 x_0 + c2 x_t has c1 times the error of x_0, and that of its second term.
        sizes = state.abs().amax(1), output.abs().amax(1)
        start = ours.sqrt_recip_alphas_cumprod[t] * sizes[0] + ours.sqrt_recipm1_alphas_cumprod[t] * sizes[1]
        mean = ours.posterior_mean_coef1[t] * start + ours.posterior_mean_coef2[t] * sizes[0]
        assert_rows_close(reverse.start, tensors[f"output/p_{name}_clip{clip}_pred_xstart"], start)
        assert_rows_close(reverse.mean, tensors[f"output/p_{name}_clip{clip}_mean"], mean)
        assert_close(reverse.log_variance[:, 0], tensors[f"output/p_{name}_logvar"], 1e-5)
    _, small = ours.posterior(noised, noised, t)
    assert_close(small[:, 0], tensors["output/p_xt_small_logvar"], 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("clip", [0, 1])
@pytest.mark.parametrize("start", [0, 1, 5, 35])
def test_chains_from_a_first_answer_are_the_released_ones(start, clip):
    tensors, _, _ = fixture("chains")
    ours, network = diffusion(clip="all" if clip else "none"), denoiser()
    ddpm = ddim = tensors["input/theta1"]
    for call, t in enumerate(range(start - 1, -1, -1)):
        fresh = noise(f"chain/s{start}/k{call}")
        ddpm = ours.ddpm_step(ddpm, t, network(ddpm, ours.network_time(t)), fresh).state
        ddim = ours.ddim_step(ddim, t, network(ddim, ours.network_time(t))).state
    assert_close(ddpm, tensors[f"output/ddpm_s{start}_clip{clip}"], 5e-5)
    assert_close(ddim, tensors[f"output/ddim_s{start}_clip{clip}"], 5e-5)


@torch.no_grad()
def test_the_whole_chain_is_the_released_one():
    tensors, _, _ = fixture("chains")
    ours, network = diffusion(clip="all"), denoiser()
    state = noise("full/start", (2, 226))
    for call, t in enumerate(range(999, -1, -1)):
        output = network(state, ours.network_time(t))
        state = ours.ddpm_step(state, t, output, noise(f"full/k{call}", (2, 226))).state
    assert_close(state, tensors["output/full_ddpm_1000_clip1"], 5e-5)


@torch.no_grad()
def test_training_losses_are_the_released_ones():
    tensors, _, _ = fixture("training_losses")
    start, t, drawn = (tensors[f"input/{name}"] for name in ("x_start", "t", "noise"))
    ours = diffusion()
    state = ours.q_sample(start, t, drawn)
    output = denoiser()(state, t)
    mse = ours.noise_losses(start, state, t, drawn, output)["mse"]
    assert_close(mse, tensors["output/mse"], 1e-4)
    bound = ours.variational_bound(start, state, t, output)
    assert_close(bound, tensors["output/vb_bits"], 1e-4)
    assert_close(1000 * bound, tensors["output/rescaled_kl"], 1e-4)  # not clipped, whatever the fixture's notes say
    released = mse + pa_mpjpe_mm(output, tensors["input/gt_j14_mm"]).mean() / 200
    assert_close(released, tensors["output/release_loss"].double(), 1e-4)


def test_shape_coefficients_are_clipped_only_on_request():
    state = torch.full((2, 226), 3.0)
    for clip, rotation, shape in (("none", 3.0, 3.0), ("rotations", 1.0, 3.0), ("all", 1.0, 1.0)):
        start = diffusion(clip=clip).start_from_noise(state, 0, torch.zeros_like(state))
        assert start[0, 215].item() == pytest.approx(rotation, rel=1e-3)
        assert start[0, 216].item() == pytest.approx(shape, rel=1e-3)


def test_one_time_for_all_rows_equals_a_time_a_row():
    ours = diffusion(learned_range=True)
    state, output, fresh = torch.randn(5, 226), torch.randn(5, 452), torch.randn(5, 226)
    for t in (0, 7):
        times = torch.full((5,), t)
        assert torch.equal(
            ours.ddpm_step(state, t, output, fresh).state, ours.ddpm_step(state, times, output, fresh)[0]
        )
        assert torch.equal(ours.ddim_step(state, t, output).state, ours.ddim_step(state, times, output).state)


def test_a_perfect_denoiser_is_undone_by_ddim():
    ours = diffusion()
    start, drawn = torch.randn(2, 3, 226, dtype=torch.float64)
    state = ours.q_sample(start, 60, drawn)
    for t in range(60, -1, -1):
        state = ours.ddim_step(state, t, ours.noise_from_start(state, t, start)).state
    assert torch.allclose(state, start)


def test_learned_range_lies_between_the_two_fixed_variances():
    ours, state = diffusion(learned_range=True), torch.zeros(1, 226)
    for t in (0, 1, 500):
        low, high = (
            ours.reverse(state, t, torch.cat((state, torch.full_like(state, choice)), -1)).log_variance
            for choice in (-1.0, 1.0)
        )
        assert torch.allclose(low, ours.posterior_log_variance_clipped[t].float())
        assert torch.allclose(high, ours.betas[t].log().float())


def test_the_bound_trains_the_variance_alone():
    ours = diffusion(learned_range=True)
    start, drawn = torch.randn(2, 8, 226)
    t = torch.arange(8)
    output = torch.randn(8, 452, requires_grad=True)
    losses = ours.noise_losses(start, ours.q_sample(start, t, drawn), t, drawn, output)
    losses["vb"].sum().backward()
    assert (output.grad[:, :226] == 0).all() and (output.grad[:, 226:] != 0).any()


@pytest.mark.parametrize("magnitude", [1.0, 1e3, 1e6])
def test_the_bound_and_its_gradient_stay_finite(magnitude):
    ours = diffusion(learned_range=True)
    start, drawn = torch.randn(2, 4, 226)
    t = torch.tensor([0, 0, 1, 999])
    output = (magnitude * torch.randn(4, 452)).requires_grad_()
    bound = ours.noise_losses(start, ours.q_sample(start, t, drawn), t, drawn, output)["vb"]
    bound.sum().backward()
    assert bound.isfinite().all() and output.grad.isfinite().all()


def test_a_learned_range_trains():
    torch.manual_seed(0)
    ours = GaussianDiffusion(schedule_betas("linear", 100), learned_range=True)
    data = torch.randn(64, 3) @ torch.randn(3, 12) / 2
    network = ResidualDenoiser(ours.alphas_cumprod, 12, width=32, num_blocks=1, learned_range=True)
    network.set_statistics(data.mean(0), data.std(0))
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    history = []
    for _ in range(150):
        t, drawn = torch.randint(0, 100, (64,)), torch.randn(64, 12)
        state = ours.q_sample(data, t, drawn)
        losses = ours.noise_losses(data, state, t, drawn, network(state, t))
        optimizer.zero_grad()
        sum(loss.mean() for loss in losses.values()).backward()
        optimizer.step()
        history.append((losses["mse"].mean().item(), losses["vb"].mean().item()))
    first, last = torch.tensor(history[:20]).mean(0), torch.tensor(history[-20:]).mean(0)
    assert last.isfinite().all() and (last < 0.9 * first).all()


def test_shapes_are_as_annotated():
    step = jaxtyped(typechecker=beartype)(GaussianDiffusion.ddim_step)
    step(diffusion(), torch.zeros(2, 226), 3, torch.zeros(2, 226))
    with pytest.raises(Exception, match="ddim_step"):
        step(diffusion(), torch.zeros(226, dtype=torch.int64), 3, torch.zeros(2, 226))
