"""What mesh methods read from a batch, and means over what is known."""

import pytest
import torch
import torch.nn.functional as F

from datamodules.base import select
from methods.mesh_batches import (
    NEAREST,
    box_of,
    camera_of,
    image_of,
    masked_loss,
    masked_mean,
    project_to_image,
    vary_colours,
)
from noise2pose import cameras
from noise2pose.errors import InputError
from tests.tiny import TinyPeople


def test_unknown_cameras_have_the_diagonal_of_the_image():
    camera = {"image_size": torch.tensor([[300.0, 400.0]])}
    focal, centre = camera_of({"camera": camera})
    assert focal.tolist() == [[500.0, 500.0]] and centre.tolist() == [[150.0, 200.0]]
    focal, centre = camera_of({"camera": {"principal_point": centre}})
    assert focal.tolist() == [[500.0, 500.0]] and centre.tolist() == [[150.0, 200.0]]
    focal, _ = camera_of({"camera": camera | {"focal": torch.tensor([[7.0, 8.0]])}})
    assert focal.tolist() == [[7.0, 8.0]]
    for batch in ({}, {"camera": {"focal": focal}}):
        with pytest.raises(InputError, match="neither principal_point nor image_size"):
            camera_of(batch)


def test_projection_is_the_kits_and_points_behind_the_camera_come_before_it():
    batch = select(TinyPeople(image_size=1).load("val"), torch.arange(4))
    joints, camera = batch["keypoints_3d"][..., :3], camera_of(batch)
    assert torch.equal(project_to_image(joints, camera), cameras.project(joints, *camera))
    behind, before = joints * torch.tensor([1.0, 1.0, -1.0]), joints.clone()
    before[..., 2] = NEAREST
    assert torch.equal(project_to_image(behind, camera), project_to_image(before, camera))


def test_data_without_boxes_or_images():
    batch = TinyPeople(image_size=1).load("val")
    box = batch.pop("box")
    assert torch.allclose(box_of(batch), box, atol=1e-3)  # TinyPeople's boxes are made the same way
    assert image_of(batch, "X") is batch["image"]
    with pytest.raises(InputError, match="X takes images and this data has none: set data.images to true, or"):
        image_of({}, "X")


def test_colours_vary_by_channel_and_within_the_amount():
    image = torch.full((32, 3, 4, 4), 0.5)
    noisy = vary_colours(image, 0.4)
    assert noisy.min() >= 0.3 - 1e-6 and noisy.max() <= 0.7 + 1e-6
    assert torch.equal(noisy[..., 0, 0], noisy[..., 3, 3]) and noisy[0, 0, 0, 0] != noisy[0, 1, 0, 0]


def test_values_without_a_weight_reach_neither_a_mean_nor_its_gradient():
    values = torch.tensor([[1.0, 3.0], [float("nan"), float("inf")]], requires_grad=True)
    mean = masked_mean(values, torch.tensor([1.0, 0.0]))
    mean.backward()
    assert mean == 2.0 and torch.equal(values.grad, torch.tensor([[0.5, 0.5], [0.0, 0.0]]))
    assert masked_mean(values, torch.zeros(2)) == 0.0


@pytest.mark.parametrize("loss", [F.l1_loss, F.mse_loss, F.smooth_l1_loss])
@pytest.mark.parametrize("weights", [torch.tensor([0.5, 0.0, 1.0]), torch.tensor([True, False, True])])
def test_targets_without_a_weight_reach_neither_a_loss_nor_its_gradient(loss, weights):
    estimate = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = torch.zeros(3, 4, 2)
    target[1] = float("nan")
    found = masked_loss(loss, estimate, target, weights)
    first, last = (loss(estimate[row], target[row]) for row in (0, 2))
    expected = (weights[0] * first + weights[2] * last) / weights.sum()
    assert torch.allclose(found, expected)
    ours, theirs = (torch.autograd.grad(value, estimate)[0] for value in (found, expected))
    assert torch.allclose(ours, theirs) and not ours[1].any()
