"""FMPose3D's velocity network and sampling written as their description reads: the slow reference beside `flow.euler`.

Nothing is merged or kept: every call embeds the time for each joint and concatenates it with the 2-D joints and the
pose, graph convolutions turn their input over for a convolution of one tap and sum over matrices and joints, and
hypotheses are sampled one after the other, as the released evaluation does it. Dropout is left out. Parameters carry
the official names, so a published state dict loads with `load_state_dict`.

For tests and `scripts/benchmark.py` only.

Shape letters: B batch, N hypotheses, J joints, W width, K adjacency matrices, E features of the time.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_TIME_WIDTH = 32


class TextbookVelocity(nn.Module):
    """The released network.

    Args:
        matrices: (K, J, J) fixed adjacency.
        width: W of the blocks.
        num_blocks: of graph convolution and attention.
        num_heads: of the attention; it divides the width.
        hidden: units of the two-layer nets.
    """

    def __init__(
        self,
        matrices: Float[Tensor, "K J J"],
        width: int = 512,
        num_blocks: int = 5,
        num_heads: int = 8,
        hidden: int = 1024,
    ) -> None:
        super().__init__()
        self.time_embed = _TimeEmbedding()
        self.encoder = _TwoLayerNet(5 + _TIME_WIDTH, width // 2, width)
        blocks = nn.ModuleList(_Block(matrices, width, num_heads, hidden) for _ in range(num_blocks))
        self.FMPose3D = nn.ModuleDict({"blocks": blocks, "norm_mu": nn.LayerNorm(width, eps=1e-6)})
        self.pred_mu = _TwoLayerNet(width, width // 2, 3)

    def forward(
        self, pose_2d: Float[Tensor, "B J 2"], pose: Float[Tensor, "B J 3"], time: Float[Tensor, " B"]
    ) -> Float[Tensor, "B J 3"]:
        """Velocity of each joint at a flow time."""
        embedding = self.time_embed(time)[:, None].repeat(1, pose.shape[1], 1)
        x = self.encoder(torch.cat((pose_2d, pose, embedding), dim=-1))
        for block in self.FMPose3D["blocks"].children():
            x = block(x)
        return self.pred_mu(self.FMPose3D["norm_mu"](x))

    def sample(
        self, pose_2d: Float[Tensor, "B J 2"], noise: Float[Tensor, "N B J 3"], steps: int
    ) -> Float[Tensor, "N B J 3"]:
        """Euler's method, one hypothesis after the other."""
        poses = []
        for pose in noise:
            for step in range(steps):
                time = torch.full((len(pose),), step / steps)
                pose = pose + self(pose_2d, pose, time) / steps
            poses.append(pose)
        return torch.stack(poses)


class _TimeEmbedding(nn.Module):
    """Random Fourier features and a two-layer net."""

    B: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("B", torch.randn(_TIME_WIDTH // 2))
        self.proj = nn.Sequential(
            nn.Linear(_TIME_WIDTH, 2 * _TIME_WIDTH), nn.GELU(), nn.Linear(2 * _TIME_WIDTH, _TIME_WIDTH)
        )

    def forward(self, time: Float[Tensor, " B"]) -> Float[Tensor, "B E"]:
        angles = 2.0 * math.pi * time[:, None] * self.B
        return self.proj(torch.cat((torch.sin(angles), torch.cos(angles)), dim=-1))


class _TwoLayerNet(nn.Module):
    def __init__(self, channels: int, hidden: int, out_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _GraphConvolution(nn.Module):
    """One convolution of one tap for all matrices, then the sum over matrices and joints."""

    matrices: Tensor

    def __init__(self, matrices: Float[Tensor, "K J J"], width: int) -> None:
        super().__init__()
        self.conv1d = nn.Conv1d(width, len(matrices) * width, kernel_size=1)
        self.register_buffer("matrices", matrices, persistent=False)

    def forward(self, x: Float[Tensor, "B J W"]) -> Float[Tensor, "B J W"]:
        terms = self.conv1d(x.transpose(1, 2)).unflatten(1, (len(self.matrices), -1))
        return torch.einsum("bkcv,kvw->bwc", terms, self.matrices).contiguous()


class _Attention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B J W"]) -> Float[Tensor, "B J W"]:
        batch, joints, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, joints, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (width // self.num_heads) ** -0.5
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, joints, width))


class _Block(nn.Module):
    def __init__(self, matrices: Float[Tensor, "K J J"], width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(matrices.shape[-1], eps=1e-6)
        self.gcn1 = _GraphConvolution(matrices, width)
        self.norm_att1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, num_heads)
        self.norm_mlp = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _TwoLayerNet(width, hidden, width)

    def forward(self, x: Float[Tensor, "B J W"]) -> Float[Tensor, "B J W"]:
        graph = self.gcn1(self.norm1(x.transpose(1, 2)).transpose(1, 2))
        x = x + graph + self.attn(self.norm_att1(x))
        return x + self.mlp(self.norm_mlp(x))
