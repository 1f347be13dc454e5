"""A velocity network without a graph: all joints of a pose side by side in one vector (Martinez et al., ICCV 2017).

It is not the authors'. It trains many times as fast on a CPU, which pays where motion is seen by ever new cameras.

Shape letters: B batch, J joints, C channels of the 2-D input, W width per joint, H = J W, E features of the time.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.fmpose.networks import TIME_WIDTH, TimeEmbedding


class ResidualBlock(nn.Module):
    """x + A(gelu(B(norm(x)) + time)): pre-norm, two layers of the same size.

    Args:
        channels: H of input and output.
        dropout: between the layers.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, channels)
        self.linear2 = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.time = nn.Linear(TIME_WIDTH, channels)

    def forward(self, x: Float[Tensor, "B H"], embedding: Float[Tensor, "#B E"]) -> Float[Tensor, "B H"]:
        hidden = self.linear1(self.norm(x)) + self.time(embedding)
        return x + self.linear2(self.dropout(F.gelu(hidden)))


class ResidualVelocity(nn.Module):
    """Velocity of a noisy pose at a flow time, given the 2-D joints; the interface is that of `VelocityNetwork`.

    Args:
        num_joints: J.
        width: W; the hidden vector has J W channels.
        num_blocks: of two layers each.
        in_channels: C of the 2-D joints.
        dropout: between the layers of a block.
    """

    def __init__(self, num_joints: int, width: int, num_blocks: int, in_channels: int, dropout: float) -> None:
        super().__init__()
        channels = num_joints * width
        self.time_embedding = TimeEmbedding()
        self.joints = nn.Linear(num_joints * in_channels, channels)
        self.pose = nn.Linear(num_joints * 3, channels, bias=False)
        self.blocks = nn.ModuleList(ResidualBlock(channels, dropout) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(channels)
        self.output = nn.Linear(channels, num_joints * 3)
        # How much of the pose the velocity undoes at each time: the norms hide how far a pose is off.
        self.skip = nn.Linear(TIME_WIDTH, num_joints * 3)
        nn.init.zeros_(self.skip.weight)
        nn.init.zeros_(self.skip.bias)

    def condition(self, pose_2d: Float[Tensor, "B J C"]) -> Float[Tensor, "B J W"]:
        """What the 2-D joints add to the first layer."""
        return self.joints(pose_2d.flatten(1)).unflatten(-1, (pose_2d.shape[1], -1))

    def velocity(
        self, condition: Float[Tensor, "B J W"], pose: Float[Tensor, "B J 3"], time: Float[Tensor, "#B"]
    ) -> Float[Tensor, "B J 3"]:
        """The velocity from the `condition`; one time for all poses, or one for each."""
        embedding = self.time_embedding(time)
        hidden = condition.flatten(1) + self.pose(pose.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, embedding)
        return (self.output(self.norm(hidden)) + self.skip(embedding) * pose.flatten(1)).view(pose.shape)

    def forward(
        self, pose_2d: Float[Tensor, "B J C"], pose: Float[Tensor, "B J 3"], time: Float[Tensor, " B"]
    ) -> Float[Tensor, "B J 3"]:
        """Velocity of each joint; arguments as of `VelocityNetwork.forward`."""
        return self.velocity(self.condition(pose_2d), pose, time)
