"""Backbones for comparison: shapes, what they look at, and published weights."""

import pytest
import torch

from methods.dpmesh.backbone.baselines import ResNetFeatures, TransformerFeatures
from methods.dpmesh.conditions import conditions
from methods.networks.backbones import ResNet50
from noise2pose.errors import InputError

SMALL = {"embedding": 32, "depth": 3, "num_heads": 2}


def some_conditions(number=2, joints=17):
    keypoints = torch.cat((200.0 * torch.rand(number, joints, 2), torch.ones(number, joints, 1)), dim=-1)
    return conditions(keypoints, torch.tensor([[100.0, 100.0, 240.0]] * number))


@pytest.mark.parametrize("make", [lambda: ResNetFeatures(17, 48), lambda: TransformerFeatures(17, 48, 64, **SMALL)])
def test_the_answer_has_the_cells_of_the_diffusion_backbone(make):
    torch.manual_seed(0)
    network = make().eval()
    image, here = torch.rand(2, 3, 64, 64), some_conditions()
    answer = network(image, here)
    assert answer.fused.shape == (2, 48, 8, 8) and len(answer.levels) == 3
    without = network(image, here._replace(heatmaps=torch.zeros_like(here.heatmaps)))
    assert not torch.allclose(answer.fused, without.fused)  # the heat-maps are looked at
    answer.fused.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_weights_of_resnet_50_fit(tmp_path):
    published = ResNet50().state_dict() | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(published, tmp_path / "resnet50.pth")
    network = ResNetFeatures(17, 32)
    network.load_pretrained(str(tmp_path / "resnet50.pth"))
    assert torch.equal(network.backbone.conv1.weight, published["conv1.weight"])
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="model.pretrained: .*other.pth: the weights do not fit this backbone"):
        network.load_pretrained(str(tmp_path / "other.pth"))


def test_weights_of_a_vision_transformer_fit_also_at_another_size(tmp_path):
    published = TransformerFeatures(17, 8, 64, **SMALL).backbone.state_dict() | {"head.weight": torch.zeros(10, 32)}
    torch.save(published, tmp_path / "vit.pth")
    same, larger = (TransformerFeatures(17, 8, side, **SMALL) for side in (64, 96))
    for network in (same, larger):
        network.load_pretrained(str(tmp_path / "vit.pth"))
    assert torch.equal(same.backbone.pos_embed, published["pos_embed"])
    assert larger.backbone.pos_embed.shape == (1, 37, 32)
    assert torch.equal(larger.backbone.pos_embed[:, 0], published["pos_embed"][:, 0])


def test_the_transformer_starts_from_what_published_weights_are_for():
    network = TransformerFeatures(17, 8, 64, **SMALL)
    with torch.no_grad():
        network.early.weight[:, 32:] = 0.0
        image, here = torch.rand(1, 3, 64, 64), some_conditions(1)
        plain = network.backbone(network.backbone.patches(image))[-1]
        assert torch.allclose(network(image, here).levels[-1], plain, atol=1e-5)
