"""Loss terms: those of the release on what is known, and nothing from what is not."""

import pytest
import roma
import torch

from methods.dpmesh import losses
from methods.dpmesh.regressor.regressor import IMAGE_JOINTS, Estimate, full_translation
from methods.mesh_batches import PinholeCamera, camera_of, masked_mean, project_to_image
from noise2pose import rotations, skeletons
from noise2pose.bodies import BodyModel
from tests.parity.procedural import read_fixture
from tests.places import PARITY

SKELETON = skeletons.get("h36m_17")


@pytest.fixture(scope="module")
def published():
    tensors, meta = read_fixture(PARITY / "dpmesh_losses.safetensors")
    return {key: torch.as_tensor(value) for key, value in tensors.items()}, meta


@pytest.fixture(scope="module")
def body():
    return BodyModel.load("free")


def people(body, count=3):
    """A batch of true people and the estimate that is exactly right."""
    generator = torch.Generator().manual_seed(3)
    turn = roma.rotvec_to_rotmat(0.3 * torch.randn(count, 24, 3, generator=generator))
    turn[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ turn[:, 0]
    betas, camera = torch.randn(count, 10, generator=generator), torch.tensor([[0.05, -0.1, 1.4]]).repeat(count, 1)
    box = torch.tensor([[300.0, 200.0, 180.0], [500.0, 300.0, 90.0], [100.0, 250.0, 240.0]])[:count]
    batch = {"camera": {"focal": torch.full((count, 2), 900.0), "principal_point": torch.full((count, 2), 300.0)}}
    translation = full_translation(camera, box, camera_of(batch))
    joints = body.joints(turn[:, 0], turn[:, 1:], betas, regressor="h36m_17")
    pixels = project_to_image(joints + translation[:, None], camera_of(batch))
    ones = torch.ones(count, 17, 1)
    batch |= {
        "keypoints_3d": torch.cat((joints + translation[:, None], ones), dim=-1),
        "smpl": {"global_orient": turn[:, 0], "body_pose": turn[:, 1:], "betas": betas},
        "has_smpl": torch.ones(count, dtype=torch.bool),
        "camera_translation": translation,
    }
    keypoints = torch.cat((pixels, ones), dim=-1)
    target, _ = losses.image_targets(keypoints, batch["keypoints_3d"], box, SKELETON)
    unused = torch.zeros(())
    estimate = Estimate(turn[:, 0], turn[:, 1:], unused, betas, camera, target[None], unused, unused)
    return batch, estimate, joints, pixels, keypoints, box


def terms_of(batch, estimate, joints, pixels, keypoints, box, body):
    camera = camera_of(batch)
    return losses.supervised_losses(estimate, joints, pixels, keypoints, box, camera, batch, SKELETON, body)


def test_masked_errors_are_the_releases(published):
    tensors, _ = published
    error = (tensors["input/p"] - tensors["input/q"]).abs()
    weights = tensors["input/valid"].expand_as(error).clone()
    assert torch.allclose(error * weights, tensors["output/coord_l1_no_flag"])
    weights[..., 2] *= tensors["input/is_3d"][:, None]
    assert torch.allclose(error * weights, tensors["output/coord_l1"])
    # The release's mean has zeros for what is not known in it; ours is over the rest.
    share = weights.sum() / weights.numel()
    assert torch.allclose(masked_mean(error, weights) * share, tensors["output/coord_l1"].mean())
    error, valid = (tensors["input/pose_p"] - tensors["input/pose_q"]).abs(), tensors["input/pose_valid"]
    mean = masked_mean(error, valid) * valid.mean()
    assert torch.allclose(mean, tensors["output/param_l1"].mean())


def test_learned_weights_are_the_releases(published):
    tensors, meta = published
    names = meta["config"]["awl_names"]
    weights = losses.UncertaintyWeights(names[::-1])
    weighted = weights(dict(zip(names, tensors["input/awl_losses"], strict=True)))
    assert torch.allclose(
        torch.stack(list(weighted.values())), 0.5 * tensors["input/awl_losses"] + torch.tensor(2.0).log()
    )
    for name, value in zip(names, tensors["input/awl_params"], strict=False):
        weights.scales[name].data.copy_(value)
    weighted = weights(dict(zip(names, tensors["input/awl_losses"], strict=True)))
    assert torch.allclose(torch.stack([weighted[name] for name in names]), tensors["output/awl_weighted"], rtol=1e-5)
    assert set(weights({names[0]: torch.ones(())})) == {names[0]}, "a batch need not have all terms"
    weights.total({names[0]: torch.ones(())}).backward()
    assert weights.scales[names[0]].grad != 0 and all(weights.scales[name].grad == 0 for name in names[1:])


def test_six_numbers_are_the_releases_rotation(published):
    tensors, _ = published
    ours = roma.rotmat_to_rotvec(rotations.interleaved_6d_to_rotmat(tensors["input/rot6d"]))
    assert (ours - tensors["output/rot6d_to_axis_angle"]).abs().max() < 1e-5 * 3.2


def test_the_truth_costs_nothing(body):
    terms = terms_of(*people(body), body)
    assert set(terms) == set(losses.WEIGHTS)
    for name, term in terms.items():
        assert term < 1e-5, name


def test_terms_are_in_their_units(body):
    batch, estimate, joints, pixels, keypoints, box = people(body)
    pixels = pixels + box[:, None, 2:] * torch.tensor([0.1, 0.3])
    moved = joints + torch.tensor([0.3, 0.0, 0.0])
    moved[:, SKELETON.root] -= torch.tensor([0.3, 0.0, 0.0])
    estimate = estimate._replace(betas=estimate.betas + 0.5, joint_img=estimate.joint_img + torch.tensor([0.3, 0.0, 0]))
    terms = terms_of(batch, estimate, moved, pixels, keypoints, box, body)
    assert terms["joints_2d"] == pytest.approx(0.2, abs=1e-5), "sides of the box"
    assert terms["joints_3d"] == pytest.approx(0.1 * 16 / 17, abs=1e-5), "metres relative to the root"
    assert terms["betas"] == pytest.approx(0.5) and terms["image"] == pytest.approx(0.1, abs=1e-5)


def test_unknown_entries_cost_nothing(body):
    batch, estimate, joints, pixels, keypoints, box = people(body)
    nan = float("nan")
    batch["keypoints_3d"][0, 4] = torch.tensor([nan, nan, nan, 0.0])
    keypoints[1, 6] = torch.tensor([nan, nan, 0.0])
    keypoints[2] = torch.cat((keypoints[2, :, :2] + 1e4, torch.zeros(17, 1)), dim=-1)
    batch["has_smpl"] = torch.tensor([True, False, True])
    batch["smpl"]["betas"] = batch["smpl"]["betas"] + torch.tensor([[0.0], [100.0], [0.0]])
    for name, term in terms_of(batch, estimate, joints, pixels, keypoints, box, body).items():
        assert term < 1e-5, name
    batch["has_smpl"][:] = False
    batch["keypoints_3d"][..., 3] = keypoints[..., 2] = 0.0
    terms = terms_of(batch, estimate, joints + 1.0, pixels + 1.0, keypoints, box, body)
    assert all(term == 0.0 for term in terms.values()), terms
    for key in ("keypoints_3d", "smpl"):
        batch.pop(key)
    assert set(terms_of(batch, estimate, joints, pixels, keypoints, box, body)) == {"image", "joints_2d"}


def test_values_of_unlabelled_rows_reach_neither_losses_nor_gradients(body):
    batch, estimate, _, _, keypoints, box = people(body)
    given = [estimate.root, estimate.body_pose, estimate.betas, estimate.joint_img]
    given = [(value + 0.01).requires_grad_() for value in (*given, torch.rand(3, 17, 3), torch.rand(3, 17, 2))]

    def gradients():
        ours = Estimate(
            given[0], given[1], torch.zeros(()), given[2], estimate.camera, given[3], *[torch.zeros(())] * 2
        )
        terms = terms_of(batch, ours, given[4], given[5], keypoints, box, body)
        return torch.stack(list(terms.values())), torch.autograd.grad(sum(terms.values()), given)

    batch["has_smpl"][1] = False
    batch["keypoints_3d"][1, :, 3] = keypoints[1, :, 2] = 0.0
    expected, expected_gradients = gradients()
    unlabelled = batch["keypoints_3d"][1, :, :3], keypoints[1, :, :2], batch["camera_translation"][1]
    for values in (*unlabelled, *(value[1] for value in batch["smpl"].values())):
        values.fill_(float("nan"))
    found, found_gradients = gradients()
    assert torch.equal(found, expected) and found.isfinite().all() and len(found) == len(losses.WEIGHTS)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found_gradients, expected_gradients, strict=True))
    assert all(value.isfinite().all() and value.any() for value in found_gradients)
    assert not any(value[1].any() for value in (*found_gradients[:3], *found_gradients[4:]))


