"""The released backbone: same numbers from the same weights, and clear refusals of other weights."""

import numpy as np
import pytest
import torch

from methods.dpmesh.official import load_backbone
from methods.dpmesh.stable_diffusion import weights as ldm_weights
from noise2pose.errors import InputError
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.parity.tolerances import assert_close
from tests.places import PARITY


def fixture(name):
    tensors, meta = read_fixture(PARITY / f"dpmesh_{name}.safetensors")
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    weights = {key: torch.as_tensor(value) for key, value in weights.items()}
    return {key: torch.as_tensor(value) for key, value in tensors.items()}, weights


@pytest.fixture(scope="module")
def published():
    """Tensors of the fixture and the state dict of the release's two networks."""
    return fixture("unet_controlnet")


@torch.no_grad()
def test_the_pyramid_is_the_releases(published):
    tensors, weights = published
    in_checkpoint = {f"module.backbone.sd_model.{key}": value.numpy() for key, value in weights.items()}
    copies = {key.replace(".sd_model.model.diffusion_model.", ".unet.unet."): v for key, v in in_checkpoint.items()}
    others = {"module.query.weight": np.zeros((15, 2)), "module.backbone.sd_model.betas": np.zeros(9)}
    whole = {"epoch": 1, "network": {"module.teacher.sd_model.x": np.zeros(1), **in_checkpoint, **copies, **others}}
    backbone = load_backbone(whole, num_heads=8)
    assert not backbone.training and not backbone.controlnet.training
    residuals = []
    backbone.controlnet.register_forward_hook(lambda _, inputs, output: residuals.extend([*output[0], output[1]]))
    levels = backbone(tensors["input/z"], tensors["input/heatmap"], tensors["input/context"])
    assert {name: level.shape[1] for name, level in levels.items()} == backbone.channels
    assert_close(levels["level_4"], tensors["output/level_4"])
    assert_close(levels["level_8"], tensors["output/level_8"])
    assert_close(levels["level_16"][:, :-30:2], tensors["output/level_16__c2"])
    assert_close(levels["level_16"][:, -30:], tensors["output/maps_16"])
    assert_close(levels["level_32"][:, ::4], tensors["output/level_32__c4"])
    # One sample alone and three of them are answered alike.
    again = [torch.cat([tensors[f"input/{key}"], tensors[f"input/{key}"][:1]]) for key in ("z", "heatmap", "context")]
    for number in (1, 3):
        part = backbone(*(value[:number] for value in again))
        assert_close(part["level_8"][0], levels["level_8"][0])
    residuals = residuals[:13]
    for number, residual in enumerate(residuals):
        assert_close(residual[:, ::16, ::4, ::4], tensors[f"output/control_{number}__s"])


@torch.no_grad()
def test_the_noise_predictor_is_stable_diffusions(published):
    tensors, weights = published
    unet = ldm_weights.networks(weights).unet
    noise = unet(tensors["input/z"], torch.tensor([1, 500]), tensors["input/context"]).sample
    assert_close(noise, tensors["output/eps_no_control"])


@torch.no_grad()
def test_lora_is_the_releases(published):
    tensors, weights = fixture("unet_lora")
    control = {key: value for key, value in published[1].items() if key.startswith("control_model.")}
    assert sum(".lora_" in key for key in weights) == 288
    backbone = load_backbone({**weights, **control})
    seen = {}
    assert not any(".lora_" in name and not p.requires_grad for name, p in backbone.named_parameters())
    backbone.unet.up_blocks[3].register_forward_hook(lambda _, inputs, output: seen.update(last=output))
    head = ldm_weights.networks(weights).unet
    for state, key in (("on", "eps"), ("off", "eps_adapters_off")):
        if state == "off":
            backbone.unet.disable_adapters()
        backbone.unet(tensors["input/z"], tensors["input/t"], tensors["input/context"])
        noise = head.conv_out(head.conv_act(head.conv_norm_out(seen["last"])))
        assert_close(noise, tensors[f"output/{key}"], 5e-5)


@torch.no_grad()
def test_latents_are_the_releases(published):
    tensors, weights = fixture("vae_encoder")
    encoder = {f"first_stage_model.{key}": value for key, value in weights.items()}
    backbone = load_backbone({**published[1], **encoder})
    assert_close(backbone.encode(tensors["input/image"]), tensors["output/mode"])
    assert_close(backbone.autoencoder.encode(tensors["input/image"]).latent_dist.parameters, tensors["output/moments"])


def test_other_weights_are_refused_by_name(published):
    weights = dict(published[1])
    weights["model.diffusion_model.input_blocks.99.0.weight"] = torch.zeros(1)
    del weights["model.diffusion_model.middle_block.0.in_layers.0.bias"]
    with pytest.raises(InputError, match=r"input_blocks\.99\.0\.weight is not known.*in_layers\.0\.bias is missing"):
        load_backbone(weights)
    with pytest.raises(InputError, match="no name begins with"):
        load_backbone({"conv.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="no state dict of tensors; it has keys epoch"):
        load_backbone({"epoch": 3})
    with pytest.raises(InputError, match="epoch is of type int, expected a tensor"):
        load_backbone({**published[1], "epoch": 3})
