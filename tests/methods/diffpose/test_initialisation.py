import pytest
import torch

from methods.diffpose import initialisation
from noise2pose.keypoints.heatmaps import detection_heatmaps
from tests.tiny import TinyPoses


def test_depths_from_a_histogram_have_the_distribution_of_the_training_poses():
    generator = torch.Generator().manual_seed(0)
    depths = torch.stack(
        (0.3 * torch.randn(5000, generator=generator), 0.5 + 0.1 * torch.rand(5000, generator=generator)), dim=1
    )
    histogram = initialisation.empty_histogram(2)
    valid = torch.ones_like(depths)
    for part in range(0, 5000, 1000):
        initialisation.count_depths(histogram, depths[part : part + 1000], valid[part : part + 1000])
    assert histogram.sum() == 10_000
    drawn = initialisation.histogram_depths(histogram, torch.arange(50), 200)
    assert drawn.shape == (50, 200, 2)
    assert torch.allclose(drawn.mean(dim=(0, 1)), depths.mean(dim=0), atol=0.02)
    assert torch.allclose(drawn.std(dim=(0, 1)), depths.std(dim=0), atol=0.02)
    assert drawn[..., 1].min() > 0.4 and drawn[..., 1].max() < 0.7
    alone = initialisation.histogram_depths(histogram, torch.tensor([7]), 200)
    assert torch.equal(alone[0], drawn[7])


def test_joints_that_are_not_valid_are_not_counted():
    histogram = initialisation.empty_histogram(1)
    initialisation.count_depths(histogram, torch.tensor([[0.1], [0.2]]), torch.tensor([[1.0], [0.0]]))
    assert histogram.sum() == 1


def test_an_empty_histogram_gives_depths_in_its_range():
    drawn = initialisation.histogram_depths(initialisation.empty_histogram(3), torch.arange(4), 100)
    assert drawn.abs().max() <= 1.5 and drawn.std() > 0.5


def test_heatmaps_take_the_place_of_the_confidence():
    batch = TinyPoses().load("val")
    pixels = batch["keypoints_2d"][..., :2]
    number = len(pixels)
    box = torch.tensor([500.0, 500.0, 900.0]).expand(number, 3)
    wrong = pixels.clone()
    wrong[:, 5] += 150.0
    detections = torch.cat((wrong, torch.full_like(pixels[..., :1], 0.6)), dim=-1)
    alone = torch.arange(17)  # no joint is taken for another
    batch["heatmaps"] = detection_heatmaps(detections, pixels, box, (64, 64), sigma=1.0, partners=alone)
    batch["box"] = box
    drawn = initialisation.sample_boxes(batch["heatmaps"], box, torch.arange(number), 500)
    cell = 900.0 / 64
    others = [joint for joint in range(17) if joint != 5]
    assert (drawn.mean(dim=1) - pixels)[:, others].abs().max() < 0.3 * cell
    near_truth = (drawn[:, :, 5] - pixels[:, None, 5]).norm(dim=-1) < 5 * cell
    assert near_truth.float().mean().item() == pytest.approx(
        1 / 6, abs=0.02
    )  # the peak that the detector did not report

    pose = batch["keypoints_3d"][..., :3] - batch["keypoints_3d"][:, :1, :3]
    keys = torch.arange(number)
    depths = initialisation.encoder_depths(pose, torch.full((17,), 0.05), keys, 100)
    samples = initialisation.sample_uncertain_poses(batch, pose, depths, keys, root=0)
    assert samples.shape == (number, 100, 17, 3) and samples.isfinite().all()
    spread = samples.std(dim=1)[..., :2].mean(dim=(0, 2))
    assert spread[5] > 3 * spread[others].mean()
