"""The velocity network of FMPose3D: graph convolution and attention over the joints side by side, then an MLP.

The layers follow the published network in every detail that matters to its weights; `official.py` renames them.

Shape letters: B batch, J joints, C channels of the 2-D input, W width, H hidden units of the input, E features of the
time, K adjacency matrices.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from noise2pose.errors import InputError
from noise2pose.skeletons import Skeleton

NUM_KINDS = 4  # of edges: to itself, from the joints farther out, from the joint nearer to the centre, mirror pairs
TIME_WIDTH = 32  # features of the flow time; half of them sines, half cosines


def adjacency(skeleton: Skeleton) -> Float[Tensor, "K J J"]:
    """The four fixed adjacency matrices: [k, v, w] is the weight of joint v in the sum at joint w.

    Each joint receives itself, its neighbours that are farther from the centre of the body than it, those that are
    nearer, and its mirror image. The centre is the spine where the skeleton has one, else the root. Over all kinds, the
    weights that a joint receives sum to one.
    """
    joints = skeleton.num_joints
    centre = skeleton.index("spine") if "spine" in skeleton.joints else skeleton.root
    neighbours: list[set[int]] = [set() for _ in range(joints)]
    for parent, child in skeleton.edges:
        neighbours[parent].add(child)
        neighbours[child].add(parent)
    matrices = torch.zeros(NUM_KINDS, joints, joints)
    matrices[0] = torch.eye(joints)
    reached: set[int] = set()
    for start in (centre, *range(joints)):  # the others only where the skeleton has several parts
        frontier = {start} - reached
        while frontier:
            reached |= frontier
            outward = [(near, far) for near in frontier for far in neighbours[near] - reached]
            for near, far in outward:
                matrices[1, far, near] = matrices[2, near, far] = 1.0
            frontier = {far for _, far in outward}
    for left, right in skeleton.pairs:
        matrices[3, left, right] = matrices[3, right, left] = 1.0
    return matrices / matrices.sum(dim=(0, 1))


class TimeEmbedding(nn.Module):
    """Random Fourier features of the flow time, refined by a two-layer net (Tancik et al., NeurIPS 2020)."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Drawn once and kept with the weights.
        self.register_buffer("frequencies", torch.randn(TIME_WIDTH // 2))
        self.expand = nn.Linear(TIME_WIDTH, 2 * TIME_WIDTH)
        self.contract = nn.Linear(2 * TIME_WIDTH, TIME_WIDTH)

    def forward(self, time: Float[Tensor, " B"]) -> Float[Tensor, "B E"]:
        angles = 2.0 * math.pi * time[:, None] * self.frequencies
        return self.contract(F.gelu(self.expand(torch.cat((angles.sin(), angles.cos()), dim=-1))))


class JointNorm(nn.Module):
    """Layer normalisation of each channel over the joints, with a gain and an offset per joint."""

    def __init__(self, num_joints: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_joints))
        self.bias = nn.Parameter(torch.zeros(num_joints))
        self.eps = eps

    def forward(self, x: Float[Tensor, "B J W"]) -> Float[Tensor, "B J W"]:
        # `nn.LayerNorm` would need the joints last, and the product after it is twice as slow on a transposed tensor.
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        normed = (x - mean) * (variance + self.eps).rsqrt()
        return torch.addcmul(self.bias[:, None], normed, self.weight[:, None])


class GraphConvolution(nn.Module):
    """y_w = sum_k sum_v A_k[v, w] W_k x_v; all W_k are one product, and all A_k are another."""

    mixing: Tensor

    def __init__(self, channels: int, matrices: Float[Tensor, "K J J"]) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, NUM_KINDS * channels)
        # Row w, column (v, k): weight of joint v's k-th term in the output of joint w.
        self.register_buffer("mixing", matrices.permute(2, 1, 0).flatten(1), persistent=False)

    def forward(self, x: Float[Tensor, "B J W"]) -> Float[Tensor, "B J W"]:
        batch, joints, channels = x.shape
        return self.mixing @ self.linear(x).view(batch, joints * NUM_KINDS, channels)


