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


def test_each_joint_comes_from_the_hypothesis_that_projects_closest():
    keypoints, truth, drawn, focal, centre = scene()
    place = TinyPoses().load("val")["keypoints_3d"][:, 0, :3]
    pixels = keypoints[..., :2]
    chosen = hypotheses.closest_by_reprojection(drawn, pixels, place, focal, centre)
    for sample in range(32):
        projected = cameras.project(drawn[:, sample] + place[sample], focal[sample], centre[sample])
        for joint in range(17):
            best = (projected[:, joint] - pixels[sample, joint]).norm(dim=-1).argmin()
            assert torch.equal(chosen[sample, joint], drawn[best, sample, joint])
    with_truth = torch.cat((drawn, truth[None]))
    assert torch.equal(hypotheses.closest_by_reprojection(with_truth, pixels, place, focal, centre), truth)


def test_each_joint_comes_from_the_hypothesis_in_which_it_is_best():
    _, truth, drawn, _, _ = scene()
    drawn, valid = drawn + torch.randn(5, 1, 1, 3), torch.ones(32, 17)
    valid[:, 4] = 0.0
    target = truth + 2.0
    target[:, 4] = torch.nan
    chosen = hypotheses.best_joints_of(drawn, target, valid, root=0)
    relative = drawn - drawn[:, :, :1]
    errors = (relative - truth).norm(dim=-1)
    assert torch.allclose((chosen - truth).norm(dim=-1)[valid > 0], errors.amin(dim=0)[valid > 0], atol=1e-6)
    assert torch.equal(chosen[:, 4], relative[0, :, 4])
    whole = hypotheses.best_of(drawn, target, valid, root=0)
    whole = whole - whole[:, :1]
    assert ((chosen - truth).norm(dim=-1) <= (whole - truth).norm(dim=-1) + 1e-6)[valid > 0].all()
    clips = drawn.unflatten(1, (8, 4)), target.unflatten(0, (8, 4)), valid.unflatten(0, (8, 4))
    assert torch.equal(hypotheses.best_joints_of(*clips).flatten(0, 1), chosen)
