"""HRNet: its published sizes, and the same numbers as timm's from the same weights."""

import pytest
import torch
from torch import nn

from methods.hmr.official import published_parts
from methods.networks.hrnet import ClassificationHRNet, PoseHRNet
from methods.networks.pretrained import load_pretrained
from noise2pose.errors import InputError
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY


def count(network, without=()):
    return sum(value.numel() for name, value in network.named_parameters() if not name.startswith(without))


@pytest.mark.parametrize("channels, millions", [(32, 28.5), (48, 63.6)])
def test_a_pose_net_has_as_many_parameters_as_published(channels, millions):
    with torch.device("meta"):
        network, heat_maps = PoseHRNet(channels), nn.Conv2d(channels, 17, 1)
    assert network.width == 15 * channels
    assert round((count(network, PoseHRNet.may_lack) + count(heat_maps)) / 1e6, 1) == millions


@pytest.mark.parametrize("channels, millions", [(18, 21.30), (48, 77.47)])
def test_a_classification_net_has_as_many_parameters_as_published(channels, millions):
    with torch.device("meta"):
        network, classifier = ClassificationHRNet(channels), nn.Linear(2048, 1000)
    assert round((count(network) + count(classifier)) / 1e6, 2) == millions


@torch.no_grad()
def test_features_are_those_of_timm():
    tensors, meta = read_fixture(PARITY / "cliff_hrnet_w18.safetensors")
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    network = ClassificationHRNet(18).eval()
    network.load_state_dict({key: torch.as_tensor(value) for key, value in weights.items()})
    image = torch.as_tensor(tensors["input/image_u8_hwc"]).permute(2, 0, 1)[None] / 255.0
    assert_close(network.map(image), torch.as_tensor(tensors["output/map"]), 3e-5)
    assert_close(network(image), torch.as_tensor(tensors["output/map"]).mean(dim=(-1, -2)), 3e-5)


@torch.no_grad()
def test_a_pose_net_puts_its_four_maps_side_by_side():
    network = PoseHRNet(4).eval()
    image = torch.rand(2, 3, 64, 96)
    maps, found = network.maps(image), network.map(image)
    assert [tuple(x.shape[1:]) for x in maps] == [(4, 16, 24), (8, 8, 12), (16, 4, 6), (32, 2, 3)]
    assert found.shape == (2, 60, 2, 3) and torch.equal(found[:, 28:], maps[-1])
    last = network.downsample_stage_3
    assert torch.allclose(found[:, 12:28], last[2](last[1](last[0](maps[2]))))


def test_a_2d_network_fills_the_trunk_and_leaves_the_rest(tmp_path):
    """COCO's pose weights have heat-maps, and the last exchange has one output only."""
    network = PoseHRNet(4)
    own = {name: value.clone() for name, value in network.state_dict().items()}
    weights = {name: value + 1 for name, value in own.items() if not name.startswith(PoseHRNet.may_lack)}
    torch.save({**weights, "final_layer.weight": torch.zeros(17, 4, 1, 1)}, tmp_path / "pose.pth")
    load_pretrained(network, nn.Linear(1, 1), str(tmp_path / "pose.pth"), published_parts)
    for name, value in network.state_dict().items():
        assert torch.equal(value, own[name] + (name in weights)), name
    torch.save({key: value for key, value in weights.items() if "stage3" not in key}, tmp_path / "less.pth")
    with pytest.raises(InputError, match="stage3.*is missing"):
        load_pretrained(network, nn.Linear(1, 1), str(tmp_path / "less.pth"), published_parts)
