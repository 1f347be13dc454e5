"""The released noise predictor written as its description reads: the slow reference beside `denoisers.GraphDenoiser`.

Nothing is merged, cached or fused: every graph convolution computes its Chebyshev terms again, the learned adjacency is
normalised and copied for each pose of the batch, and the attention writes out its softmax over four separate linear
layers. Steps of the release that cannot change a number (an attention mask without zeros, a second ReLU) and dropout
are left out. Parameters carry the official names, so a published state dict loads with `load_state_dict`.

For tests and `scripts/benchmark.py` only.

Shape letters: B batch, J joints, C channels, E channels of the step embedding, W width.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

_NUM_TERMS = 3  # T_0, T_1 and T_2


class TextbookDenoiser(nn.Module):
    """GCNdiff, the released diffusion model g(h_k, k).

    Args:
        parents: parent index of each joint, -1 for the root.
        state_channels: C of the state per joint, in and out.
        width: W of the blocks, even and at least 4.
        num_blocks: of graph attention and convolution.
        num_heads: of the attention; it divides the width.
    """

    adjacency: Tensor

    def __init__(
        self,
        parents: tuple[int, ...],
        state_channels: int = 5,
        width: int = 96,
        num_blocks: int = 5,
        num_heads: int = 4,
    ) -> None:
        super().__init__()
        bones = torch.eye(len(parents))  # undirected, and each joint with itself
        for joint, parent in enumerate(parents):
            if parent >= 0:
                bones[joint, parent] = bones[parent, joint] = 1.0
        self.register_buffer("adjacency", torch.diag(1.0 / bones.sum(dim=1)) @ bones, persistent=False)
        self.temb = _StepEmbedding(width)
        self.gconv_input = _ChebyshevConvolution(state_channels, width)
        self.atten_layers = nn.ModuleList(_AttentionLayer(width, num_heads, len(parents)) for _ in range(num_blocks))
        self.gconv_layers = nn.ModuleList(_ResidualConvolution(width) for _ in range(num_blocks))
        self.gconv_output = _ChebyshevConvolution(width, state_channels)

    def forward(self, state: Float[Tensor, "B J C"], steps: Float[Tensor, " B"]) -> Float[Tensor, "B J C"]:
        """The scaled noise of the noisy state h_k at diffusion step k."""
        embedding = self.temb(steps)
        hidden = self.gconv_input(state, self.adjacency)
        for attention, convolution in zip(self.atten_layers, self.gconv_layers, strict=True):
            hidden = convolution(attention(hidden), embedding, self.adjacency)
        return self.gconv_output(hidden, self.adjacency)


class _ChebyshevConvolution(nn.Module):
    """y = sum_k T_k x W_k + b."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(_NUM_TERMS, 1, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(1, 1, out_channels))
        nn.init.xavier_normal_(self.weight)

    def forward(self, x: Float[Tensor, "B J C"], adjacency: Float[Tensor, "J J"]) -> Float[Tensor, "B J D"]:
        identity = torch.eye(len(adjacency), dtype=x.dtype, device=x.device)
        scale = torch.diag(adjacency.sum(dim=1).rsqrt())
        laplacian = identity - scale @ adjacency @ scale
        terms = torch.stack((identity, laplacian, 2.0 * laplacian @ laplacian - identity))
        return (terms[:, None] @ x @ self.weight).sum(dim=0) + self.bias


