import torch
from diffusers import DDPMScheduler

from methods.diffpose import diffusion
from methods.diffpose.answers import centred_hypotheses
from methods.diffpose.denoisers import GraphDenoiser
from methods.diffpose.mixture_diffusion import StandardDiffusion
from methods.diffpose.variants import STATE_SCALE, Lifted, Regression, Samples
from noise2pose import skeletons

PARENTS = skeletons.get("h36m_17").parents


def denoiser(random_output=True):
    torch.manual_seed(0)
    network = GraphDenoiser(3, 16, 1, 2, 0.0, PARENTS, context_channels=8).eval()
    if random_output:  # it starts at zero
        torch.nn.init.normal_(network.output.linear.weight, std=0.05)
    return network


def lifted(number=6):
    generator = torch.Generator().manual_seed(1)
    return Lifted(
        torch.randn(number, 17, 2, generator=generator),
        0.3 * torch.randn(number, 17, 3, generator=generator),
        torch.randn(number, 17, 8, generator=generator),
    )


def test_standard_diffusion_starts_from_white_noise():
    mean, noise = StandardDiffusion(denoiser(), 50, 5, 17).draw(lifted(200), 5, torch.arange(200))
    assert mean.abs().max() == 0
    assert abs(noise.std().item() / STATE_SCALE - 1) < 0.01 and abs(noise.mean().item()) < 0.01


def test_its_forward_process_is_the_one_of_ddpm():
    scheduler = DDPMScheduler(50, 1e-4, 2e-2)
    alphas = diffusion.linear_alphas_cumprod(50, 1e-4, 2e-2)
    clean, noise = torch.randn(2, 50, 17, 3, generator=torch.Generator().manual_seed(0))
    steps = torch.arange(50)
    ours = diffusion.add_noise(clean, noise, alphas[steps, None, None])
    assert torch.allclose(ours, scheduler.add_noise(clean, noise, steps), atol=1e-6)


@torch.no_grad()
def test_a_stack_corrects_step_by_step():
    context = lifted()
    first, second = denoiser(), denoiser()
    torch.nn.init.normal_(second.output.linear.weight, std=0.05)
    answer, (only,) = Regression([first, second]).eval().sample(context, 1, torch.arange(6))
    assert answer.shape == (6, 17, 3) and torch.equal(answer, only)
    pose = context.pose
    for step, network in ((1, first), (0, second)):
        pose = pose + STATE_SCALE * network(pose / STATE_SCALE, torch.full((6,), step), context.features)
    assert torch.allclose(answer, pose)


@torch.no_grad()
def test_before_training_nothing_corrects_the_encoder():
    context = lifted()
    stack = Regression([denoiser(random_output=False) for _ in range(5)]).eval()
    assert torch.equal(stack.sample(context, 1, torch.arange(6)).answer, context.pose)


class Counted(StandardDiffusion):
    """Counts its calls."""

    calls = 0

    def predict_clean(self, *args):
        self.calls += 1
        return super().predict_clean(*args)


@torch.no_grad()
def test_the_answer_is_taken_from_the_first_calls_of_the_chain_of_the_hypotheses():
    context, keys = lifted(), torch.arange(6)
    one_call = StandardDiffusion(denoiser(), 50, 1, 17).eval().sample(context, 5, keys)
    chain = Counted(denoiser(), 50, 10, 17, answer_calls=1).eval()
    answer, poses = chain.sample(context, 5, keys)
    assert chain.calls == 10 and torch.allclose(answer, one_call.hypotheses.mean(dim=0), atol=1e-6)
    whole = StandardDiffusion(denoiser(), 50, 10, 17, answer_calls=10).eval().sample(context, 5, keys)
    assert torch.equal(whole.hypotheses, poses) and torch.allclose(whole.answer, poses.mean(dim=0), atol=1e-6)
    assert not torch.allclose(whole.answer, answer, atol=1e-3)


