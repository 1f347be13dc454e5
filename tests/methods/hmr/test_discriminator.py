import roma
import torch

from methods.hmr.discriminator import Discriminators, discriminator_loss, prior_loss


def people(number, seed):
    generator = torch.Generator().manual_seed(seed)
    turns = roma.rotvec_to_rotmat(0.3 * torch.randn(number, 24, 3, generator=generator))
    return turns.requires_grad_(), torch.randn(number, 10, generator=generator).requires_grad_()


def test_each_loss_has_its_gradient_on_one_side():
    torch.manual_seed(0)
    judges, estimated, real = Discriminators(), people(5, 1), people(3, 2)
    prior_loss(judges, *estimated).backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in estimated)
    assert all(weight.grad is None for weight in judges.parameters())
    for part in estimated:
        part.grad = None
    discriminator_loss(judges, estimated, real).backward()
    assert all(part.grad is None for part in estimated)
    assert all(weight.grad is not None for weight in judges.parameters())


def test_losses_are_least_squares_of_the_logits():
    torch.manual_seed(0)
    judges, estimated, real = Discriminators(), people(5, 1), people(3, 2)
    of_estimates, of_bodies = judges(*estimated), judges(*real)
    assert torch.allclose(prior_loss(judges, *estimated), (of_estimates - 1).square().mean())
    expected = of_estimates.square().mean() + (of_bodies - 1).square().mean()
    assert torch.allclose(discriminator_loss(judges, estimated, real), expected)
    no_bodies = tuple(part[:0] for part in real)
    assert torch.allclose(discriminator_loss(judges, estimated, no_bodies), of_estimates.square().mean())


def test_the_root_may_face_any_way():
    judges = Discriminators()
    (turns, betas), (other, _) = people(4, 1), people(4, 2)
    swapped = torch.cat((other[:, :1], turns[:, 1:]), dim=1)
    assert torch.equal(judges(turns, betas), judges(swapped, betas))


def test_the_judges_learn_to_tell_bodies_apart():
    torch.manual_seed(0)
    judges = Discriminators()
    turns, betas = people(64, 1)
    real = turns.detach(), betas.detach()
    estimated = real[0].transpose(-1, -2), 3.0 * real[1]
    optimizer = torch.optim.Adam(judges.parameters(), lr=1e-2)
    first = discriminator_loss(judges, estimated, real).item()
    for _ in range(30):
        optimizer.zero_grad()
        discriminator_loss(judges, estimated, real).backward()
        optimizer.step()
    assert discriminator_loss(judges, estimated, real) < 0.5 * first
