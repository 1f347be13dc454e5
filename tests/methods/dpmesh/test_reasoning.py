"""What the student learns from the teacher: the loss as recorded from the release's class, and what it does."""

from pathlib import Path

import pytest
import torch

from methods.dpmesh.reasoning import nt_xent, nt_xent_of_views, reasoning_losses, stack_views
from noise2pose.errors import InputError
from tests.parity.procedural import read_fixture

PARITY = Path(__file__).resolve().parents[2] / "parity"


@pytest.fixture(scope="module")
def recorded():
    tensors, _ = read_fixture(PARITY / "dpmesh_losses.safetensors")
    return {key: torch.as_tensor(value) for key, value in tensors.items()}


@pytest.mark.parametrize(("name", "temperature"), [("T1", 1.0), ("T05", 0.5), ("T01", 0.1)])
def test_the_contrastive_term_is_the_releases(recorded, name, temperature):
    ours = nt_xent(recorded["input/student"], recorded["input/teacher"], temperature)
    assert ours == pytest.approx(recorded[f"output/nt_xent_{name}"].item(), rel=1e-5)


def test_the_other_term_is_the_releases_too(recorded):
    terms = reasoning_losses([recorded["input/student"]], [recorded["input/teacher"]], "both")
    assert terms["mse"] == pytest.approx(recorded["output/mse"].item(), rel=1e-5)
    assert terms["contrastive"] == pytest.approx(recorded["output/nt_xent_T1"].item(), rel=1e-5)


def textbook(student, teacher, temperature):
    """Equation 1 of SimCLR, pair by pair."""
    views = [*student.flatten(1), *teacher.flatten(1)]
    count, losses = len(student), []
    for i, view in enumerate(views):
        similar = [torch.cosine_similarity(view, other, dim=0) / temperature for other in views]
        others = torch.stack([value for k, value in enumerate(similar) if k != i])
        losses.append(others.logsumexp(dim=0) - similar[(i + count) % (2 * count)])
    return torch.stack(losses).mean()


def test_it_is_simclrs_equation():
    student, teacher = torch.randn(2, 5, 3, 4, 4, dtype=torch.float64).float()
    assert torch.allclose(nt_xent(student, teacher, 0.2), textbook(student, teacher, 0.2), rtol=1e-5)


def test_a_step_along_the_gradient_brings_matching_views_together():
    """Equation 8 as printed, without the minus sign, would drive them apart."""
    torch.manual_seed(0)
    teacher = torch.randn(6, 32)
    student = torch.randn(6, 32, requires_grad=True)
    losses = []
    for _ in range(200):
        loss = nt_xent(student, teacher, 0.5)
        (gradient,) = torch.autograd.grad(loss, student)
        student = (student - 5.0 * gradient).detach().requires_grad_()
        losses.append(loss.item())
    similarity = torch.cosine_similarity(student[:, None], teacher[None], dim=-1)
    assert losses[-1] < losses[0] and (similarity.argmax(dim=1) == torch.arange(6)).all()


def test_no_gradient_goes_to_the_teacher():
    student, teacher = torch.randn(2, 4, 8).unbind()
    student.requires_grad_(), teacher.requires_grad_()
    sum(reasoning_losses([student], [teacher], "both").values()).backward()
    assert teacher.grad is None and student.grad is not None


def test_processes_together_see_what_one_would():
    student, teacher = torch.randn(2, 8, 16)
    parts = [stack_views([student[a:b]], [teacher[a:b]])[0] for a, b in ((0, 4), (4, 8))]
    together = nt_xent_of_views(torch.stack(parts), 0.5)
    assert torch.allclose(together, nt_xent(student, teacher, 0.5))


def test_levels_count_alike_and_kinds_are_what_they_say():
    student, teacher = (
        [torch.randn(4, 3, 8, 8), torch.randn(4, 5, 2, 2)],
        [torch.randn(4, 3, 8, 8), torch.zeros(4, 5, 2, 2)],
    )
    both = reasoning_losses(student, teacher, "both")
    alone = [reasoning_losses([ours], [theirs], "mse")["mse"] for ours, theirs in zip(student, teacher, strict=True)]
    assert torch.allclose(both["mse"], torch.stack(alone).mean())
    assert set(both) == {"mse", "contrastive"} and both["contrastive"].isfinite()
    assert set(reasoning_losses(student, teacher, "contrastive")) == {"contrastive"}
    assert reasoning_losses(student, teacher, "off") == {}
    with pytest.raises(InputError, match="model.nkr is simclr, expected one of off, mse, contrastive, both"):
        reasoning_losses(student, teacher, "simclr")


def test_one_sample_alone_has_nothing_to_be_told_from():
    student = torch.randn(1, 8, requires_grad=True)
    loss = nt_xent(student, torch.randn(1, 8))
    loss.backward()
    assert loss == 0.0 and student.grad.isfinite().all()
