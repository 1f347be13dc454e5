"""What the student learns from the teacher: the loss as recorded from the release's class, and what it does."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from methods.dpmesh import DPMesh
from methods.dpmesh.losses import nt_xent, reasoning_losses, stack_views
from tests import forks
from tests.parity.procedural import read_fixture
from tests.places import PARITY


def contrastive(student, teacher, temperature):
    return reasoning_losses([student], [teacher], "contrastive", temperature)["contrastive"]


@pytest.fixture(scope="module")
def recorded():
    tensors, _ = read_fixture(PARITY / "dpmesh_losses.safetensors")
    return {key: torch.as_tensor(value) for key, value in tensors.items()}


@pytest.mark.parametrize(("name", "temperature"), [("T1", 1.0), ("T05", 0.5), ("T01", 0.1)])
def test_the_contrastive_term_is_the_releases(recorded, name, temperature):
    ours = contrastive(recorded["input/student"], recorded["input/teacher"], temperature)
    assert ours == pytest.approx(recorded[f"output/nt_xent_{name}"].item(), rel=1e-5)


def test_the_other_term_is_the_releases_too(recorded):
    terms = reasoning_losses([recorded["input/student"]], [recorded["input/teacher"]], "both", 1.0)
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
    assert torch.allclose(contrastive(student, teacher, 0.2), textbook(student, teacher, 0.2), rtol=1e-5)


def test_a_step_along_the_gradient_brings_matching_views_together():
    """Equation 8 as printed, without the minus sign, would drive them apart."""
    torch.manual_seed(0)
    teacher = torch.randn(6, 32)
    student = torch.randn(6, 32, requires_grad=True)
    losses = []
    for _ in range(200):
        loss = contrastive(student, teacher, 0.5)
        (gradient,) = torch.autograd.grad(loss, student)
        student = (student - 5.0 * gradient).detach().requires_grad_()
        losses.append(loss.item())
    similarity = torch.cosine_similarity(student[:, None], teacher[None], dim=-1)
    assert losses[-1] < losses[0] and (similarity.argmax(dim=1) == torch.arange(6)).all()


def test_no_gradient_goes_to_the_teacher():
    student, teacher = torch.randn(2, 4, 8).unbind()
    student.requires_grad_(), teacher.requires_grad_()
    sum(reasoning_losses([student], [teacher], "both", 0.5).values()).backward()
    assert teacher.grad is None and student.grad is not None


def test_processes_together_see_what_one_would():
    student, teacher = torch.randn(2, 8, 16)
    parts = [stack_views([student[a:b]], [teacher[a:b]])[0] for a, b in ((0, 4), (4, 8))]
    together = nt_xent(torch.stack(parts), 0.5)
    assert torch.allclose(together, contrastive(student, teacher, 0.5))


class Student(L.LightningModule):
    """Learns from a teacher as `DPMesh` does, and from nothing else."""

    reasoning = DPMesh._reasoning
    nkr, nkr_temperature, nkr_gather = "both", 0.5, True

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(6, 12) for _ in range(2))
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))

    def training_step(self, batch):
        levels = [layer(batch[:, 0]).view(-1, 3, 2, 2) for layer in self.layers]
        target = [2.0 * batch[:, 1].repeat(1, 2).view(-1, 3, 2, 2)] * 2
        return torch.stack(list(self.reasoning(levels, target).values())).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def learn(folder, size, **options):
    samples = torch.randn(8, 2, 6, generator=torch.Generator().manual_seed(5))
    settings = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        **settings, enable_model_summary=False, callbacks=[ModelCheckpoint(folder, save_last=True)], **options
    )
    trainer.fit(Student(), DataLoader(samples, batch_size=size))


def _learn_in_two(rank, folder):
    learn(folder, 4, devices=2, strategy="ddp")


@pytest.mark.slow
def test_two_processes_that_gather_learn_what_one_with_the_joint_batch_does(tmp_path):
    learn(tmp_path / "one", 8)
    forks.call_in_two(_learn_in_two, tmp_path / "two")
    learnt = []
    for folder in ("one", "two"):
        checkpoint = torch.load(tmp_path / folder / "last.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 1
        learnt.append(torch.cat([value.flatten() for value in checkpoint["state_dict"].values()]))
    assert torch.allclose(*learnt, atol=1e-6)


def test_levels_have_equal_weights_and_kinds_have_their_terms():
    student, teacher = (
        [torch.randn(4, 3, 8, 8), torch.randn(4, 5, 2, 2)],
        [torch.randn(4, 3, 8, 8), torch.zeros(4, 5, 2, 2)],
    )
    both = reasoning_losses(student, teacher, "both", 0.5)
    pairs = zip(student, teacher, strict=True)
    alone = [reasoning_losses([ours], [theirs], "mse", 0.5)["mse"] for ours, theirs in pairs]
    assert torch.allclose(both["mse"], torch.stack(alone).mean())
    assert set(both) == {"mse", "contrastive"} and both["contrastive"].isfinite()
    assert set(reasoning_losses(student, teacher, "contrastive", 0.5)) == {"contrastive"}
    assert reasoning_losses(student, teacher, "off", 0.5) == {}


def test_one_sample_alone_has_nothing_to_be_told_from():
    student = torch.randn(1, 8, requires_grad=True)
    loss = contrastive(student, torch.randn(1, 8), 0.5)
    loss.backward()
    assert loss == 0.0 and student.grad.isfinite().all()
