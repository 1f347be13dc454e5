import pytest
import roma
import torch
import torch.nn.functional as F

from datamodules.base import select
from methods.hmr import losses
from methods.hmr.losses import Discriminators, discriminator_loss, prior_loss
from methods.mesh_batches import known_bodies, masked_mean, root_relative_loss, rotations_of
from methods.mesh_regression import Estimate
from noise2pose.bodies import BodyModel
from tests.tiny import TinyPeople

BATCH = TinyPeople(num_samples=8, image_size=1).load("train")
ROOT = 0


def truth():
    smpl = BATCH["smpl"]
    return Estimate(rotations_of(smpl), smpl["betas"], torch.tensor([0.9, 0.0, 0.0]).repeat(8, 1))


def terms(batch, body=None, joints=None):
    joints = BATCH["keypoints_3d"][..., :3] if joints is None else joints
    pixels = BATCH["keypoints_2d"][..., :2]
    return losses.supervised_losses(truth(), joints, pixels, BATCH["box"], batch, ROOT, body)


def test_the_truth_has_no_loss():
    found = terms(
        BATCH, BodyModel.load("free"), BATCH["keypoints_3d"][..., :3] + 2.0
    )  # where it stands does not matter
    assert set(found) == {"joints_3d", "joints_2d", "vertices", "pose", "betas", "camera"}
    assert all(value < 1e-7 for value in found.values())


def test_by_distance_each_joint_counts_by_how_far_it_is_off():
    off = torch.zeros(8, 17, 3)
    off[:, 3, 0], off[:, 5, 1] = 0.3, 0.4
    joints, pixels = BATCH["keypoints_3d"][..., :3] + off, BATCH["keypoints_2d"][..., :2]
    turned = truth()._replace(rotations=roma.rotvec_to_rotmat(torch.full((8, 24, 3), 0.1)) @ truth().rotations)
    found = losses.supervised_losses(turned, joints, pixels, BATCH["box"], BATCH, ROOT, None, "distance")
    assert found["joints_3d"] == pytest.approx(0.7 / 17) and found["joints_2d"] == 0.0
    known = BATCH["has_smpl"]
    apart = (turned.rotations - truth().rotations)[known].square().sum(dim=(-1, -2)).sqrt()
    assert float(found["pose"]) == pytest.approx(float(apart.mean()), rel=1e-5)


def test_terms_without_ground_truth_are_absent():
    only_2d = {key: BATCH[key] for key in ("keypoints_2d", "box", "camera")}
    assert set(terms(only_2d)) == {"joints_2d", "camera"}
    only_3d = {key: BATCH[key] for key in ("keypoints_3d", "box", "camera")}
    assert set(terms(only_3d, BodyModel.load("free"))) == {"joints_3d", "camera"}


def test_joint_losses_are_means_over_what_is_valid():
    generator = torch.Generator().manual_seed(0)
    joints = torch.randn(3, 17, 3, generator=generator)
    target = torch.cat((torch.randn(3, 17, 3, generator=generator), torch.ones(3, 17, 1)), dim=-1)
    target[0, 4:9, 3] = 0.0
    target[2, ROOT, 3] = 0.0  # nothing to be relative to
    target[0, 5, :3] = 1e6
    total, count = 0.0, 0
    for sample in (0, 1):
        for joint in range(17):
            if target[sample, joint, 3] > 0:
                ours, theirs = (
                    joints[sample, joint] - joints[sample, ROOT],
                    target[sample, joint] - target[sample, ROOT],
                )
                total, count = total + F.smooth_l1_loss(ours, theirs[:3], reduction="sum"), count + 3
    assert root_relative_loss(F.smooth_l1_loss, joints, target, ROOT) == pytest.approx(float(total) / count, rel=1e-5)

    pixels = 100.0 * joints[..., :2] + 500.0
    seen = torch.cat((500.0 + 100.0 * target[..., :2], torch.rand(3, 17, 1, generator=generator)), dim=-1)
    seen[1, 3] = torch.tensor([float("nan"), -1e9, 0.0])
    box = torch.tensor([500.0, 500.0, 400.0]).repeat(3, 1)
    total, weight = 0.0, 0.0
    for sample in range(3):
        for joint in range(17):
            confidence = float(seen[sample, joint, 2])
            if confidence > 0:
                error = F.smooth_l1_loss(pixels[sample, joint] / 200.0, seen[sample, joint, :2] / 200.0)
                total, weight = total + confidence * float(error), weight + confidence
    assert losses.joints_2d_loss(pixels, seen, box) == pytest.approx(total / weight, rel=1e-5)


