import pytest
import torch

from methods.dpmesh.backbone.unet import Backbone
from methods.dpmesh.stable_diffusion.networks import Networks
from scripts.benchmarks.dpmesh import TextbookBackbone
from tests.methods.dpmesh.backbone.test_unet import JOINTS, inputs, wake
from tests.parity.tolerances import assert_close


@torch.no_grad()
@pytest.mark.parametrize("maps", [(8, 16), (8, 16, 32)])
def test_two_passes_compute_what_one_does(maps):
    torch.manual_seed(0)
    backbone = Backbone(JOINTS, maps=maps, lora_rank=4)
    wake(backbone)
    expected = TextbookBackbone(Networks(backbone.unet, None, backbone.controlnet), maps)(*inputs())
    for name, level in backbone(*inputs()).items():
        assert_close(level, expected[name])
