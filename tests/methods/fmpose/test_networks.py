import pytest
import torch

from methods.fmpose.networks import JointNorm, VelocityNetwork, adjacency
from methods.fmpose.residual import ResidualVelocity
from noise2pose import skeletons
from noise2pose.errors import InputError
from tests.parity.tolerances import assert_close

H36M = skeletons.get("h36m_17")


@pytest.mark.parametrize("name", ["h36m_17", "smpl_24", "coco_17", "lsp_14"])
def test_every_joint_receives_weights_that_sum_to_one(name):
    skeleton = skeletons.get(name)
    matrices = adjacency(skeleton)
    assert torch.allclose(matrices.sum(dim=(0, 1)), torch.ones(skeleton.num_joints))
    outward, inward = (matrix > 0 for matrix in matrices[1:3])
    assert torch.equal(outward, inward.T)  # each edge in both directions
    assert int(outward.sum()) == len(skeleton.edges)


def test_the_norm_is_layer_norm_over_the_joints():
    torch.manual_seed(0)
    ours, theirs = JointNorm(17), torch.nn.LayerNorm(17, eps=1e-6)
    torch.nn.init.normal_(theirs.weight), torch.nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 17, 8)
    assert_close(ours(x), theirs(x.transpose(1, 2)).transpose(1, 2))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["graph", "residual"])
def test_one_time_for_all_poses_is_the_same_as_that_time_for_each(kind):
    torch.manual_seed(0)
    if kind == "graph":
        network = VelocityNetwork(H36M, 16, 2, 2, 32, in_channels=3).eval()
    else:
        network = ResidualVelocity(17, 16, 2, 3, 0.1).eval()
    pose_2d, pose = torch.randn(4, 17, 3), torch.randn(4, 17, 3)
    together = network.velocity(network.condition(pose_2d), pose, torch.tensor([0.3]))
    assert_close(together, network(pose_2d, pose, torch.full((4,), 0.3)))
    assert not torch.allclose(together, network(pose_2d, pose, torch.full((4,), 0.6)))


def test_in_training_parts_are_dropped():
    torch.manual_seed(0)
    network = VelocityNetwork(H36M, 16, 3, 2, 32)
    inputs = torch.randn(4, 17, 2), torch.randn(4, 17, 3), torch.rand(4)
    assert not torch.equal(network(*inputs), network(*inputs))
    network.eval()
    assert torch.equal(network(*inputs), network(*inputs))


def test_the_width_must_fit_the_heads():
    with pytest.raises(InputError, match="width 16 is not a multiple of num_heads 3"):
        VelocityNetwork(H36M, 16, 1, 3, 32)
