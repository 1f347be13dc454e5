"""Backbones that DPMesh is compared with (Table 4 of the paper), with the same heat-maps and the same regressor.

As in the paper, the heat-maps are concatenated with early features of the image. The cells of the feature map are those
of the diffusion backbone.

Shape letters: B batch, S side of the image, J joints, F channels and c side of the feature map, E width and s side of
the transformer's tokens, L and M tokens.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.dpmesh.backbone.features import Features, ImageFeatures
from methods.dpmesh.conditions import Conditions
from methods.networks.backbones import ResNet50
from methods.official_weights import load, read_published, state_dict_in
from noise2pose.errors import InputError

_MEAN, _STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # of the images that published vision transformers were trained on
_PATCH = 16  # pixels


class ResNetFeatures(ImageFeatures):
    """ResNet-50 with the heat-maps beside the features of its stem.

    Args:
        num_joints: J.
        width: F.
        cells: c.
    """

    def __init__(self, num_joints: int, width: int, cells: int = 8) -> None:
        super().__init__()
        self.cells = cells
        self.backbone = ResNet50()
        self.early = nn.Sequential(
            nn.Conv2d(64 + num_joints, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
        )
        self.output = nn.Conv2d(self.backbone.width, width, 1)

    def forward(self, image: Float[Tensor, "B 3 S S"], conditions: Conditions) -> Features:
        stem = self.backbone.stem(image)
        maps = _resized(conditions.heatmaps, stem.shape[-1])
        stages = self.backbone.stages(self.early(torch.cat((stem, maps), dim=1)))
        return Features(_resized(self.output(stages[-1]), self.cells), stages[1:])

    def load_pretrained(self, source: str) -> None:
        """Takes ImageNet weights with torchvision's tensor names from a file."""
        _load(self.backbone, Path(source), ("fc.",))


class TransformerFeatures(ImageFeatures):
    """A vision transformer (Dosovitskiy et al., ICLR 2021) with the heat-maps of each patch beside its token.

    Tensor names below `backbone` are timm's, so that published ImageNet weights fit; the paper's is `vit_large_patch16`
    (embedding 1024, depth 24, heads 16).

    Args:
        num_joints: J.
        width: F.
        image_size: S, a multiple of 16.
        embedding: width of the tokens.
        depth: number of blocks.
        num_heads: of the attention.
        cells: c.
    """

    def __init__(
        self,
        num_joints: int,
        width: int,
        image_size: int = 256,
        embedding: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        cells: int = 8,
    ) -> None:
        super().__init__()
        self.cells = cells
        self.backbone = _VisionTransformer(image_size, embedding, depth, num_heads)
        self.early = nn.Linear(embedding + num_joints, embedding)
        nn.init.zeros_(self.early.bias)
        with torch.no_grad():  # training starts from the tokens of the image alone, which published weights expect
            self.early.weight[:, :embedding] = torch.eye(embedding)
        self.output = nn.Conv2d(embedding, width, 1)

    def forward(self, image: Float[Tensor, "B 3 S S"], conditions: Conditions) -> Features:
        patches = self.backbone.patches(image)
        maps = _resized(conditions.heatmaps, patches.shape[-1])
        tokens = self.early(torch.cat((patches, maps), dim=1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        levels = self.backbone(tokens)
        return Features(self.output(_resized(levels[-1], self.cells)), levels)

    def load_pretrained(self, source: str) -> None:
        """Takes weights with timm's tensor names from a file; positions are interpolated to another image size."""
        _load(self.backbone, Path(source), ("head.", "head_dist.", "pre_logits.", "fc_norm."))


class _VisionTransformer(nn.Module):
    def __init__(self, image_size: int, embedding: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, embedding, _PATCH, stride=_PATCH)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embedding))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + (image_size // _PATCH) ** 2, embedding))
        self.blocks = nn.ModuleList(_Block(embedding, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(embedding, eps=1e-6)

    def patches(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B E s s"]:
        """The token of each patch, without its position."""
        mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        return self.patch_embed["proj"]((image - mean) / std)

    def forward(self, patches: Float[Tensor, "B E s s"]) -> list[Float[Tensor, "B E s s"]]:
        """Features after a third, after two thirds and after all blocks."""
        side = patches.shape[-1]
        tokens = torch.cat((self.cls_token.expand(len(patches), -1, -1), patches.flatten(2).mT), dim=1) + self.pos_embed
        kept = {len(self.blocks) // 3, 2 * len(self.blocks) // 3}
        levels = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in kept:
                levels.append(tokens)
        levels.append(self.norm(tokens))
        return [level[:, 1:].mT.unflatten(-1, (side, side)) for level in levels]


class _Block(nn.Module):
    def __init__(self, embedding: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(embedding, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(embedding, 3 * embedding), "proj": nn.Linear(embedding, embedding)})
        self.norm2 = nn.LayerNorm(embedding, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(embedding, 4 * embedding), "fc2": nn.Linear(4 * embedding, embedding)}
        )

    def forward(self, tokens: Tensor) -> Tensor:
        qkv = self.attn["qkv"](self.norm1(tokens)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        tokens = tokens + self.attn["proj"](F.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2))
        return tokens + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(tokens))))


def _resized(maps: Tensor, side: int) -> Tensor:
    """Maps with another side; a smaller one by averages if it divides the old side, else bilinear."""
    if maps.shape[-1] == side:
        return maps
    if maps.shape[-1] % side == 0:
        return F.avg_pool2d(maps, maps.shape[-1] // side)
    return F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)


def _load(network: ResNet50 | _VisionTransformer, path: Path, left_out: tuple[str, ...]) -> None:
    """Fills a network from a file, without the classifier; positions of another image size are interpolated."""
    try:
        weights = state_dict_in(read_published(path), network.state_dict())
        weights = {key: value for key, value in weights.items() if not key.startswith(left_out)}
        if isinstance(network, _VisionTransformer) and "pos_embed" in weights:
            weights["pos_embed"] = _other_grid(weights["pos_embed"], network.pos_embed.shape[1])
        load(network, weights, "this backbone")
    except InputError as error:
        raise InputError(f"model.pretrained: {path}: {error}") from error


def _other_grid(positions: Float[Tensor, "1 L E"], length: int) -> Float[Tensor, "1 M E"]:
    """Position codes interpolated from one square of patches to another; the first code, of the class, stays."""
    if positions.shape[1] == length:
        return positions
    side, wanted = round((positions.shape[1] - 1) ** 0.5), round((length - 1) ** 0.5)
    if side * side != positions.shape[1] - 1:
        raise InputError(f"{positions.shape[1] - 1} positions of patches are not a square")
    square = positions[:, 1:].mT.unflatten(-1, (side, side))
    square = F.interpolate(square, size=(wanted, wanted), mode="bicubic", align_corners=False)
    return torch.cat((positions[:, :1], square.flatten(2).mT), dim=1)