class _ResidualConvolution(nn.Module):
    """Two graph convolutions, each with a ReLU, beside the identity; the step embedding enters between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gconv1 = nn.ModuleDict({"gconv": _ChebyshevConvolution(width, width)})
        self.gconv2 = nn.ModuleDict({"gconv": _ChebyshevConvolution(width, width)})
        self.temb_proj = nn.Linear(4 * width, width)

    def forward(
        self, x: Float[Tensor, "B J W"], embedding: Float[Tensor, "B E"], adjacency: Float[Tensor, "J J"]
    ) -> Float[Tensor, "B J W"]:
        hidden = torch.relu(self.gconv1["gconv"](x, adjacency))
        hidden = hidden + self.temb_proj(_swish(embedding))[:, None, :]
        return x + torch.relu(self.gconv2["gconv"](hidden, adjacency))


class _AttentionLayer(nn.Module):
    """Self-attention, then the graph feed-forward net, each as a pre-norm sub-layer."""

    def __init__(self, width: int, num_heads: int, num_joints: int) -> None:
        super().__init__()
        self.self_attn = _MultiHeadAttention(width, num_heads)
        self.feed_forward = _GraphNet(width, num_joints)
        self.sublayer = nn.ModuleList(nn.ModuleDict({"norm": _LayerNorm(width)}) for _ in range(2))

    def forward(self, x: Float[Tensor, "B J W"]) -> Float[Tensor, "B J W"]:
        x = x + self.self_attn(self.sublayer.get_submodule("0.norm")(x))
        return x + self.feed_forward(self.sublayer.get_submodule("1.norm")(x))


class _LayerNorm(nn.Module):
    """Unbiased standard deviation, eps outside the root."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a_2 = nn.Parameter(torch.ones(width))
        self.b_2 = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "B J W"]) -> Float[Tensor, "B J W"]:
        mean = x.mean(dim=-1, keepdim=True)
        std = x.std(dim=-1, keepdim=True)
        return self.a_2 * (x - mean) / (std + 1e-6) + self.b_2


class _MultiHeadAttention(nn.Module):
    """softmax(Q K^T / sqrt(W / H)) V with H heads."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.linears = nn.ModuleList(nn.Linear(width, width) for _ in range(4))  # query, key, value, output

    def forward(self, x: Float[Tensor, "B J W"]) -> Float[Tensor, "B J W"]:
        batch, joints, width = x.shape
        query, key, value = (
            linear(x).view(batch, joints, self.num_heads, width // self.num_heads).transpose(1, 2)
            for linear in self.linears[:3]
        )
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.num_heads)  # (B, H, J, J)
        attended = scores.softmax(dim=-1) @ value
        return self.linears[3](attended.transpose(1, 2).reshape(batch, joints, width))


class _GraphNet(nn.Module):
    """Feed-forward net on the learned adjacency, normalised by its column sums on both sides."""

    def __init__(self, width: int, num_joints: int) -> None:
        super().__init__()
        self.A_hat = nn.Parameter(torch.eye(num_joints))
        self.gconv1 = nn.ModuleDict({"fc": nn.Linear(width, 2 * width)})
        self.gconv2 = nn.ModuleDict({"fc": nn.Linear(2 * width, width)})

    def forward(self, x: Float[Tensor, "B J W"]) -> Float[Tensor, "B J W"]:
        adjacency = self.A_hat.repeat(len(x), 1, 1)
        scale = (adjacency.sum(dim=1) + 1e-5).rsqrt()  # (B, J)
        mixing = scale[:, :, None] * adjacency * scale[:, None, :]
        hidden = torch.relu(self.gconv1["fc"](torch.bmm(mixing, x)))
        return self.gconv2["fc"](torch.bmm(mixing, hidden))


class _StepEmbedding(nn.Module):
    """[sin(k w) | cos(k w)] and two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.dense = nn.ModuleList((nn.Linear(width, 4 * width), nn.Linear(4 * width, 4 * width)))

    def forward(self, steps: Float[Tensor, " B"]) -> Float[Tensor, "B E"]:
        half = self.width // 2
        index = torch.arange(half, dtype=torch.float32, device=steps.device)
        angles = steps.float()[:, None] * torch.exp(-math.log(10000.0) / (half - 1) * index)
        sinusoid = torch.cat((angles.sin(), angles.cos()), dim=1)
        return self.dense[1](_swish(self.dense[0](sinusoid)))


def _swish(x: Tensor) -> Tensor:
    return x * x.sigmoid()