@torch.no_grad()
def test_a_single_hypothesis_starts_from_the_mean_and_is_denoised_only_as_far_as_its_answer_needs_it():
    chain = Counted(denoiser(), 50, 10, 17, answer_calls=2).eval()
    answer, poses = chain.sample(lifted(), 1, torch.arange(6))
    assert chain.calls == 2 and torch.equal(poses[0], answer)
    assert torch.equal(answer, chain.sample(lifted(), 1, torch.arange(6, 12)).answer)
    chain.answer_calls = 1
    context = lifted()
    correction = chain.denoiser(torch.zeros(6, 17, 3), torch.full((6,), 49.0), context.features)
    assert torch.allclose(chain.sample(context, 1, torch.arange(6)).answer, context.pose + STATE_SCALE * correction)


@torch.no_grad()
def test_hypotheses_keep_their_spread_around_the_answer():
    answer, poses = StandardDiffusion(denoiser(), 50, 10, 17).eval().sample(lifted(), 5, torch.arange(6))
    moved = centred_hypotheses(Samples(answer, poses), root=0)
    assert torch.allclose(moved.mean(dim=0), answer - answer[:, :1], atol=1e-6)
    assert torch.allclose(moved.std(dim=0), (poses - poses[:, :, :1]).std(dim=0), atol=1e-6)


def with_residual(chain, spread=0.1):
    chain.residual_variance.fill_(spread**2)
    return chain.eval()


@torch.no_grad()
def test_the_skip_is_the_best_linear_estimate():
    """Of h_0 from the encoder's pose and the state, against least squares on draws."""
    generator = torch.Generator().manual_seed(3)
    number, spread = 1000, 0.1
    chain = with_residual(StandardDiffusion(denoiser(random_output=False), 50, 5, 17), spread)
    pose = 0.3 * torch.randn(number, 17, 3, generator=generator)
    clean = pose + spread * torch.randn(pose.shape, generator=generator)
    for step in (2, 20, 45):
        alpha = chain.alphas_cumprod[step]
        noise = STATE_SCALE * torch.randn(pose.shape, generator=generator)
        state = diffusion.add_noise(clean, noise, alpha)
        steps = torch.full((number,), step)
        context = Lifted(pose[..., :2], pose, torch.zeros(number, 17, 8))
        estimate = chain.predict_clean(state, steps, context, chain.moments(context))
        columns = torch.stack((pose.flatten(), state.flatten()), dim=1)
        fitted = columns @ torch.linalg.lstsq(columns, clean.flatten()[:, None]).solution
        assert (estimate.flatten() - fitted[:, 0]).abs().max() < 0.1 * spread


@torch.no_grad()
def test_without_a_residual_or_a_skip_the_network_corrects_the_pose_alone():
    context, keys = lifted(), torch.arange(6)
    fresh = StandardDiffusion(denoiser(), 50, 5, 17).eval().sample(context, 5, keys)
    plain = with_residual(StandardDiffusion(denoiser(), 50, 5, 17, state_skip=False)).sample(context, 5, keys)
    skipped = with_residual(StandardDiffusion(denoiser(), 50, 5, 17)).sample(context, 5, keys)
    assert torch.equal(fresh.hypotheses, plain.hypotheses)
    assert skipped.hypotheses.std(dim=0).mean() > 2.0 * plain.hypotheses.std(dim=0).mean()


def test_the_residual_is_a_running_mean_square_of_the_valid_errors():
    chain = StandardDiffusion(denoiser(), 50, 5, 17)
    context, valid = lifted(), torch.ones(6, 17)
    valid[:, 3] = 0.0
    valid[4:, 2] = 0.0
    chain.loss(context, context.pose + 0.2, valid)
    expected = torch.full((17, 3), 0.04)
    expected[3] = 0.0
    assert torch.allclose(chain.residual_variance, expected)
    chain.loss(context, context.pose, valid)
    assert torch.allclose(chain.residual_variance, 0.99 * expected)
