"""The whole published network, at a small width: nothing of a checkpoint is forgotten, and copies are dropped."""

import pytest
import torch
import yaml

from methods.dpmesh.networks import make_network
from methods.dpmesh.official import REGRESSOR_NAMES, load_dpmesh, method_state
from methods.dpmesh.regressor.pose_heads import VPoserDecoder, VPoserHead
from methods.dpmesh.regressor.regressor import RELEASE, Regressor
from methods.official_weights import published_names
from noise2pose.errors import InputError
from noise2pose.keypoints.heatmaps import heatmaps
from tests.parity.procedural import procedural_state_dict, read_fixture
from tests.places import PARITY, ROOT


def weights_of(name, prefix=""):
    meta = read_fixture(PARITY / f"dpmesh_{name}.safetensors")[1]
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])
    return {prefix + key: torch.as_tensor(value) for key, value in weights.items()}


@pytest.fixture(scope="module")
def checkpoint():
    """As the release saves it."""
    weights = weights_of("unet_controlnet", "backbone.sd_model.")
    weights |= weights_of("vae_encoder", "backbone.sd_model.first_stage_model.")
    weights |= weights_of("fusion_head_small", "backbone.")
    head = VPoserHead(VPoserDecoder(hidden=16), 32, 2)
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 2, "feedforward": 48, "volume_feedforward": 24}
    regressor = Regressor(128, head, 32, **sizes, **RELEASE).state_dict(prefix="regressor.")
    shapes = {official: regressor[ours].shape for ours, official in published_names(regressor, REGRESSOR_NAMES).items()}
    weights |= {key: torch.as_tensor(value) for key, value in procedural_state_dict(shapes).items()}
    context = procedural_state_dict({"kp_lifting.weight": (768, 2), "kp_lifting.bias": (768,)})
    weights |= {key: torch.as_tensor(value) for key, value in context.items()}
    copies = {
        key.replace("sd_model.model.diffusion_model", "unet.unet"): value
        for key, value in weights.items()
        if ".model.diffusion_model." in key
    }
    copies |= {
        key.replace("sd_model.first_stage_model", "encoder_vq"): value
        for key, value in weights.items()
        if ".first_stage_model." in key
    }
    unused = {
        "backbone.sd_model.cond_stage_model.transformer.text_model.final_layer_norm.weight": torch.ones(768),
        "human_model_layer.th_faces": torch.zeros(4, 3, dtype=torch.int64),
        "vposer.vposer.bodyprior_enc_bn1.num_batches_tracked": torch.zeros((), dtype=torch.int64),
    }
    return {"epoch": 1, "network": {f"module.{key}": value for key, value in (weights | copies | unused).items()}}


@torch.no_grad()
def test_a_checkpoint_is_read_whole(checkpoint):
    network = load_dpmesh(checkpoint)
    assert not any(module.training for module in network.modules())
    generator = torch.Generator().manual_seed(0)
    image, joints = torch.rand(1, 3, 256, 256, generator=generator), 32.0 * torch.rand(1, 30, 3, generator=generator)
    joints[..., 2] = (joints[..., 2] > 16.0).float()
    seen = []
    network.backbone.register_forward_hook(lambda _, inputs, output: seen.append((inputs, output)))
    estimate = network(image, joints)
    assert estimate.rotations.shape == (1, 24, 3, 3) and all(part.isfinite().all() for part in estimate)
    (latents, maps, tokens), pyramid = seen[0]
    assert latents.shape == (1, 4, 32, 32)
    assert torch.equal(maps, heatmaps(joints[..., :2], (32, 32), 2.5) * joints[..., 2, None, None])
    weight, bias = (checkpoint["network"][f"module.kp_lifting.{name}"] for name in ("weight", "bias"))
    assert torch.allclose(tokens, joints[..., :2] / 32.0 @ weight.T + bias, atol=1e-6)
    for ours, theirs in zip(estimate, network.head(pyramid), strict=True):
        assert torch.equal(ours, theirs)


def test_other_checkpoints_are_refused(checkpoint):
    weights = checkpoint["network"]
    with pytest.raises(InputError, match=r"backbone.gamma is not known"):
        load_dpmesh(weights | {"module.backbone.gamma": torch.ones(1)})
    with pytest.raises(InputError, match=r"no name begins with backbone.sd_model."):
        load_dpmesh({key: value for key, value in weights.items() if ".sd_model." not in key})
    key = "module.backbone.sd_model.control_model.zero_convs.3.0.weight"
    with pytest.raises(InputError, match=r"control_model.zero_convs.3.0.weight is missing"):
        load_dpmesh({name: value for name, value in weights.items() if name != key})
    narrow = {"module.kp_lifting.weight": torch.zeros(64, 2), "module.kp_lifting.bias": torch.zeros(64)}
    with pytest.raises(InputError, match=r"kp_lifting makes tokens of 64, expected 768"):
        load_dpmesh(weights | narrow)


@pytest.mark.slow
def test_the_parts_have_the_methods_names(checkpoint):
    """Compared with the method at full size, without its memory."""
    adapted = {f"module.{key}": value for key, value in weights_of("unet_lora", "backbone.sd_model.").items()}
    weights = {
        key: value
        for key, value in checkpoint["network"].items()
        if ".sd_model.model.diffusion_model." not in key and ".unet.unet." not in key
    }
    network = load_dpmesh(weights | adapted)
    with pytest.raises(InputError, match=r"widths \(64, 128, 256, 256\), expected \(320, 640, 1280, 1280\)"):
        method_state(network)
    network.backbone.unet.register_to_config(block_out_channels=(320, 640, 1280, 1280))
    state, arguments = method_state(network)
    file = yaml.safe_load((ROOT / "configs" / "methods" / "dpmesh_release.yaml").read_text())["init_args"]
    file = {key: value for key, value in file.items() if key in arguments}  # the rest makes no difference to tensors
    assert {**arguments, "backbone": None, "timestep": None} == {
        **file,
        "lora_rank": 8,
        "backbone": None,
        "timestep": None,
    }
    assert arguments["lora_scope"] == "attn_ff" and arguments["lora_rank"] == 8
    with torch.device("meta"):
        head = VPoserHead(VPoserDecoder())
        settings = {key: arguments[key] for key in ("unet_training", "lora_scope", "lora_rank", "train_controlnet")}
        settings |= {"latent": "release", "timestep": 1, "maps": (8, 16)}
        whole = make_network("diffusion", "sd15", head, 30, True, True, "linear30", settings, True)
    expected = {f"network.{name}": value.ndim for name, value in whole.state_dict().items()}
    layers = {name for name in expected if ".layers." in name and "regressor" in name}  # of which the small one has few
    layers |= {name for name in expected if "regressor.decoder.locate." in name}
    found = {name: value.ndim for name, value in state.items()}
    assert set(found) <= set(expected) and set(expected) - set(found) <= layers
    assert all(expected[name] == number for name, number in found.items())
