import pytest
import torch

from methods.fmpose import flow
from methods.fmpose.flow import UncertainStart, euler, flow_loss
from methods.fmpose.networks import VelocityNetwork
from noise2pose import skeletons
from tests.parity.tolerances import assert_close
from tests.tiny import TinyPoses

H36M = skeletons.get("h36m_17")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return VelocityNetwork(H36M, 16, 1, 2, 32).eval()


@torch.no_grad()
def test_hypotheses_in_parts_are_those_of_one_call_after_the_other(network, monkeypatch):
    pose_2d, noise = torch.randn(5, 17, 2), torch.randn(3, 5, 17, 3)
    monkeypatch.setitem(flow._POSES_AT_ONCE, "cpu", 4)  # parts that end within a hypothesis
    poses = euler(network, pose_2d, noise, 2)
    for hypothesis, start in zip(poses, noise, strict=True):
        half = start + network(pose_2d, start, torch.zeros(5)) / 2
        assert_close(hypothesis, half + network(pose_2d, half, torch.full((5,), 0.5)) / 2)


class Straight:
    """A network whose velocity leads from any point of the path to `pose`."""

    def __init__(self, pose):
        self.pose = pose

    def condition(self, pose_2d):
        return pose_2d

    def velocity(self, condition, pose, time):
        return (self.pose - pose) / (1.0 - time)[:, None, None]

    def __call__(self, pose_2d, pose, time):
        return self.velocity(pose_2d, pose, time)


def test_the_true_velocity_has_no_loss_and_reaches_the_pose():
    pose, start, time = torch.randn(6, 17, 3), torch.randn(6, 17, 3), 0.9 * torch.rand(6)
    network = Straight(pose)
    assert flow_loss(network, pose[..., :2], start, pose, time, torch.ones(6, 17)) < 1e-8
    assert_close(euler(network, pose[..., :2], start, 4), pose)


def test_joints_without_ground_truth_do_not_count():
    pose, start = torch.zeros(2, 17, 3), torch.zeros(2, 17, 3)
    pose[1, 4] = 100.0
    valid = torch.ones(2, 17)
    network = Straight(torch.ones(2, 17, 3))
    time = torch.zeros(2)
    assert flow_loss(network, pose[..., :2], start, pose, time, valid) > 100.0
    valid[1, 4] = 0.0
    assert flow_loss(network, pose[..., :2], start, pose, time, valid) == pytest.approx(1.0)


def test_the_uncertain_start_learns_the_size_and_the_spread_of_poses():
    batch = TinyPoses(num_samples=512).load("train")
    keypoints, truth = batch["keypoints_2d"], batch["keypoints_3d"]
    pose = truth[..., :3] - truth[:, :1, :3]
    start = UncertainStart(H36M, limbs_only=False)
    for _ in range(1000):
        start.observe(keypoints, pose, truth[..., 3])
    torch.manual_seed(0)
    drawn = start(keypoints, torch.randn(200, 512, 17, 3))
    # As laid out, poses fit their image; as spread, they contain the true poses about as often as a Gaussian does.
    assert (drawn.mean(dim=0)[..., :2] - pose[..., :2]).norm(dim=-1).mean() < 0.12
    assert drawn.mean(dim=0)[..., 2].abs().mean() < 0.02
    inside = (pose - drawn.mean(dim=0)).abs() < start.spread
    assert inside[:, 1:].float().mean().item() == pytest.approx(0.68, abs=0.1)
    assert (drawn[..., 0, :].abs() < 0.01).all()
    # Neither where the person stands nor how large the image is matters.
    elsewhere = torch.cat((3.0 * keypoints[..., :2] + 50.0, keypoints[..., 2:]), dim=-1)
    noise = torch.randn(512, 17, 3)
    assert torch.allclose(start(elsewhere, noise), start(keypoints, noise), atol=1e-4)


def test_with_limbs_only_other_and_hidden_joints_start_around_the_root():
    keypoints = TinyPoses().load("val")["keypoints_2d"].clone()
    keypoints[0, 3, 2] = 0.0
    start = UncertainStart(H36M, limbs_only=True)
    begin = start(keypoints, torch.zeros(32, 17, 3))
    assert (begin[:, [0, 7, 8, 9, 10]] == 0.0).all() and (begin[0, 3] == 0.0).all() and (begin[1, 3, :2] != 0.0).all()
    moved = keypoints.clone()
    moved[:, [7, 8, 9, 10], :2] += 77.0
    moved[0, 3, :2] -= 99.0
    assert torch.equal(start(moved, torch.zeros(32, 17, 3)), begin)
    keypoints[..., 2] = 0.0
    assert start(keypoints, torch.zeros(32, 17, 3)).isfinite().all()
