import pytest
import torch

from methods.fmpose import aggregation
from noise2pose.errors import InputError
from tests.tiny import TinyPoses


@pytest.fixture
def scene():
    """A batch, and four hypotheses: the true poses, and three that are off by ten centimetres."""
    batch = TinyPoses().load("val")
    truth = batch["keypoints_3d"][..., :3]
    pose = truth - truth[:, :1]
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(3, *pose.shape, generator=generator)
    return batch, pose, torch.cat((pose[None], pose + noise))


def test_the_true_pose_has_no_distance_at_the_true_or_the_fitted_root(scene):
    batch, pose, hypotheses = scene
    for root in (aggregation.true_root(batch, 0), aggregation.fitted_root(hypotheses, batch)):
        distance = aggregation.screen_distance(hypotheses, root, batch)
        assert distance[0].max() < 1e-4 and distance[1:].mean() > 0.01
    fitted = aggregation.fitted_root(pose[None], batch)[0]
    assert torch.allclose(fitted, batch["keypoints_3d"][:, 0, :3], atol=1e-2)


def test_the_mean_over_the_nearest_is_that_of_the_definition(scene):
    batch, _, hypotheses = scene
    distance = aggregation.screen_distance(hypotheses, aggregation.fitted_root(hypotheses, batch), batch)
    counted = torch.ones(len(distance[0]), 17, dtype=torch.bool)
    counted[:, 0] = False
    answer = aggregation.average_nearest(hypotheses, distance, counted, 2, 0.005)
    for sample, joint in ((0, 5), (3, 16), (7, 1)):
        order = distance[:, sample, joint].argsort()[:2]
        weights = (-distance[order, sample, joint] / 0.005).exp()
        expected = (weights[:, None] * hypotheses[order, sample, joint]).sum(dim=0) / weights.sum()
        assert torch.allclose(answer[sample, joint], expected, atol=1e-5)
    assert torch.allclose(answer[:, 0], hypotheses[:, :, 0].mean(dim=0), atol=1e-6)


def test_it_is_nearer_to_the_truth_than_the_mean(scene):
    batch, pose, hypotheses = scene
    distance = aggregation.screen_distance(hypotheses, aggregation.fitted_root(hypotheses, batch), batch)
    answer = aggregation.average_nearest(hypotheses, distance, torch.ones(1, 17, dtype=torch.bool), 8, 0.005)
    assert (answer - pose).norm(dim=-1).mean() < 0.5 * (hypotheses.mean(dim=0) - pose).norm(dim=-1).mean()


def test_a_hypothesis_behind_the_camera_is_far_from_its_detection(scene):
    batch, _, hypotheses = scene
    root = aggregation.true_root(batch, 0) * torch.tensor([1.0, 1.0, -1.0])
    distance = aggregation.screen_distance(hypotheses, root, batch)
    assert distance.isfinite().all() and distance[:, :, 1:].median() > 0.5


def test_the_true_root_needs_ground_truth():
    with pytest.raises(InputError, match="aggregation is oracle, which needs ground truth"):
        aggregation.true_root({}, 0)