class Attention(nn.Module):
    """Multi-head self-attention over the joints."""

    def __init__(self, channels: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        if channels % num_heads:
            raise InputError(f"width {channels} is not a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "B J W"]) -> Float[Tensor, "B J W"]:
        q_k_v = self.query_key_value(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = q_k_v.unbind(0)  # each (B, heads, J, W / heads)
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.output(attended.transpose(1, 2).flatten(2))


class Rates(NamedTuple):
    """What is dropped in training."""

    dropout: float = 0.1  # of the two-layer net
    attention_dropout: float = 0.2  # of the attention's weights
    output_dropout: float = 0.25  # of the attention's output
    drop_path: float = 0.2  # of whole residual branches in the last block; it grows linearly from 0 in the first


PUBLISHED_RATES = Rates()


class Block(nn.Module):
    """x + graph convolution + attention, both of x; then a residual two-layer net.

    Args:
        width: W.
        num_heads: of the attention.
        hidden: units of the two-layer net.
        rates: of this block.
        matrices: (K, J, J) from `adjacency`.
    """

    def __init__(self, width: int, num_heads: int, hidden: int, rates: Rates, matrices: Float[Tensor, "K J J"]) -> None:
        super().__init__()
        self.graph_norm = JointNorm(matrices.shape[-1])
        self.graph = GraphConvolution(width, matrices)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, num_heads, rates.attention_dropout)
        self.output_dropout = nn.Dropout(rates.output_dropout)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(rates.dropout)
        self.drop_path = rates.drop_path

    def forward(self, x: Float[Tensor, "B J W"]) -> Float[Tensor, "B J W"]:
        attended = self.output_dropout(self.attention(self.norm1(x)))
        x = x + self._drop(self.graph(self.graph_norm(x)) + attended)
        hidden = self.dropout(F.gelu(self.expand(self.norm2(x))))
        return x + self._drop(self.dropout(self.contract(hidden)))

    def _drop(self, residual: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return residual
        keep = torch.rand(len(residual), 1, 1, device=residual.device) >= self.drop_path
        return residual * keep / (1.0 - self.drop_path)


class VelocityNetwork(nn.Module):
    """Velocity of a noisy pose at a flow time, given the 2-D joints.

    The first layer is a sum of products with the 2-D joints, the pose and the time. `euler` computes the first once for
    all steps and hypotheses (`condition`), and the last once for all joints.

    Args:
        skeleton: of the joints.
        width: W of the blocks (published: 512).
        num_blocks: 5 as published.
        num_heads: of the attention (published: 8).
        hidden: units of the two-layer nets (published: 1024).
        in_channels: C of the 2-D joints.
        rates: what is dropped in training.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        width: int = 512,
        num_blocks: int = 5,
        num_heads: int = 8,
        hidden: int = 1024,
        in_channels: int = 2,
        rates: Rates = PUBLISHED_RATES,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.hidden = hidden
        self.time_embedding = TimeEmbedding()
        self.input_expand = nn.Linear(in_channels + 3 + TIME_WIDTH, width // 2)
        self.input = nn.Linear(width // 2, width)
        matrices = adjacency(skeleton)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, hidden, rates._replace(drop_path=drop_path), matrices)
            for drop_path in torch.linspace(0.0, rates.drop_path, num_blocks).tolist()
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.output_contract = nn.Linear(width, width // 2)
        self.output = nn.Linear(width // 2, 3)

    def condition(self, pose_2d: Float[Tensor, "B J C"]) -> Float[Tensor, "B J H"]:
        """What the 2-D joints add to the first layer."""
        return F.linear(pose_2d, self.input_expand.weight[:, : self.in_channels], self.input_expand.bias)

    def velocity(
        self, condition: Float[Tensor, "B J H"], pose: Float[Tensor, "B J 3"], time: Float[Tensor, "#B"]
    ) -> Float[Tensor, "B J 3"]:
        """The velocity from the `condition`; one time for all poses, or one for each."""
        of_pose, of_time = self.input_expand.weight[:, self.in_channels :].split((3, TIME_WIDTH), dim=1)
        moment = F.linear(self.time_embedding(time), of_time)
        hidden = self.input(F.gelu(condition + F.linear(pose, of_pose) + moment[:, None]))
        for block in self.blocks:
            hidden = block(hidden)
        return self.output(F.gelu(self.output_contract(self.norm(hidden))))

    def forward(
        self, pose_2d: Float[Tensor, "B J C"], pose: Float[Tensor, "B J 3"], time: Float[Tensor, " B"]
    ) -> Float[Tensor, "B J 3"]:
        """Velocity of each joint.

        Args:
            pose_2d: the condition, screen coordinates as published.
            pose: point of the path at this time, metres.
            time: in [0, 1], from noise to pose.
        """
        return self.velocity(self.condition(pose_2d), pose, time)
