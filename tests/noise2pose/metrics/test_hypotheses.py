import torch

from noise2pose import cameras
from noise2pose.metrics import hypotheses
from tests.tiny import TinyPoses


def scene(number=5):
    batch = TinyPoses().load("val")
    truth = batch["keypoints_3d"][..., :3]
    truth = truth - truth[:, :1]
    noise = 0.05 * torch.randn(number, *truth.shape, generator=torch.Generator().manual_seed(0))
    noise[:, :, 0] = 0.0
    camera = batch["camera"]
    return batch["keypoints_2d"], truth, truth + noise, camera["focal"], camera["principal_point"]


def test_hypotheses_that_project_on_the_detection_count_more():
    keypoints, truth, drawn, focal, centre = scene()
    drawn = truth + (drawn - truth) * torch.tensor([0.2, 0.2, 3.0, 3.0, 3.0]).view(5, 1, 1, 1)
    blur = torch.full(truth.shape[:-1], 3.0)
    weighted = hypotheses.average_by_reprojection(drawn, keypoints, focal, centre, blur)
    sideways = (..., slice(None, 2))
    error = (weighted - truth)[sideways].norm(dim=-1).mean()
    assert error < 0.5 * (drawn.mean(dim=0) - truth)[sideways].norm(dim=-1).mean()
    with_truth = torch.cat((drawn, truth[None]))
    weighted = hypotheses.average_by_reprojection(with_truth, keypoints, focal, centre, torch.full_like(blur, 0.5))
    assert (weighted - truth)[sideways].norm(dim=-1).mean() < 0.5 * error


def test_a_wide_blur_is_the_plain_mean():
    keypoints, _, drawn, focal, centre = scene()
    weighted = hypotheses.average_by_reprojection(drawn, keypoints, focal, centre, torch.full((32, 17), 1e6))
    assert torch.allclose(weighted, drawn.mean(dim=0), atol=1e-5)


def test_a_detection_without_confidence_and_a_pose_behind_the_camera_stay_finite():
    keypoints, _, drawn, focal, centre = scene()
    keypoints = keypoints.clone()
    keypoints[0, :, 2] = 0.0
    keypoints[1, :, :2] = 500.0  # all at one point: infinitely far away
    weighted = hypotheses.average_by_reprojection(drawn, keypoints, focal, centre, torch.full((32, 17), 5.0))
    assert weighted.isfinite().all()


def test_translation_puts_points_on_their_pixels():
    batch = TinyPoses().load("val")
    truth, camera = batch["keypoints_3d"][..., :3], batch["camera"]
    fitted = cameras.fit_translation(
        truth - truth[:, :1], batch["keypoints_2d"][..., :2], batch["keypoints_2d"][..., 2], camera["focal"],
        camera["principal_point"],
    )  # fmt: skip
    assert torch.allclose(fitted, truth[:, 0], atol=1e-3)


def test_spread_is_the_deviation_of_the_position():
    drawn = torch.randn(4000, 3, 17, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 0.2, 0.2])
    assert torch.allclose(hypotheses.spread(drawn), torch.full((3, 17), 0.3), rtol=0.05)
