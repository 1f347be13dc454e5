"""HRNet (Sun et al., CVPR 2019; Wang et al., TPAMI 2020): maps of several resolutions, exchanged again and again.

Two networks share a trunk: the one for classification, which ends in 2048 features (CLIFF), and the one for 2-D joints
without its heat-maps, whose maps are brought to the smallest by strided convolutions and put side by side (BEDLAM).
Tensor names are those of the authors' releases, which timm, CLIFF and BEDLAM keep.

Shape letters: B batch, S side of the image in pixels, C channels of the highest resolution, s = S / 32.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from methods.networks.backbones import Backbone, bottlenecks

_MODULES = (1, 4, 3)  # exchanges in the stages of two, three and four resolutions
_BLOCKS = 4  # of each resolution between two exchanges
_HEAD = (32, 64, 128, 256)  # channels of the classification head, before their expansion by 4


class HRNet(Backbone):
    """The trunk: four maps of C, 2 C, 4 C and 8 C channels at S / 4, S / 8, S / 16 and S / 32.

    Args:
        channels: C; 48 for HRNet-W48.
    """

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = [channels * 2**i for i in range(4)]
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = bottlenecks(64, 64, 4, stride=1)
        # The first transition makes two maps of one; the others add the smallest and leave the rest as they are.
        first, second = self.channels[:2]
        self.transition1 = nn.ModuleList((_Step(256, first, stride=1), nn.Sequential(_Step(256, second))))
        self.transition2, self.transition3 = (self._addition(number) for number in (2, 3))
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(*(_Exchange(self.channels[:number]) for _ in range(modules)))
            for number, modules in zip((2, 3, 4), _MODULES, strict=True)
        )

    def maps(self, image: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        """The four maps of an RGB image in [0, 1]."""
        x = F.relu(self.bn1(self.conv1(self._normalised(image))))
        x = self.layer1(F.relu(self.bn2(self.conv2(x))))
        maps = self.stage2([step(x) for step in self.transition1])
        maps = self.stage3([*maps, self.transition2[-1](maps[-1])])
        return self.stage4([*maps, self.transition3[-1](maps[-1])])

    def _addition(self, number: int) -> nn.ModuleList:
        added = nn.Sequential(_Step(self.channels[number - 1], self.channels[number]))
        return nn.ModuleList([*(nn.Identity() for _ in range(number)), added])

    def _start(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class ClassificationHRNet(HRNet):
    """HRNet-WC without its classifier: the maps are widened and added up from the largest to the smallest.

    Args:
        channels: C.
    """

    width = 2048
    classifier = ("classifier.",)

    def __init__(self, channels: int = 48) -> None:
        super().__init__(channels)
        wide = [4 * channels for channels in _HEAD]
        self.incre_modules = nn.ModuleList(
            bottlenecks(inputs, inner, 1, stride=1) for inputs, inner in zip(self.channels, _HEAD, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(
            _Step(inputs, outputs, bias=True) for inputs, outputs in zip(wide, wide[1:], strict=False)
        )
        last = nn.Conv2d(wide[-1], self.width, 1)
        self.final_layer = nn.Sequential(last, nn.BatchNorm2d(self.width), nn.ReLU())
        self._start()

    def map(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 2048 s s"]:
        maps = [widen(x) for widen, x in zip(self.incre_modules, self.maps(image), strict=True)]
        total = maps[0]
        for down, x in zip(self.downsamp_modules, maps[1:], strict=True):
            total = x + down(total)
        return self.final_layer(total)


class PoseHRNet(HRNet):
    """The trunk of the network for 2-D joints, with BEDLAM's strided convolutions in the place of heat-maps.

    Weights of a 2-D pose network fill the trunk but for the last exchange, which there has one output only, and the
    strided convolutions; both are then trained from random numbers, as BEDLAM does it.

    Args:
        channels: C; there are 15 C features.
    """

    classifier = ("final_layer.",)
    may_lack = ("stage4.2.fuse_layers.1.", "stage4.2.fuse_layers.2.", "stage4.2.fuse_layers.3.", "downsample_stage_")

    def __init__(self, channels: int = 48) -> None:
        super().__init__(channels)
        self.width = sum(self.channels)
        self.downsample_stage_1, self.downsample_stage_2, self.downsample_stage_3 = (
            nn.Sequential(*(layer for _ in range(halvings) for layer in _Step(channels, channels)))
            for channels, halvings in zip(self.channels, (3, 2, 1), strict=False)
        )
        self._start()

    def map(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 15*C s s"]:
        first, second, third, last = self.maps(image)
        smaller = self.downsample_stage_1(first), self.downsample_stage_2(second), self.downsample_stage_3(third)
        return torch.cat((*smaller, last), dim=1)


class _Step(nn.Sequential):
    """A 3x3 convolution, normalised, with ReLU unless it is the last of a chain."""

    def __init__(self, inputs: int, outputs: int, stride: int = 2, activated: bool = True, bias: bool = False) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)]
        layers.append(nn.BatchNorm2d(outputs))
        super().__init__(*layers, *([nn.ReLU()] if activated else []))


class _Exchange(nn.Module):
    """Residual blocks at each resolution, then the sum of all resolutions at each."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(_BasicBlock(c) for _ in range(_BLOCKS))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_between(channels, source, target) for source in range(len(channels)))
            for target in range(len(channels))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for target in self.fuse_layers:
            assert isinstance(target, nn.ModuleList)
            total = target[0](maps[0])
            for layer, x in zip(target[1:], maps[1:], strict=True):
                total = total + layer(x)
            fused.append(F.relu(total))
        return fused


class _BasicBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


def _between(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """From one resolution to another; resolution 0 is the highest."""
    if source == target:
        return nn.Identity()
    inputs, outputs = channels[source], channels[target]
    if source > target:
        enlarged = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), enlarged)
    kept = (_Step(inputs, inputs) for _ in range(target - source - 1))
    return nn.Sequential(*kept, _Step(inputs, outputs, activated=False))
