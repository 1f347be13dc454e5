"""Agreement with 2-D keypoints against the obvious computation, and what must not matter."""

import roma
import torch

from methods.diffannot.reprojection import Keypoints
from methods.diffannot.states import STATE_SIZE, to_smpl, to_state
from tests.tiny import TinyPeople


def keypoints_and_joints():
    batch = TinyPeople().load("val")
    return Keypoints.of(batch), batch["keypoints_3d"][..., :3], batch


def test_the_truth_fits_wherever_it_is_moved():
    keypoints, joints, _ = keypoints_and_joints()
    moved = joints - joints[:, :1]
    assert keypoints.distance(keypoints.project(moved)).max() < 0.05
    assert torch.allclose(keypoints.fit(moved), joints[:, 0], atol=1e-3)


def test_distance_is_the_mean_over_what_is_seen():
    keypoints, joints, _ = keypoints_and_joints()
    confidence = torch.rand(keypoints.confidence.shape, generator=torch.Generator().manual_seed(0))
    confidence[:, 3] = 0.0
    keypoints = keypoints._replace(confidence=confidence)
    pixels = keypoints.points + torch.randn(keypoints.points.shape, generator=torch.Generator().manual_seed(1))
    expected = []
    for sample in range(len(joints)):
        total = weight = 0.0
        for joint in range(17):
            error = float((pixels[sample, joint] - keypoints.points[sample, joint]).norm())
            total += float(confidence[sample, joint]) * error
            weight += float(confidence[sample, joint])
        expected.append(total / weight)
    assert torch.allclose(keypoints.distance(pixels), torch.tensor(expected), atol=1e-5)
    pixels[:, 3] = 1e6
    assert torch.allclose(keypoints.distance(pixels), torch.tensor(expected), atol=1e-5)
    assert (keypoints._replace(confidence=torch.zeros_like(confidence)).distance(pixels) == 0).all()


def test_the_robust_error_is_the_square_when_small_and_bounded_when_large():
    keypoints, _, _ = keypoints_and_joints()
    size, scale = keypoints.size[:, None], 0.1
    near = keypoints.points + torch.stack((0.001 * size, 0 * size), dim=-1)
    far = keypoints.points + torch.stack((100.0 * size, 0 * size), dim=-1)
    assert torch.allclose(keypoints.robust(near, scale), torch.full((32,), 1e-4), rtol=2e-3)
    assert torch.allclose(keypoints.robust(far, scale), torch.ones(32), atol=1e-4)


def test_joints_that_are_not_certain_pull_less_and_unseen_ones_not_at_all():
    keypoints, _, _ = keypoints_and_joints()
    confidence = torch.tensor([1.0, 0.99, 0.9, 0.0]).repeat(5)[:17].expand(len(keypoints.points), -1)
    pixels = keypoints.points + torch.tensor([3.0, 4.0])
    error = 25.0 / keypoints.size**2
    error = error / (error + 0.1**2)
    seen, counted = 13.0, 5 * 1.0 + 4 * 0.5 + 4 / 101.0
    robust = keypoints._replace(confidence=confidence).robust(pixels, 0.1, doubt=100.0)
    assert torch.allclose(robust, error * counted / seen, rtol=1e-3)
    certain = keypoints._replace(confidence=(confidence > 0).float())
    assert torch.allclose(certain.robust(pixels, 0.1, doubt=100.0), certain.robust(pixels, 0.1))
    assert (keypoints._replace(confidence=0.0 * confidence).robust(pixels, 0.1, doubt=100.0) == 0).all()


def test_states_hold_what_bodies_are_made_of():
    _, _, batch = keypoints_and_joints()
    state = to_state(batch["smpl"])
    assert state.shape == (32, STATE_SIZE)
    assert torch.equal(state[:, :9], batch["smpl"]["global_orient"].flatten(1))  # row by row, the root's first
    for project in (True, False):
        again = to_smpl(state, project)
        assert all(torch.allclose(again[key], batch["smpl"][key], atol=1e-5) for key in batch["smpl"])
    noisy = to_smpl(state + 0.2 * torch.randn(state.shape, generator=torch.Generator().manual_seed(0)))
    identity = noisy["body_pose"].mT @ noisy["body_pose"]
    assert torch.allclose(identity, torch.eye(3).expand_as(identity), atol=1e-5)
    assert torch.allclose(torch.linalg.det(noisy["global_orient"]), torch.ones(32), atol=1e-5)
    assert noisy["betas"].abs().max() > 1.0  # shape coefficients are never clipped
    assert roma.rotmat_geodesic_distance(noisy["body_pose"], batch["smpl"]["body_pose"]).mean() < 0.5