def test_samples_without_a_body_do_not_count():
    estimate, wrong = truth(), ~BATCH["has_smpl"]
    estimate = estimate._replace(betas=estimate.betas + 5.0 * wrong[:, None])
    assert wrong.any() and known_bodies(BATCH).sum() == 6
    smpl = BATCH["smpl"]
    body = BodyModel.load("free")
    assert masked_mean((estimate.betas - smpl["betas"]).square(), BATCH["has_smpl"]) == 0
    assert losses.vertex_loss(estimate, smpl, BATCH["has_smpl"], body) < 1e-6
    assert losses.vertex_loss(estimate, smpl, wrong, body) > 0.05
    assert losses.vertex_loss(estimate, smpl, torch.zeros(8, dtype=torch.bool), body) == 0


def test_values_of_unlabelled_rows_reach_neither_losses_nor_gradients():
    generator, body = torch.Generator().manual_seed(1), BodyModel.load("free")
    labelled = torch.arange(8) % 4 != 3
    batch = {key: BATCH[key].clone() for key in ("keypoints_3d", "keypoints_2d", "box")}
    batch |= {"has_smpl": labelled, "smpl": {key: value.clone() for key, value in BATCH["smpl"].items()}}
    for values in (batch["keypoints_3d"][..., :3], batch["keypoints_2d"][..., :2], *batch["smpl"].values()):
        values[~labelled] = float("nan")
    batch["keypoints_3d"][~labelled, :, 3] = batch["keypoints_2d"][~labelled, :, 2] = 0.0

    def found(rows):
        """Losses of some rows, and their gradients."""
        generator.manual_seed(2)
        shapes = (8, 24, 3, 3), (8, 10), (8, 3), (8, 17, 3), (8, 17, 2)
        given = [torch.randn(shape, generator=generator)[rows].requires_grad_() for shape in shapes]
        part = select(batch, rows.nonzero()[:, 0])
        terms = losses.supervised_losses(Estimate(*given[:3]), *given[3:], part["box"], part, ROOT, body)
        return terms, torch.autograd.grad(sum(terms.values()) - terms["camera"], given, allow_unused=True)

    (terms, gradients), (expected, expected_gradients) = found(torch.ones_like(labelled)), found(labelled)
    assert set(terms) == {"joints_3d", "joints_2d", "vertices", "pose", "betas", "camera"}
    for name in set(terms) - {"camera"}:  # which has no labels
        assert terms[name] > 0 and torch.allclose(terms[name], expected[name], rtol=1e-5), name
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        if wanted is not None:
            assert not gradient[~labelled].any()
            assert torch.allclose(gradient[labelled], wanted, rtol=1e-4, atol=1e-8)


def test_vertices_are_compared_as_smpl_places_them():
    shifted = Estimate(truth().rotations, torch.zeros(8, 10), truth().camera)
    body, smpl = BodyModel.load("free"), BATCH["smpl"]
    known = BATCH["has_smpl"]
    ours = body(smpl["global_orient"], smpl["body_pose"], torch.zeros(8, 10)).vertices
    theirs = body(**smpl).vertices
    expected = F.l1_loss(ours[known], theirs[known])
    assert losses.vertex_loss(shifted, smpl, known, body) == pytest.approx(float(expected), rel=1e-5)


def test_the_camera_prior_is_spins():
    camera = torch.tensor([[0.1, 0.0, 0.0], [0.9, 3.0, 1.0]])
    expected = (torch.exp(torch.tensor(-10.0 * 0.1)) ** 2 + torch.exp(torch.tensor(-9.0)) ** 2) / 2.0
    assert losses.camera_prior(camera) == pytest.approx(float(expected), rel=1e-5)


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
