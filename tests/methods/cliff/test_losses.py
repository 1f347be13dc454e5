import pytest
import torch
import torch.nn.functional as F

from methods.cliff import losses
from methods.mesh_batches import rotations_of
from methods.mesh_regression import Estimate
from noise2pose.bodies import BodyModel
from tests.tiny import TinyPeople

BATCH = TinyPeople(num_samples=8, image_size=1).load("train")
BODY = BodyModel.load("free")
SIZE = BATCH["camera"]["image_size"]


def truth():
    return Estimate(rotations_of(BATCH["smpl"]), BATCH["smpl"]["betas"], torch.tensor([0.9, 0.0, 0.0]).repeat(8, 1))


def terms(batch, estimate=None, vertices=True, num_rotations=24):
    """Losses of an estimate, the true one by default."""
    estimate = estimate or truth()
    joints = BODY.joints(estimate.rotations[:, 0], estimate.rotations[:, 1:], estimate.betas)
    return losses.supervised_losses(
        estimate, joints, BATCH["keypoints_2d"][..., :2], BATCH["box"], SIZE, batch,
        body=BODY, skeleton="h36m_17", root=0, num_rotations=num_rotations, vertices=vertices,
    )  # fmt: skip


def test_the_truth_has_no_loss():
    found = terms(BATCH)
    assert set(found) == {"joints_3d", "joints_2d", "vertices", "pose", "betas", "camera"}
    assert all(value < 1e-7 for value in found.values())
    assert set(terms(BATCH, vertices=False)) == set(found) - {"vertices"}


def test_terms_without_ground_truth_are_absent():
    assert set(terms({key: BATCH[key] for key in ("keypoints_2d", "box", "camera")})) == {"joints_2d", "camera"}
    assert set(terms({key: BATCH[key] for key in ("keypoints_3d", "box", "camera")})) == {"joints_3d", "camera"}


def test_the_2d_loss_is_bedlams():
    """Both poses in [-1, 1] of the image, squared, times image over box: one number after the other."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([[1920.0, 1080.0], [400.0, 900.0]])
    box = torch.tensor([[800.0, 500.0, 700.0], [200.0, 300.0, 150.0]])
    pixels = 500.0 + 100.0 * torch.randn(2, 5, 2, generator=generator)
    target = torch.cat((500.0 + 100.0 * torch.randn(2, 5, 2, generator=generator), torch.ones(2, 5, 1)), dim=-1)
    target[0, 3] = torch.tensor([float("nan"), 1e9, 0.0])
    target[1, 2, 2] = 0.25
    total, weight = 0.0, 0.0
    for sample in range(2):
        for joint in range(5):
            for axis in range(2):
                confidence = float(target[sample, joint, 2])
                if confidence == 0.0:
                    continue
                ours, theirs = (
                    2.0 * float(values[sample, joint, axis]) / float(size[sample, axis]) - 1.0
                    for values in (pixels, target)
                )
                factor = float(size[sample, axis]) / float(box[sample, 2])
                total, weight = total + confidence * (ours - theirs) ** 2 * factor, weight + confidence
    assert losses.full_image_loss(pixels, target, box, size) == pytest.approx(total / weight, rel=1e-5)


def test_the_root_turns_joints_and_vertices_but_not_the_pose():
    estimate = truth()
    turned = estimate.rotations.clone()
    turned[:, 0] = turned[:, 0] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    found = terms(BATCH, estimate._replace(rotations=turned))
    assert found["pose"] < 1e-7 and found["joints_3d"] > 1e-3 and found["vertices"] > 1e-2


def test_joints_are_compared_as_the_body_stands_where_it_is_known_and_about_the_root_elsewhere():
    estimate = truth()._replace(betas=truth().betas + 1.0)
    joints = BODY.joints(estimate.rotations[:, 0], estimate.rotations[:, 1:], estimate.betas)
    true = BODY.joints(**BATCH["smpl"])
    measured = BATCH["keypoints_3d"].clone()
    measured[3, 5, 3], measured[7, 0, 3] = 0.0, 0.0  # both without a body: a joint, and the root
    total, count = 0.0, 0
    for i in range(8):
        if BATCH["has_smpl"][i]:
            total, count = total + float(F.mse_loss(joints[i], true[i], reduction="sum")), count + 51
        elif measured[i, 0, 3]:
            ours, theirs = joints[i] - joints[i, :1], measured[i, :, :3] - measured[i, :1, :3]
            valid = measured[i, :, 3] > 0
            total, count = total + float((ours - theirs)[valid].square().sum()), count + 3 * int(valid.sum())
    batch = {**BATCH, "keypoints_3d": measured}
    assert terms(batch, estimate)["joints_3d"] == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("key", ["keypoints_2d", "keypoints_3d"])
def test_permuted_joints_show(key):
    known = {**BATCH, "has_smpl": torch.zeros(8, dtype=torch.bool)}
    order = [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]  # the legs exchanged
    right = terms(known)
    wrong = terms({**known, key: BATCH[key][:, order]})
    name = key.replace("keypoints", "joints")
    assert right[name] < 1e-7 and wrong[name] > 1e-4


def test_hands_that_are_not_estimated_have_no_loss():
    estimate = truth()
    other = estimate.rotations.clone()
    other[:, 22:] = torch.eye(3)
    assert terms(BATCH, estimate._replace(rotations=other))["pose"] > 1e-4
    assert terms(BATCH, estimate._replace(rotations=other), num_rotations=22)["pose"] < 1e-7


def test_values_of_unlabelled_rows_reach_neither_losses_nor_gradients():
    batch = {key: BATCH[key].clone() for key in ("keypoints_3d", "keypoints_2d", "box", "has_smpl")}
    batch["smpl"] = {key: value.clone() for key, value in BATCH["smpl"].items()}
    unknown = ~batch["has_smpl"]
    for values in batch["smpl"].values():
        values[unknown] = float("nan")
    betas = (BATCH["smpl"]["betas"] + 0.5).requires_grad_()
    found = terms(batch, truth()._replace(betas=betas))
    sum(found.values()).backward()
    assert all(value.isfinite() for value in found.values()) and betas.grad.isfinite().all()
