import torch
from diffusers import DDPMScheduler

from methods.diffpose import diffusion
from methods.diffpose.denoisers import GraphDenoiser
from methods.diffpose.variants import STATE_SCALE, Lifted, Regression, StandardDiffusion
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
    mean, noise = StandardDiffusion(denoiser(), 50, 5).draw(lifted(200), 5, torch.arange(200))
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
    answer = Regression([first, second]).eval().sample(context, 1, torch.arange(6))
    assert answer.shape == (1, 6, 17, 3)
    pose = context.pose
    for step, network in ((1, first), (0, second)):
        pose = pose + STATE_SCALE * network(pose / STATE_SCALE, torch.full((6,), step), context.features)
    assert torch.allclose(answer[0], pose)


@torch.no_grad()
def test_before_training_nothing_corrects_the_encoder():
    context = lifted()
    stack = Regression([denoiser(random_output=False) for _ in range(5)]).eval()
    assert torch.equal(stack.sample(context, 1, torch.arange(6))[0], context.pose)