def test_a_joint_outside_the_volume_has_no_place(body):
    batch, _, _, _, keypoints, box = people(body)
    wrist, hip = (SKELETON.index(name) for name in ("left_wrist", "right_hip"))
    keypoints[0, wrist, 0] = box[0, 0] + 0.6 * box[0, 2]
    points = batch["keypoints_3d"].clone()
    points[0, hip, 2] = points[0, SKELETON.root, 2] + 1.1
    target, known = losses.image_targets(keypoints, points, box, SKELETON)
    assert not known[0, IMAGE_JOINTS.index("left_wrist")].any()
    assert known[0, IMAGE_JOINTS.index("right_hip")].tolist() == [1.0, 1.0, 0.0]
    assert known.sum() == known.numel() - 4 and target[0, 0, 2] == 0.5, "the root is in the middle"
    _, known = losses.image_targets(keypoints, None, box, SKELETON)
    assert not known[..., 2].any(), "no depth without 3-D joints"


def test_tokens_are_compared_where_the_body_is_known():
    logits = torch.zeros(2, 3, 4)
    logits[0, :, 1], logits[1, :, 2] = 9.0, 9.0
    indices = torch.tensor([[1, 1, 1], [3, 3, 3]])
    assert losses.token_loss(logits, indices, torch.tensor([True, False])) < 1e-3
    assert losses.token_loss(logits, indices, torch.tensor([False, True])) > 8.0


def test_a_person_is_where_the_box_shows_it():
    camera = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -50.0]])
    box = torch.tensor([[300.0, 200.0, 125.0]]).repeat(3, 1)
    whole = PinholeCamera(torch.tensor([[1000.0, 1000.0]]).repeat(3, 1), torch.tensor([[320.0, 240.0]]).repeat(3, 1))
    translation = full_translation(camera, box, whole)
    assert translation[0, 2] == pytest.approx(10.0), "1.25 metres of the person's plane are 125 pixels"
    pixels = project_to_image(translation[:, None], whole)
    assert torch.allclose(pixels[:, 0], box[:, :2], atol=1e-2), "no shift is the middle of the box"
    assert translation[2, 2] > 0.1 and translation.isfinite().all()
